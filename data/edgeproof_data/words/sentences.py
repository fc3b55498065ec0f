"""From classes to labels that are all different, and the sentences about each."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeproof_configs.errors import DataError
from edgeproof_data.paths import some_of
from edgeproof_data.prompts import clean_name, prompts_for
from edgeproof_data.words.classes import ClassWords

MOST_TOKENS = 77
"""CLIP's context; two of these mark start and end."""


@dataclass(frozen=True)
class Distinct:
    """Classes whose names are all different.

    Attributes:
        classes: in the order given.
        renamed: old name and new name of those that got a hint.
        shared: synonyms that several classes had, and none has now.
    """

    classes: list[ClassWords]
    renamed: list[tuple[str, str]]
    shared: list[str]


def told_apart(classes: Sequence[ClassWords], source: Path | None = None) -> Distinct:
    """Return the classes with different names: two that share one get a hint, as in `crane (wading bird)`.

    The hint is what the class is a kind of, or else a synonym that no other class has. Synonyms that are
    another class's name, or that several classes have, would pull classes together and are left out.

    Args:
        classes: in the order of their source.
        source: where they stand, for the error.

    Raises:
        DataError: two classes share a name and nothing tells them apart.
    """
    counts = Counter(one.name for one in classes)
    words = Counter(word for one in classes for word in one.words)
    found, renamed, shared = [], [], set()
    for one in classes:
        own = tuple(word for word in one.synonyms if words[word] == 1)
        shared |= set(one.synonyms) - set(own)
        if counts[one.name] == 1:
            found.append(replace(one, synonyms=own))
            continue
        hint = one.hint or next(iter(own), "")
        label = f"{one.name} ({hint})" if hint else one.name
        found.append(replace(one, name=label, synonyms=own))
        renamed.append((one.name, label))
    twice = [name for name, count in Counter(one.name for one in found).items() if count > 1]
    if twice:
        raise DataError(
            f"several classes are called the same, and nothing tells them apart: {some_of(twice)}",
            where=source,
            fix="delete what is there twice, or say what each is: a csv label,hint with crane,wading bird",
        )
    return Distinct(found, renamed, sorted(shared))


def sentences(
    classes: Sequence[ClassWords], templates: Sequence[str], *, synonyms: bool = True, articles: bool = False
) -> dict[str, list[str]]:
    """Return the sentences about each label: every template with every word for it, and its descriptions.

    Args:
        classes: with different names.
        templates: with `{}` where the word belongs.
        synonyms: whether further words for a class are used.
        articles: whether `a {}` becomes `an {}` before a vowel.
    """
    found: dict[str, list[str]] = {}
    for one in classes:
        words = one.words if synonyms else (one.name,)
        texts = [text for word in words for text in _filled(word, templates, articles)]
        found[one.name] = list(dict.fromkeys([*texts, *one.described]))
    return found


def with_descriptions(classes: Sequence[ClassWords], file: Path) -> list[ClassWords]:
    """Return the classes with sentences of a JSON file, `{"name": ["sentence", ...]}` (CuPL, 2209.03320).

    Raises:
        DataError: it is not such a file, or names a class that there is not.
    """
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("there is no such file of descriptions", where=file) from None
    except (UnicodeDecodeError, ValueError) as error:
        raise DataError(f"not a readable JSON file: {error}", where=file) from error
    good = isinstance(plain, dict) and all(
        isinstance(texts, list) and all(isinstance(text, str) and text.strip() for text in texts)
        for texts in plain.values()
    )
    if not good:
        raise DataError('expected {"class name": ["sentence", ...]}', where=file)
    described = {clean_name(name): tuple(text.strip() for text in texts) for name, texts in plain.items()}
    unknown = [name for name in described if name not in {one.name for one in classes}]
    if unknown:
        raise DataError(f"descriptions of classes that there are not: {some_of(unknown)}", where=file)
    return [replace(one, described=described.get(one.name, ())) for one in classes]


def too_long(found: dict[str, list[str]]) -> list[str]:
    """Return the sentences that have more than CLIP's 77 tokens even if every word were only one."""
    return [
        text
        for texts in found.values()
        for text in texts
        if len(re.findall(r"\w+|[^\w\s]", text)) + 2 > MOST_TOKENS
    ]


def _filled(word: str, templates: Sequence[str], articles: bool) -> list[str]:
    if articles and re.match(r"[aeiouAEIOU]", word):
        templates = [re.sub(r"\b([aA]) \{\}", r"\1n {}", template) for template in templates]
    return prompts_for(word, templates)
