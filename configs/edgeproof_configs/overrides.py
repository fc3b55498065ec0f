"""`--set a.b=value`: change a recipe from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeproof_configs.errors import Problem
from edgeproof_configs.yaml_source import KeyPath, dotted, entry, holds, parse_value

SET = "--set"


def apply_overrides(plain: dict[str, Any], overrides: Sequence[str]) -> tuple[list[KeyPath], list[Problem]]:
    """Write each `a.b=value` into `plain`; list items are addressed by their index, `losses.0.weight=2`.

    Keys that do not exist are written as well: validation knows better which were meant.

    Returns:
        The paths that were set, and what is wrong with the overrides themselves.
    """
    paths: list[KeyPath] = []
    problems: list[Problem] = []
    for text in overrides:
        key, equals, value_text = text.partition("=")
        words = key.strip().split(".")
        if not equals or not all(words):
            problems.append(Problem(SET, None, text, "expected key=value, for example train.epochs=3"))
            continue
        try:
            paths.append(_assign(plain, words, parse_value(value_text)))
        except ValueError as error:
            problems.append(Problem(SET, None, key.strip(), str(error)))
    return paths, problems


def _assign(plain: dict[str, Any], words: list[str], value: Any) -> KeyPath:
    """Set one value and return its path.

    Raises:
        ValueError: the path leads through something that has no keys, or past the end of a list.
    """
    place: Any = plain
    path: KeyPath = ()
    for depth, word in enumerate(words):
        key = _key(place, word, path)
        path = (*path, key)
        inside = entry(place, key) if holds(place, key) else None
        last = depth == len(words) - 1
        if last or inside is None:
            inside = value if last else {}
            _put(place, key, inside)
        place = inside
    return path


def _key(place: Any, word: str, path: KeyPath) -> str | int:
    where = dotted(path)
    if isinstance(place, dict):
        return word
    if not isinstance(place, list):
        raise ValueError(f"{where} is {place!r} and has no key '{word}'")
    if not word.isdigit() or int(word) > len(place):
        raise ValueError(f"{where} is a list: expected an index from 0 to {len(place)}, got '{word}'")
    return int(word)


def _put(place: Any, key: str | int, value: Any) -> None:
    target: Any = place
    if isinstance(place, list) and key == len(place):
        place.append(value)
    else:
        target[key] = value
