"""`data prompts`: from class names to a list of labels and the sentences about them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import write_text
from edgeproof_data.paths import counted, some_of
from edgeproof_data.prompts import read_templates
from edgeproof_data.words.classes import read_classes
from edgeproof_data.words.sentences import sentences, told_apart, too_long, with_descriptions


def write_prompts(
    source: Path,
    out: Path,
    *,
    templates: str,
    synonyms: bool,
    articles: bool,
    descriptions: Path | None,
    as_json: bool,
) -> int:
    """Write labels, one a line, and the sentences about them, csv `label,prompt`; return 0.

    Args:
        source: a list, a csv, WordNet ids, or a folder of class folders.
        out: a new file NAME.txt for the labels; the sentences go into NAME.csv beside it.
        templates: name or file of prompt templates.
        synonyms: whether further words for a class are used in sentences.
        articles: whether `a` becomes `an` before a vowel.
        descriptions: JSON with further sentences for each class.
        as_json: print JSON.

    Raises:
        UsageError: there is no such source, or a file is there already.
        DataError: the source is not usable, or classes cannot be told apart.
    """
    if not source.exists():
        raise UsageError(
            "there is no such file or folder",
            where=source,
            fix="name a file of words, one a line, a csv, or a folder of class folders",
        )
    if out.suffix != ".txt":
        raise UsageError("labels are written as .txt", where=out, fix=f"say {out.with_suffix('.txt')}")
    table = out.with_suffix(".csv")
    for file in (out, table):
        if file.exists():
            raise UsageError("this file exists and is not overwritten", where=file, fix="choose another name")
    distinct = told_apart(read_classes(source), source)
    classes = distinct.classes if descriptions is None else with_descriptions(distinct.classes, descriptions)
    found = sentences(classes, read_templates(templates), synonyms=synonyms, articles=articles)
    long = too_long(found)
    text = io.StringIO(newline="")
    rows = [(label, prompt) for label, prompts in found.items() for prompt in prompts]
    csv.writer(text, lineterminator="\n").writerows([("label", "prompt"), *rows])
    write_text(table, text.getvalue())
    write_text(out, "".join(f"{label}\n" for label in found))
    told = {
        "labels": str(out),
        "prompts": str(table),
        "classes": len(found),
        "sentences": len(rows),
        "renamed": dict_of(distinct.renamed),
        "shared_synonyms": distinct.shared,
        "too_long": long,
    }
    print(json.dumps(told, indent=2, ensure_ascii=False) if as_json else "\n".join(lines(told)))
    return 0


def dict_of(renamed: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the new names by the old one."""
    found: dict[str, list[str]] = {}
    for old, new in renamed:
        found.setdefault(old, []).append(new)
    return found


def lines(told: dict[str, object]) -> list[str]:
    """Return what was written in words."""
    renamed, shared, long = told["renamed"], told["shared_synonyms"], told["too_long"]
    assert isinstance(renamed, dict)
    assert isinstance(shared, list)
    assert isinstance(long, list)
    classes, count = told["classes"], told["sentences"]
    assert isinstance(classes, int)
    assert isinstance(count, int)
    shown = [f"{counted(classes, 'class', 'classes')}, {counted(count, 'sentence')}"]
    shown += [f"  '{old}' is several classes: {', '.join(new)}" for old, new in list(renamed.items())[:5]]
    if len(renamed) > 5:
        shown.append(f"  and {counted(len(renamed) - 5, 'more name')}")
    if shared:
        shown.append(f"  left out, words of several classes: {some_of(shared)}")
    if long:
        shown.append(f"  {counted(len(long), 'sentence')} longer than CLIP's 77 tokens: {long[0][:60]}…")
    return [*shown, f"labels: {told['labels']}", f"sentences: {told['prompts']}"]
