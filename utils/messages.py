"""What workers send each other, as bytes that hold data and nothing else: JSON, and the bytes of arrays behind it."""

import json
import sys
from typing import Any

import numpy as np
import tensorflow as tf

_LENGTH = 8  # bytes of the length of the JSON text


def pack(value: Any) -> np.ndarray:
    """`uint8 [n]` that `unpack` makes an equal value of, bit for bit.

    Args:
        value: None, booleans, numbers, text, bytes, NumPy arrays and scalars, tensors with values, and lists, tuples,
            named tuples and dictionaries of them.

    Raises:
        TypeError: there is something else in it.
    """
    buffers: list[bytes] = []
    text = json.dumps(_described(value, buffers)).encode()
    return np.frombuffer(b"".join([len(text).to_bytes(_LENGTH, "little"), text, *buffers]), np.uint8)


def unpack(message: np.ndarray) -> Any:
    """The value that was packed. Named tuples are of classes that this process has loaded; nothing is imported."""
    content = np.ascontiguousarray(message).data.cast("B")
    start = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    return _Reader(content[start:]).value(json.loads(bytes(content[_LENGTH:start])))


def _described(value: Any, buffers: list[bytes]) -> Any:
    """What is said of a value as JSON; bytes are added to `buffers`. All but plain values is a list: kind, content."""
    if isinstance(value, np.ndarray | np.generic | tf.Tensor):
        kind = "tensor" if tf.is_tensor(value) else "array" if isinstance(value, np.ndarray) else "scalar"
        array = np.asarray(value)
        if array.dtype.hasobject or array.dtype.names:
            raise TypeError(f"an array that is sent must be of numbers or text. Received: {array.dtype}")
        # Types beside NumPy's own, such as bfloat16, are known by name alone.
        is_own = np.dtype(array.dtype.str) == array.dtype
        buffers.append(array.tobytes())
        return [kind, array.dtype.str if is_own else array.dtype.name, array.shape, array.nbytes]
    if isinstance(value, bytes):
        buffers.append(value)
        return ["bytes", len(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return ["dict", [[_described(key, buffers), _described(item, buffers)] for key, item in value.items()]]
    if isinstance(value, list | tuple):
        items = [_described(item, buffers) for item in value]
        if hasattr(value, "_fields"):
            return ["named", type(value).__module__, type(value).__qualname__, items]
        return ["tuple" if isinstance(value, tuple) else "list", items]
    raise TypeError(f"what workers send must be data. Received: {type(value).__name__}")


class _Reader:
    """Makes values of descriptions, in the order in which they were described; their bytes come one after another."""

    def __init__(self, content: memoryview):
        self._content, self._place = content, 0

    def value(self, described: Any) -> Any:
        if not isinstance(described, list):
            return described
        kind, *rest = described
        if kind == "dict":
            return {self.value(key): self.value(item) for key, item in rest[0]}
        if kind in ("list", "tuple", "named"):
            items = [self.value(item) for item in rest[-1]]
            return items if kind == "list" else tuple(items) if kind == "tuple" else _named_tuple(*rest[:2])(*items)
        content = self._take(rest[-1])
        if kind == "bytes":
            return bytes(content)
        array = np.frombuffer(content, np.dtype(rest[0])).reshape(rest[1]).copy()
        return array if kind == "array" else array[()] if kind == "scalar" else tf.constant(array)

    def _take(self, size: int) -> memoryview:
        self._place += size
        return self._content[self._place - size : self._place]


def _named_tuple(module: str, name: str) -> type:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_fields")):
        raise TypeError(f"a message must hold named tuples that this program has. Received: {module}.{name}")
    return found
