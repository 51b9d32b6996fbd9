"""Damaged and strange input, drawn with a seed: bytes of any file, and values of JSON and YAML."""

import copy
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS = (-1, 0, 1, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 1e308, 5e-324, -0.0)
WORDS = ("", " ", "nan", "null", "../..", "a" * 300, "\x00", "\ud800", "\u202e", "\x1b[31m", "<b>", "é", "%s", "{0}")
_NUMBER = re.compile(rb"\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def random_bytes(rng: random.Random) -> bytes:
    """Up to 300 bytes of noise, sometimes of few kinds."""
    return bytes(rng.choices(range(256) if rng.random() < 0.5 else b"\x00\xff{}[]:,\n\"'1 ", k=rng.randrange(300)))


def mutated(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """One of the sound `samples` with one to four changes; now and then nothing but noise."""
    if rng.random() < 0.03:
        return random_bytes(rng)
    content = bytearray(rng.choice(samples))
    for _ in range(rng.choice((1, 1, 2, 4))):
        content = bytearray(rng.choice(_CHANGES)(rng, content, samples))
    return bytes(content)


def _block(rng: random.Random, content: bytearray) -> tuple[int, int]:
    """Where a block begins and ends, most of them short."""
    first = rng.randrange(len(content) + 1)
    return first, min(len(content), first + rng.choice((1, 2, 4, 8, 16, 100, 1000)))


def _flip(rng: random.Random, content: bytearray, samples: Sequence[bytes]) -> bytearray:
    for _ in range(rng.choice((1, 1, 8))):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def _set(rng: random.Random, content: bytearray, samples: Sequence[bytes]) -> bytearray:
    first, last = _block(rng, content)
    content[first:last] = bytes([rng.choice((0, 255, 10, 32, rng.randrange(256)))]) * (last - first)
    return content


def _cut(rng: random.Random, content: bytearray, samples: Sequence[bytes]) -> bytearray:
    return content[: rng.randrange(len(content) + 1)]


def _delete(rng: random.Random, content: bytearray, samples: Sequence[bytes]) -> bytearray:
    first, last = _block(rng, content)
    return content[:first] + content[last:]


def _repeat(rng: random.Random, content: bytearray, samples: Sequence[bytes]) -> bytearray:
    first, last = _block(rng, content)
    return content[:last] + content[first:last] * rng.choice((1, 1, 20)) + content[last:]


def _swap(rng: random.Random, content: bytearray, samples: Sequence[bytes]) -> bytearray:
    (first, last), (third, fourth) = sorted((_block(rng, content), _block(rng, content)))
    if last > third:
        return content
    return content[:first] + content[third:fourth] + content[last:third] + content[first:last] + content[fourth:]


def _splice(rng: random.Random, content: bytearray, samples: Sequence[bytes]) -> bytearray:
    other = rng.choice(samples)
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]


def _insert(rng: random.Random, content: bytearray, samples: Sequence[bytes]) -> bytearray:
    first = rng.randrange(len(content) + 1)
    return content[:first] + random_bytes(rng)[: rng.choice((1, 4, 300))] + content[first:]


def _binary_number(rng: random.Random, content: bytearray, samples: Sequence[bytes]) -> bytearray:
    width = rng.choice((1, 2, 4, 8))
    value = rng.choice([number for number in NUMBERS if isinstance(number, int)]) % (1 << 8 * width)
    first = rng.randrange(len(content) + 1)
    content[first : first + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return content


def _written_number(rng: random.Random, content: bytearray, samples: Sequence[bytes]) -> bytearray:
    found = list(_NUMBER.finditer(content))
    if not found:
        return _flip(rng, content, samples)
    first, last = rng.choice(found).span()
    written = rng.choice((*map(repr, NUMBERS), "9" * 5000, "nan", "1e999", "-", "0x1", "true"))
    return content[:first] + written.encode() + content[last:]


_CHANGES: tuple[Callable[[random.Random, bytearray, Sequence[bytes]], bytearray], ...] = (
    _flip,
    _set,
    _cut,
    _delete,
    _repeat,
    _swap,
    _splice,
    _insert,
    _binary_number,
    _written_number,
)


def strange_value(rng: random.Random) -> Any:
    """What hardly anything expects; all of it is JSON but for infinity and NaN."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(NUMBERS)
    if kind == 1:
        return rng.choice(WORDS)
    if kind == 2:
        return rng.choice((None, True, False, 0.5, float("nan"), float("inf"), -float("inf"), 10**400))
    if kind == 3:
        return [strange_value(rng) for _ in range(rng.randrange(4))]
    if kind == 4:
        return {rng.choice(WORDS): strange_value(rng) for _ in range(rng.randrange(3))}
    value: Any = rng.choice((0, [], {}))
    for _ in range(rng.choice((3, 60))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def changed_value(rng: random.Random, value: Any) -> Any:
    """A copy of plain data in which one to three places are another."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _changed_once(rng, value)
    return value


def _changed_once(rng: random.Random, value: Any) -> Any:
    places = list(_places(value, ()))
    place = rng.choice(places)
    if not place:
        return strange_value(rng) if rng.random() < 0.3 else value
    parent = _at(value, place[:-1])
    key = place[-1]
    kind = rng.randrange(7)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice(WORDS)] = parent.pop(key)
    elif kind == 2:
        parent[key] = copy.deepcopy(_at(value, rng.choice(places)))
    elif kind == 3 and isinstance(parent, dict):
        parent[rng.choice(("unknown", *WORDS))] = strange_value(rng)
    elif kind == 4 and isinstance(parent, list):
        parent[key:key] = [copy.deepcopy(parent[key])] * rng.choice((1, 30))
    elif kind == 5:
        parent[key] = [parent[key]]
    else:
        parent[key] = strange_value(rng)
    return value


def _places(value: Any, place: tuple) -> list[tuple]:
    """The place of the value and of all in it, as steps from the outermost."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(inner for key, part in items for inner in _places(part, (*place, key)))]


def _at(value: Any, place: tuple) -> Any:
    for step in place:
        value = value[step]
    return value


def json_file(rng: random.Random, value: Any) -> bytes:
    """A file of JSON that says something else than `value`, or is none."""
    kind = rng.randrange(12)
    text = json.dumps(changed_value(rng, value) if kind > 1 else value, indent=rng.choice((None, 2)))
    if kind == 2:
        no_number = rng.choice(("NaN, ", "1e999, ", "-Infinity, ", "9" * 5000 + ", "))
        text = re.sub(r'("\w+": )', r"\g<1>" + no_number, text, count=1)
    if kind == 3:
        text = text.replace("{", '{"seed": 1, "seed": 2, ', 1)
    if kind == 4:
        text = rng.choice(("[", '{"a":')) * rng.choice((100, 100_000)) + text
    if kind == 5:
        before, after = rng.choice(("\ufeff", "\x00", "//", "")), rng.choice(("", "{}", "\x00", ","))
        text = before + text.replace("\n", "\r\n") + after
    content = text.encode("utf-8", "surrogatepass")
    if kind == 6:
        content = text.encode("utf-16", "surrogatepass")
    return mutated(rng, [content]) if kind in (0, 1, 7) else content
