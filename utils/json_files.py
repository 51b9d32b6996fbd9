"""JSON files of ours as they are read back: an object, or one clear reason why it is none."""

import json
import os
from pathlib import Path
from typing import Any, NoReturn

_MOST_DIGITS = 300  # of a whole number, which so is finite as a float too


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """The object in a file that `utils.files.write_json` wrote.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: it is damaged; the message says how.
    """
    return parse_json(Path(path).read_bytes())


def parse_json(text: str | bytes, *, only_finite: bool = True) -> dict[str, Any]:
    """The object that `text` holds.

    Args:
        only_finite: whether NaN and infinity, which JSON does not have but Python writes, are damage.

    Raises:
        ValueError: it holds something else, or is no JSON.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        numbers: dict[str, Any] = {"parse_constant": _refuse_constant, "parse_float": _finite} if only_finite else {}
        value = json.loads(text, object_pairs_hook=_once, parse_int=_whole, **numbers)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError(f"it must hold names and values. Received: {type(value).__name__}")
    return value


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"{text[:40]}... is too large a number")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        _refuse_constant(text)
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is no finite number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a name twice")
    return found
