"""Strict YAML: text becomes plain data with the line of every key and value; nothing is executed or overwritten."""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from compressors.schedule_problems import Place, Problem, received
from utils.errors import InputError

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000  # with each alias counted as all that it stands for
MAX_DEPTH = 50
MAX_NUMBER = 100  # characters

_TAG = "tag:yaml.org,2002:"
_SCALARS = {f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "str")}
_AS_TEXT = {f"{_TAG}timestamp", f"{_TAG}value"}  # dates are no values here
SCALAR, LIST, MAPPING, MERGE_KEY = "scalar", "list", "mapping", "merge key"
_COLLECTIONS = {LIST: f"{_TAG}seq", MAPPING: f"{_TAG}map"}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document(NamedTuple):
    """Plain data, the line of each place in it, and what is wrong with it as YAML.

    In the mappings under a key of `number_keyed` whole numbers are keys too; they become text.
    """

    data: Any
    lines: dict[Place, int]
    problems: list[Problem]
    number_keyed: Collection[str] = ()


class _Node(NamedTuple):
    """A value where it is written.

    `value` is plain for a SCALAR, nodes for a LIST, `_Entry`s for a MAPPING. `size` and `depth` count the node and all
    in it, aliases as what they stand for. A `complaint` stands in place of a value that cannot be read.
    """

    kind: str
    value: Any
    line: int
    size: int = 1
    depth: int = 1
    complaint: str = ""


class _Entry(NamedTuple):
    key: _Node
    line: int  # of the key, which may be an alias
    node: _Node


class _Refused(Exception):
    """The file as a whole is no document of ours: a line, if known, and a sentence."""


def read_document(
    path: str | Path,
    number_keyed: Collection[str] = (),
    max_bytes: int = MAX_BYTES,
    max_values: int = MAX_VALUES,
) -> Document:
    """The only YAML document of a file.

    Duplicate keys, keys that are not text, tags that make objects, and numbers that are not finite are problems at
    their place. Aliases and merge keys (`<<`) are read.

    Raises:
        InputError: there is no such file, it is too large, not UTF-8, empty, no YAML, or goes beyond a limit.
    """
    text = _text(Path(path), max_bytes)
    try:
        root = _Composer(text, max_values).root()
    except _Refused as refused:
        line, sentence = refused.args
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, sentence = mark and mark.line + 1, f"not YAML: {error.problem or error.context}"
        if line and "\t" in "".join(text.split("\n")[line - 1 : line]):
            sentence += "; the line has a tab, where only spaces may indent"
    except yaml.YAMLError as error:
        line, sentence = None, f"not YAML: {str(error).splitlines()[0]}"
    else:
        document = Document(None, {}, [], number_keyed)
        return document._replace(data=_plain(root, (), document))
    raise InputError(f"{path}: 1 error\n  {f'line {line}: ' if line else ''}{sentence}")


def _text(path: Path, max_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path.absolute()} cannot be read: {reason}") from None
    if len(content) > max_bytes:
        raise InputError(f"{path} must be at most {max_bytes:,} bytes long")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path} must be UTF-8 text; line {line} is not") from None
    if not text.strip():
        raise InputError(f"{path} is empty")
    return text


