"""Class names as words, and the sentences that a text tower reads about them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from edgeproof_configs.errors import DataError, did_you_mean
from edgeproof_data.paths import resolve_path, some_of
from edgeproof_data.templates import TEMPLATES

__all__ = [
    "TEMPLATES",
    "clean_name",
    "prompts_for",
    "read_labels",
    "read_prompts",
    "read_templates",
    "text_lines",
]


def clean_name(name: str) -> str:
    """Return a class name as words: `stop_sign` becomes `stop sign`."""
    return " ".join(name.replace("_", " ").split())


def prompts_for(name: str, templates: Sequence[str]) -> list[str]:
    """Return one prompt a template, with the class name in the place of `{}`."""
    return [template.replace("{}", name) for template in templates]


def read_templates(value: str, root: Path | None = None) -> list[str]:
    """Return the templates of a built-in set (a key of `TEMPLATES`) or of a file with one a line.

    Raises:
        DataError: neither a known set nor a file; a line without `{}`.
    """
    if value in TEMPLATES:
        return list(TEMPLATES[value])
    try:
        file = resolve_path(value, root)
    except DataError as error:
        raise DataError(
            f"'{value}' is neither a template set nor a file.{did_you_mean(value, list(TEMPLATES))}",
            where=error.where,
            fix=f"use one of {', '.join(TEMPLATES)}, or a file with one template a line",
        ) from error
    templates = text_lines(file)
    wrong = [f"line {number}" for number, line in enumerate(templates, 1) if "{}" not in line]
    if wrong:
        raise DataError(
            f"templates without a place for the class name: {some_of(wrong)}",
            where=file,
            fix="write {} where the name belongs, as in: a photo of a {}.",
        )
    return templates


def read_labels(path: Path) -> list[str]:
    """Return the class names of a file with one a line, cleaned.

    Raises:
        DataError: the file is missing, empty or not UTF-8; a line is blank; two lines are the same class.
    """
    names = [clean_name(line) for line in text_lines(path)]
    first: dict[str, int] = {}
    doubles = []
    for number, name in enumerate(names, 1):
        if name in first:
            doubles.append(f"'{name}' (lines {first[name]} and {number})")
        first.setdefault(name, number)
    if doubles:
        raise DataError(
            f"the same class twice: {some_of(doubles)}", where=path, fix="keep one line for each class"
        )
    return names


def read_prompts(path: Path) -> dict[str, list[str]]:
    """Return the texts that stand for each label, in the order of the file.

    A csv has a row `label,prompt` for each text. Of any other file each line is a label and its only text.

    Raises:
        DataError: the file is missing, empty or not UTF-8; a column is missing, a row is not complete; a
            line, or a text of a label, is there twice.
    """
    if path.suffix.lower() != ".csv":
        return {name: [name] for name in read_labels(path)}
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            lacking = [name for name in ("label", "prompt") if name not in (reader.fieldnames or ())]
            if lacking:
                raise DataError(
                    f"no column {' and '.join(lacking)}",
                    where=f"{path}:1",
                    fix="the first line must be: label,prompt",
                )
            rows = [(reader.line_num, row["label"] or "", row["prompt"] or "") for row in reader]
    except FileNotFoundError:
        raise DataError("there is no such file", where=path, fix="correct the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError("this is not a csv file in UTF-8", where=path, fix="save it as UTF-8") from error
    found: dict[str, list[str]] = {}
    for line, label, prompt in rows:
        name, text = clean_name(label), prompt.strip()
        if not name or not text or text in found.get(name, ()):
            what = "the same prompt again" if name and text else "a row without label or prompt"
            raise DataError(what, where=f"{path}:{line}", fix="delete the row or complete it")
        found.setdefault(name, []).append(text)
    if not found:
        raise DataError("this file is empty", where=path, fix="write one row for each prompt")
    return found


def text_lines(path: Path) -> list[str]:
    """Return the lines of a text file, stripped, all of which say something.

    Raises:
        DataError: the file is missing, empty or not UTF-8, or a line is blank.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError("there is no such file", where=path, fix="correct the path") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise DataError("this is not a text file in UTF-8", where=path, fix="save it as UTF-8") from error
    lines = [line.strip() for line in lines]
    if not lines:
        raise DataError("this file is empty", where=path, fix="write one entry a line")
    blank = [f"line {number}" for number, line in enumerate(lines, 1) if not line]
    if blank:
        raise DataError(
            f"blank lines: {some_of(blank)}", where=path, fix="delete them: every line is an entry"
        )
    return lines
