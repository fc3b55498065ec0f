"""`data split --seen --unseen`: which classes and objects are trained on, ask, and are searched."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import write_text
from edgeproof_data.object_parts import PAIR, without_positive
from edgeproof_data.object_trees import FoundObject, find_objects
from edgeproof_data.paths import counted, some_of
from edgeproof_data.seen_unseen import choose_classes, link_split, split_of
from edgeproof_data.split_table import write_split

RETRIEVAL = 0.2


@dataclass(frozen=True)
class Wanted:
    """How many classes are seen and unseen, and how many of their objects ask."""

    seen: int
    unseen: int
    retrieval: float | int
    each_other: bool
    seed: int

    @classmethod
    def of(
        cls,
        seen: int | None,
        unseen: int | None,
        retrieval: float | None,
        queries: int | None,
        each_other: bool,
        seed: int,
        shots: int | None,
        val_shots: int | None,
    ) -> Wanted:
        """Return what options ask for.

        Raises:
            UsageError: one of the two numbers is missing, or an option cannot have an effect.
        """
        if seen is None or unseen is None:
            raise UsageError("--seen and --unseen go together", fix="say how many classes each has")
        for name, value in (("--shots", shots), ("--val-shots", val_shots)):
            if value is not None:
                raise UsageError(f"{name} has no effect beside --seen and --unseen", fix="remove it")
        if queries is not None and retrieval is not None:
            raise UsageError(
                "--queries and --retrieval both say how many objects ask", fix="give one of them"
            )
        retrieval = RETRIEVAL if retrieval is None else retrieval
        if not 0 < retrieval < 1:
            raise UsageError(f"--retrieval must be above 0 and below 1, got {retrieval}")
        return cls(seen, unseen, queries or retrieval, each_other, seed)


def split_objects(folder: Path, out: Path, wanted: Wanted, *, links: Path | None, as_json: bool) -> int:
    """Draw classes and objects, write the table, the unseen classes and, if asked for, links; return 0.

    Args:
        folder: of the objects, in any layout; its own parts do not count.
        out: the table, a new file; the unseen classes go beside it.
        wanted: how much.
        links: a new folder for a tree of links.
        as_json: print JSON.

    Raises:
        UsageError: there is no such folder, something exists, or there are not so many classes.
        DataError: no object is left to train on or to ask with.
    """
    unseen_file = out.with_suffix(".unseen.txt")
    if not folder.is_dir():
        raise UsageError("there is no such folder", where=folder, fix="correct the path")
    for place in (out, unseen_file, *([links] if links else [])):
        if place.exists():
            raise UsageError("this exists and is not overwritten", where=place, fix="choose another name")
    objects = find_objects(folder).objects
    try:
        seen, unseen = choose_classes(
            [found.label for found in objects], wanted.seen, wanted.unseen, wanted.seed
        )
    except ValueError as error:
        raise UsageError(f"there are not so many: {error}", where=folder, fix="ask for fewer") from None
    divided = split_of(objects, seen, unseen, wanted.retrieval, wanted.seed, each_other=wanted.each_other)
    told = counts_of(divided, unseen)
    for part in ("train", "test"):
        if not sum(counts.get(part, 0) for counts in (told["seen"], told["unseen"])):
            raise DataError(
                f"no object is left for {part}", where=folder, fix=f"a class needs more than {PAIR} objects"
            )
    write_split(out, ((found.path, found.part or "", found.label) for found in divided))
    write_text(unseen_file, "".join(f"{name}\n" for name in unseen))
    if links:
        link_split(folder.absolute(), divided, unseen, links)
    settings = {"root": folder.absolute(), "split": out.absolute(), "unseen": unseen_file.absolute()}
    told |= {"seen_classes": seen, "unseen_classes": unseen, "wanted": asdict(wanted), "table": str(out)}
    print(json.dumps(told, indent=2, ensure_ascii=False) if as_json else "\n".join(lines(told, settings)))
    return 0


def counts_of(objects: list[FoundObject], unseen: list[str]) -> dict[str, Any]:
    """Return how many objects of seen and unseen classes each part has, and which classes find nothing."""
    counts = {
        name: dict(Counter(found.part for found in objects if (found.label in unseen) == hidden))
        for name, hidden in (("seen", False), ("unseen", True))
    }
    asked = [found for found in objects if found.part == "test"]
    rest = [found for found in objects if found.part == "gallery"]
    searched = [*rest, *(found for found in objects if found.part == "train")] if rest else None
    silent = sorted({found.label for found in objects} - {found.label for found in asked})
    return {**counts, "no_positive": without_positive(asked, searched), "no_query": silent}


def lines(told: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Return what was drawn in words."""
    found = []
    for name in ("seen", "unseen"):
        parts = ", ".join(f"{count} {part}" for part, count in sorted(told[name].items()))
        classes = counted(len(told[f"{name}_classes"]), f"{name} class", f"{name} classes")
        found.append(f"{classes}, objects: {parts}")
    for key, words in (("no_positive", "with queries and nothing to find"), ("no_query", "without a query")):
        if told[key]:
            found.append(f"  {counted(len(told[key]), 'class', 'classes')} {words}: {some_of(told[key])}")
    found.append(" ".join(f"--set data.{key}={value}" for key, value in settings.items()))
    return found