class _Composer:
    """Makes nodes of the parser's events, within the limits; aliases become the nodes they stand for."""

    def __init__(self, text: str, max_values: int):
        self._loader, self._max_values = _Loader(text), max_values
        self._anchors: dict[str | None, _Node | None] = {}  # None: it is not complete yet
        self._count = 0

    def root(self) -> _Node:
        try:
            self._next()  # the stream's start
            if isinstance(self._next(), yaml.StreamEndEvent):
                raise _Refused(None, "it is empty")
            root = self._node(self._next(), 1)
            self._next()  # the document's end
            if not isinstance(after := self._next(), yaml.StreamEndEvent):
                raise _Refused(_line(after), "a second document begins; one is allowed")
            return root
        finally:
            self._loader.dispose()

    def _next(self) -> yaml.Event:
        return self._loader.get_event()

    def _node(self, event: yaml.Event, depth: int) -> _Node:
        if isinstance(event, yaml.AliasEvent):
            node = self._anchors.get(event.anchor)
            if node is None:
                where = "inside of what it stands for" if event.anchor in self._anchors else "before its anchor"
                raise _Refused(_line(event), f"the alias *{event.anchor} is used {where}")
            self._count_in(node.size, depth + node.depth - 1, event)
            return node
        self._count_in(1, depth, event)
        assert isinstance(event, yaml.NodeEvent)
        if event.anchor:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(event, depth)
        else:
            assert isinstance(event, yaml.MappingStartEvent)
            node = self._mapping(event, depth)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _count_in(self, size: int, depth: int, event: yaml.Event) -> None:
        self._count += size
        if self._count > self._max_values:
            raise _Refused(
                _line(event), f"there must be at most {self._max_values:,} values, aliases counted as their content"
            )
        if depth > MAX_DEPTH:
            raise _Refused(_line(event), f"values must be nested at most {MAX_DEPTH} deep")

    def _list(self, start: yaml.SequenceStartEvent, depth: int) -> _Node:
        items = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return _collection(LIST, items, items, start)

    def _mapping(self, start: yaml.MappingStartEvent, depth: int) -> _Node:
        entries = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            entries.append(_Entry(key, _line(event), self._node(self._next(), depth + 1)))
        return _collection(MAPPING, entries, [node for entry in entries for node in (entry.key, entry.node)], start)

    def _scalar(self, event: yaml.ScalarEvent) -> _Node:
        """The value of a scalar by the rules of YAML 1.1."""
        line, tag = _line(event), event.tag
        if tag in (None, "!"):
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
            if tag == f"{_TAG}merge":
                return _Node(MERGE_KEY, event.value, line)
            tag = f"{_TAG}str" if tag in _AS_TEXT else tag
        if tag not in _SCALARS:
            return _Node(SCALAR, None, line, complaint=_say_tag(tag))
        try:
            if tag != f"{_TAG}str" and len(event.value) > MAX_NUMBER:
                raise ValueError("it would take long to read")
            value = self._loader.construct_object(yaml.ScalarNode(tag, event.value))
        except (ValueError, LookupError, yaml.YAMLError):
            complaint = f"must be a value of the type {tag.removeprefix(_TAG)}. Received: {received(event.value)}"
            return _Node(SCALAR, None, line, complaint=complaint)
        if isinstance(value, float) and not math.isfinite(value):
            return _Node(SCALAR, None, line, complaint=f"must be a finite number. Received: {event.value}")
        return _Node(SCALAR, value, line)


def _collection(kind: str, value: list, inner: list[_Node], start: yaml.CollectionStartEvent) -> _Node:
    size, depth = 1 + sum(node.size for node in inner), 1 + max((node.depth for node in inner), default=0)
    complaint = "" if start.tag in (None, "!", _COLLECTIONS[kind]) else _say_tag(start.tag)
    return _Node(kind, value, _line(start), size, depth, complaint)


def _plain(node: _Node, place: Place, document: Document) -> Any:
    """The node's data; lines and problems are put into `document`."""
    document.lines.setdefault(place, node.line)
    if node.complaint:
        document.problems.append(Problem(place, node.complaint, node.line, is_unread=True))
        return None
    if node.kind == LIST:
        return [_plain(item, (*place, at), document) for at, item in enumerate(node.value)]
    if node.kind != MAPPING:
        return node.value
    data = {}
    for key, (line, value) in _entries(node, place, document).items():
        document.lines[*place, key] = line
        data[key] = _plain(value, (*place, key), document)
    return data


def _entries(node: _Node, place: Place, document: Document) -> dict[str, tuple[int, _Node]]:
    """Key -> its line and value: the mapping's own entries, then those of `<<` that it lacks."""
    own: dict[str, _Entry] = {}
    for entry in node.value:
        key, name = entry.key, entry.key.value
        if type(name) is int and place and place[-1] in document.number_keyed:
            name = str(name)
        if key.kind in (LIST, MAPPING) or key.complaint or not isinstance(name, str):
            name = f"a {key.kind}" if key.kind in (LIST, MAPPING) else received(name)
            sentence = key.complaint or f"a key must be text, in quotes if need be. Received: {name}"
        elif name in own:
            sentence = f"is given twice, first in line {own[name].line}"
        else:
            own[name] = entry
            continue
        document.lines.setdefault((*place, name), entry.line)
        document.problems.append(Problem((*place, name), sentence, entry.line))
    merged: dict[str, tuple[int, _Node]] = {}
    for name in [name for name, entry in own.items() if entry.key.kind == MERGE_KEY]:
        _, line, value = own.pop(name)
        for source in value.value if value.kind == LIST else [value]:
            if source.kind != MAPPING or source.complaint:
                sentence = "must be an alias of a mapping, or a list of them"
                document.problems.append(Problem((*place, name), sentence, line))
            else:
                # What is wrong in there is told where it stands.
                merged = _entries(source, place, Document(None, {}, [], document.number_keyed)) | merged
    return {name: (entry.line, entry.node) for name, entry in own.items()} | {
        name: found for name, found in merged.items() if name not in own
    }


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.line + 1


def _say_tag(tag: str) -> str:
    return f"must be plain: text, numbers, true or false, null, lists and mappings. Received: {tag.replace(_TAG, '!!')}"
