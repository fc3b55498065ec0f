"""YAML in, plain data out, with the line of every key.

A recipe is data, so only data is read: mappings, lists, text, numbers, true/false and null. Tags, merge
keys, duplicate keys and documents that explode through aliases are refused in words. Plain scalars follow
the YAML 1.2 core schema: `1e-3` is a number, and `no`, `on` and `12:30` are text. So are `.nan` and `.inf`,
since no setting is infinite.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from edgeproof_configs.errors import Problem

MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000
MAX_DEPTH = 50
KeyPath = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_CONSTANTS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WORDING = {
    r"'\\t' that cannot start": "a tab cannot indent: use spaces",
    r"cannot start any token": "a value that begins with a special character needs quotes",
    r"unexpected end of stream": "a quote is not closed",
    r"expected '<document start>'|a single document": "a recipe is one document",
    r"mapping values are not allowed": "unexpected ':', a value that contains ': ' needs quotes",
    r"could not find expected ':'": "a ':' is missing after a key",
    r"expected ',' or '[]}]'": "a ',' or the closing bracket is missing",
    r"expected the node content": "a value is missing",
    r"expected <block end>": "the indentation does not fit the lines above",
}


@dataclass
class YamlDocument:
    """What a YAML text says, where it says it, and what is wrong with it.

    `lines` gives the line of each key and list entry by its path; the path `()` is the document itself.
    """

    plain: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class _UnreadableError(Exception):
    """The text cannot be read any further."""

    def __init__(self, message: str, line: int | None = None):
        super().__init__(message)
        self.message, self.line = message, line


class _Loader(yaml.SafeLoader):
    """Composes nodes, not too deep, and refuses tags, which would ask for something else than plain data."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise _UnreadableError(f"the tag '{tag}' is not allowed: a recipe is plain data", _line(event))
        if self.depth > MAX_DEPTH:
            raise _UnreadableError(f"nested deeper than {MAX_DEPTH} levels", _line(event))
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def parse_yaml(data: bytes, file: str) -> YamlDocument:
    """Read YAML bytes.

    Args:
        data: the bytes of the file.
        file: its name, for the problems.

    Returns:
        The plain data, as far as it could be read, and everything that is wrong with the text itself.
    """
    builder = _Builder(file)
    try:
        node = _compose(_decode(data))
        if node is None:
            raise _UnreadableError("the recipe is empty", 1)
        if not isinstance(node, yaml.MappingNode):
            raise _UnreadableError("a recipe is a mapping of keys to values at its top level", _line(node))
        builder.document.plain = builder.build(node, ())
    except _UnreadableError as error:
        builder.document.plain = None
        builder.problem(error.line, "", error.message)
    return builder.document


def parse_value(text: str) -> Any:
    """Read one YAML value, as given on the command line.

    Raises:
        ValueError: the text is not a YAML value.
    """
    builder = _Builder("")
    try:
        node = _compose(text)
        value = None if node is None else builder.build(node, ())
    except _UnreadableError as error:
        raise ValueError(error.message) from error
    if builder.document.problems:
        raise ValueError(builder.document.problems[0].message)
    return value


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise _UnreadableError(f"the file is larger than {MAX_BYTES // 1024} KB: this is not a recipe")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _UnreadableError(
            f"not UTF-8 text: byte 0x{data[error.start]:02x} cannot stand there; save the file as UTF-8", line
        ) from error


def _compose(text: str) -> Any:
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        code = ord(text[error.position])
        raise _UnreadableError(f"not text: the control character 0x{code:02x}", line) from error
    except yaml.MarkedYAMLError as error:
        problem = ": ".join(filter(None, (error.context, error.problem)))
        unclosed = "end of stream" in problem and error.context_mark
        mark = error.context_mark if unclosed else error.problem_mark or error.context_mark
        message = next((words for pattern, words in _WORDING.items() if re.search(pattern, problem)), problem)
        raise _UnreadableError(f"not YAML: {message}", mark.line + 1 if mark else None) from error


def _line(node: Any) -> int:
    return node.start_mark.line + 1


class _Builder:
    """Turns composed nodes into plain data and notes lines and problems."""

    def __init__(self, file: str):
        self.document = YamlDocument()
        self._file = file
        self._values = self._characters = 0
        self._open: set[int] = set()

    def problem(self, line: int | None, key: str, message: str) -> None:
        self.document.problems.append(Problem(self._file, line, key, message))

    def build(self, node: Any, path: KeyPath) -> Any:
        """Return the plain data of a node."""
        self._values += 1
        self._characters += len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        if self._values > MAX_VALUES or self._characters > MAX_BYTES:
            raise _UnreadableError(
                "aliases expand to more than a recipe can hold: write the values out", _line(node)
            )
        self.document.lines.setdefault(path, _line(node))
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self._open:
            raise _UnreadableError("an alias contains itself", _line(node))
        self._open.add(id(node))
        try:
            return self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._list(node, path)
        finally:
            self._open.discard(id(node))

    def _list(self, node: Any, path: KeyPath) -> list[Any]:
        return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: Any, path: KeyPath) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(line, dotted(path), "a key is a word, not a list or a mapping")
                continue
            key = key_node.value
            key_path = (*path, key)
            if key == "<<" and key_node.style is None:
                self.problem(line, dotted(path), "merge keys (<<) are not allowed: write the keys out")
                continue
            if key in plain:
                first = self.document.lines[key_path]
                self.problem(line, dotted(key_path), f"duplicate key: it stands on line {first} already")
                continue
            self.document.lines[key_path] = line
            plain[key] = self.build(value_node, key_path)
        return plain


def _scalar(node: Any) -> Any:
    text = node.value
    if node.style is not None:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text) and len(text) < 20:
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 16)
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def holds(data: Any, key: object) -> bool:
    """Return whether plain data has an entry at a key of a mapping or an index of a list."""
    if isinstance(data, list):
        return isinstance(key, int) and 0 <= key < len(data)
    return isinstance(data, dict) and key in data


def entry(data: Any, key: object) -> Any:
    """Return the entry at a key of a mapping or an index of a list."""
    return data[key]


def dotted(path: KeyPath) -> str:
    """Return a key path in words: `losses.0.weight`."""
    return ".".join(map(str, path))
