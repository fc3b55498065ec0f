"""Plain data as readable YAML, with a comment behind each value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from edgeproof_configs.yaml_source import KeyPath, dotted

_BARE = re.compile(r"[A-Za-z/~][A-Za-z0-9_./~-]*( [A-Za-z0-9_./-]+)*")
_RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"}
COMMENT_COLUMN = 48


def to_yaml(plain: Mapping[str, Any], notes: Mapping[str, str] | None = None) -> str:
    """Return block-style YAML that reads back as the same data.

    Args:
        plain: JSON-able data.
        notes: a comment for a value, by its dotted key.
    """
    notes = notes or {}
    rows = list(_rows(plain, (), ""))
    width = min(max((len(text) for text, _ in rows), default=0), COMMENT_COLUMN)
    lines = [f"{text:<{width}}  # {notes[key]}" if key in notes else text for text, key in rows]
    return "\n".join(lines) + "\n"


def _rows(value: Any, path: KeyPath, indent: str) -> Iterator[tuple[str, str]]:
    """Yield each line and the dotted key of the value that stands on it."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _entry(f"{indent}{_scalar(key)}:", item, (*path, key), indent + "  ")
        return
    for index, item in enumerate(value):
        if isinstance(item, Mapping) and item:
            rows = list(_rows(item, (*path, index), indent + "  "))
            yield f"{indent}- {rows[0][0].lstrip()}", rows[0][1]
            yield from rows[1:]
        else:
            yield from _entry(f"{indent}-", item, (*path, index), indent + "  ")


def _entry(head: str, item: Any, path: KeyPath, indent: str) -> Iterator[tuple[str, str]]:
    parts = item if isinstance(item, list) else [item]
    if item and any(isinstance(part, Mapping) for part in parts):
        yield head, ""
        yield from _rows(item, path, indent)
    else:
        yield f"{head} {_flow(item)}", dotted(path)


def _flow(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_flow(item) for item in value)}]"
    return "{}" if isinstance(value, Mapping) else _scalar(value)


def _scalar(value: Any) -> str:
    """Return a scalar that every YAML reader, old or new, takes for the same value."""
    if isinstance(value, str):
        bare = _BARE.fullmatch(value) and value.lower() not in _RESERVED
        return value if bare else _quoted(value)
    if isinstance(value, float):
        mantissa, exponent, power = repr(value).partition("e")
        return (mantissa if "." in mantissa else f"{mantissa}.0") + exponent + power
    return "null" if value is None else json.dumps(value)


def _quoted(text: str) -> str:
    """Return a text in double quotes, with an escape for every character that cannot be seen."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in quoted)
