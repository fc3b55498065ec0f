"""pydantic's complaints in plain words: what was expected, what was got, which word was probably meant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from edgeproof_configs.errors import did_you_mean
from edgeproof_configs.yaml_source import KeyPath, entry, holds, parse_value

Finding = tuple[KeyPath, str]
"""Where in a recipe, and what is wrong there."""

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "path": "text",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "dict": "a mapping of keys to values",
    "model": "a mapping of keys to values",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "literal": "one of {expected}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}
_TYPES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
}


@dataclass(frozen=True)
class _Place:
    """Where an error lies in the data, and where alternatives are offered if one of them raised it."""

    path: KeyPath
    alternatives_at: KeyPath | None
    missing: str | int | None


def explain(error: ValidationError, data: Any, model: type[BaseModel] | None) -> list[Finding]:
    """Return every problem of a validation in words.

    Args:
        error: what pydantic raised.
        data: the plain data that it looked at.
        model: the model that the data should have been, to know which keys exist.
    """
    located = [(_locate(item["loc"], data, item["type"]), item) for item in error.errors(include_url=False)]
    meant: set[KeyPath] = set()
    findings: list[Finding] = []
    for place, item in located:
        if item["type"] == "extra_forbidden":
            known = list(_fields(_model_at(model, place.path[:-1])))
            message, suggestion = unknown_key(str(place.path[-1]), known)
            meant.add((*place.path[:-1], suggestion))
            findings.append((place.path, message))
    for place, item in located:
        if item["type"] == "missing" and isinstance(place.missing, str):
            key = (*place.path, place.missing)
            if key not in meant:
                findings.append((key, missing_key(_model_at(model, place.path), place.missing)))
    return findings + list(_wrong_values(located))


def unknown_key(key: str, known: Sequence[str]) -> tuple[str, str]:
    """Return the message for a key that does not exist, and the key that was probably meant (or '')."""
    hint = did_you_mean(key, known)
    if hint:
        return f"unknown key.{hint}", hint.split("'")[1]
    allowed = ", ".join(known) if known else "none"
    return f"unknown key, allowed here: {allowed}", ""


def missing_key(model: type[BaseModel] | None, key: str) -> str:
    """Return the message for a key that must be there."""
    field = _fields(model).get(key)
    return f"missing, expected {_describe(field.annotation)}" if field else "missing"


def got(value: Any) -> str:
    """Return a value as it would stand in the recipe, cut to a length that can be read."""
    if value is None:
        return "nothing"
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _wrong_values(located: Sequence[tuple[_Place, Any]]) -> Iterator[Finding]:
    """Merge what the alternatives of one key expected; one that looked deeper than the others wins."""
    groups: dict[KeyPath, list[tuple[_Place, Any]]] = {}
    for place, item in located:
        if item["type"] == "extra_forbidden" or isinstance(place.missing, str):
            continue
        groups.setdefault(place.path if place.alternatives_at is None else place.alternatives_at, []).append(
            (place, item)
        )
    for path, group in groups.items():
        deeper = [(place, item) for place, item in group if len(place.path) > len(path)]
        for place, item in deeper:
            yield place.path, _message([item], place.missing)
        if not deeper:
            yield path, _message([item for _, item in group], group[0][0].missing)


def _message(items: Sequence[Any], missing: str | int | None) -> str:
    first = items[0]
    if "error" in first.get("ctx", {}):
        return str(first["ctx"]["error"])
    if isinstance(missing, int):
        return f"expected a list of at least {missing + 1}, got {got(first['input'])}"
    expected = " or ".join(dict.fromkeys(_expected(item) for item in items))
    return f"expected {expected}, got {got(first['input'])}{_hint(items)}"


def _expected(item: Any) -> str:
    kind = item["type"]
    words = _EXPECTED.get(kind) or _EXPECTED.get(kind.split("_")[0])
    if words is None:
        return f"something else ({item['msg'][0].lower()}{item['msg'][1:]})"
    return words.format(**item.get("ctx", {}))


def _hint(items: Sequence[Any]) -> str:
    value = items[0]["input"]
    offered = "".join(item.get("ctx", {}).get("expected", "") for item in items)
    choices = re.findall(r"'([^']+)'", offered)
    if isinstance(value, int | float):
        text_wanted = str(value) in choices or any(item["type"] == "string_type" for item in items)
        return f' (write it with quotes: "{got(value)}")' if text_wanted else ""
    if not isinstance(value, str):
        return ""
    if any(item["type"] in ("int_type", "float_type", "bool_type") for item in items):
        return " (write it without quotes)" if _is_quoted(value) else ""
    hint = did_you_mean(value.lower(), choices)
    return f".{hint}" if hint else ""


def _is_quoted(value: str) -> bool:
    """Whether a text would be a number, or true or false, if it stood there bare."""
    try:
        return isinstance(parse_value(value), int | float)
    except ValueError:
        return False


def _locate(location: Sequence[str | int], data: Any, kind: str) -> _Place:
    """Split pydantic's location into keys of the data and the names of alternatives that it tried."""
    path: KeyPath = ()
    alternatives_at = None
    for depth, item in enumerate(location):
        if holds(data, item):
            path, data = (*path, item), entry(data, item)
        elif kind == "missing" and depth == len(location) - 1:
            return _Place(path, alternatives_at, item)
        elif alternatives_at is None:
            alternatives_at = path
    return _Place(path, alternatives_at, None)


def _fields(model: type[BaseModel] | None) -> dict[str, Any]:
    return model.model_fields if model else {}


def _model_at(model: type[BaseModel] | None, path: KeyPath) -> type[BaseModel] | None:
    """Follow field names to the nested model at a path."""
    for key in path:
        if isinstance(key, str):
            field = _fields(model).get(key)
            model = next(models_in(field.annotation), None) if field else None
    return model


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation names, the outermost first."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def _describe(annotation: Any) -> str:
    """Return in words what a field holds."""
    if next(models_in(annotation), None):
        return "a list of mappings" if get_origin(annotation) in (list, tuple) else "a mapping"
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(got(value) for value in get_args(annotation))
    simple = _TYPES.get(get_origin(annotation) or annotation)
    if simple:
        return simple
    parts = [_describe(part) for part in get_args(annotation) if part not in (type(None), Ellipsis)]
    return " or ".join(dict.fromkeys(part for part in parts if part)) or "a value"
