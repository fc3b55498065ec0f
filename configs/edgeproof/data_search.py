"""`data search`: the images of a collection that fit some words, or some images, as a manifest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import DataError, EdgeproofError, UsageError
from edgeproof_data.cache.reader import ABSENT
from edgeproof_data.paths import counted, some_of
from edgeproof_data.search.collection import UNSAFE, UNSURE, Collection
from edgeproof_data.search.exact import Matches, best_matches
from edgeproof_data.search.manifest import Found, read_manifest, write_manifest
from edgeproof_data.search.rules import OVERFETCH, Choice, Rules, choose

SAFETY_LEVELS = ("tagged", "strict", "off")


@dataclass(frozen=True)
class Wanted:
    """What to search for: names, all different, and a unit row for each, (Q, D) float32."""

    names: tuple[str, ...]
    rows: NDArray[np.float32]


def search_collection(
    collection: Path,
    wanted: Wanted,
    out: Path,
    rules: Rules,
    *,
    safety: str,
    append: bool,
    as_json: bool,
) -> int:
    """Search a local collection, write the manifest, say what was found, and return 0.

    Args:
        collection: as `data index` made it.
        wanted: what to search for.
        out: the manifest.
        rules: what is kept.
        safety: `tagged` leaves out what is tagged as unsafe, `strict` also what is unsure or has no tag,
            `off` nothing.
        append: add to the manifest if it is there; its images are not taken again.
        as_json: print JSON.

    Raises:
        UsageError: the manifest is there already, or an option is not known.
        DataError: widths differ, or nothing was found.
    """
    if safety not in SAFETY_LEVELS:
        raise UsageError(f"unknown --safety '{safety}'", fix=f"one of {', '.join(SAFETY_LEVELS)}")
    found = Collection.open(collection)
    earlier = earlier_lines(out, found.place, append)
    if wanted.rows.shape[1] != found.cache.dim:
        raise DataError(
            f"queries of {wanted.rows.shape[1]} values, images of {found.cache.dim}: not of one model",
            where=collection,
            fix="embed the words with the teacher that embedded the images",
        )
    allowed, unsafe = _allowed(found, safety)
    taken = {one.place for one in earlier}
    if taken:
        allowed = np.array([row for row in allowed.tolist() if found.names[row] not in taken], np.int64)
    before = found.cache.lookup(sorted(taken))
    matches = _matches(found, wanted, rules, allowed)
    choice = choose(matches, found.names, found.cache, rules, before[before != ABSENT])
    new = [_line(one, found, wanted) for one in _rows(choice.kept)]
    if not new and not earlier:
        raise DataError(
            "nothing in this collection reaches what is asked for",
            where=collection,
            fix="lower --floor or --margin, or ask for other words",
        )
    write_manifest(out, found.place, [*earlier, *new])
    told = told_of(out, wanted.names, new, choice, unsafe, found) | {"earlier": len(earlier)}
    print(json.dumps(told, indent=2, ensure_ascii=False) if as_json else "\n".join(lines(told)))
    return 0


def earlier_lines(out: Path, place: str, append: bool) -> list[Found]:
    """Return the lines of a manifest that is added to.

    Raises:
        UsageError: it is there and is not added to, or it names its images in another way.
    """
    if not out.exists():
        return []
    if not append:
        raise UsageError(
            "this file exists and is not overwritten", where=out, fix="choose another name, or say --append"
        )
    known, lines = read_manifest(out)
    if known != place:
        raise UsageError(
            f"this manifest names images by {known}, the collection by {place}",
            where=out,
            fix="choose another name",
        )
    return lines


def told_of(
    out: Path,
    names: Sequence[str],
    new: Sequence[Found],
    choice: Choice,
    unsafe: int | None,
    found: Collection,
) -> dict[str, Any]:
    """Return what was found as plain data."""
    counts = Counter(one.prompt for one in new)
    return {
        "manifest": str(out),
        "searched": len(found),
        "images": len(new),
        "per_prompt": {name: counts.get(name, 0) for name in names},
        "unsafe": unsafe,
        "alike": choice.alike,
        "over_cap": choice.over_cap,
        "over_balance": choice.over_balance,
        "recall": None if found.figures is None else found.figures.recall,
    }


def lines(told: dict[str, Any]) -> list[str]:
    """Return the same in words."""
    counts: dict[str, int] = told["per_prompt"]
    empty = [name for name, count in counts.items() if not count]
    some = {name: count for name, count in counts.items() if count}
    shown = [f"{counted(told['images'], 'image')} of {told['searched']} for {counted(len(some), 'prompt')}"]
    if some:
        fewest, most = min(some, key=lambda name: some[name]), max(some, key=lambda name: some[name])
        shown.append(f"  fewest: {fewest} {some[fewest]}; most: {most} {some[most]}")
    if empty:
        shown.append(f"  {counted(len(empty), 'prompt')} without an image: {some_of(empty)}")
    shown += [
        f"  left out: {told[key]}, {why}"
        for key, why in (
            ("unsafe", "by their safety tags"),
            ("alike", "as good as the same as a better one"),
            ("over_cap", "more than --per-prompt"),
            ("over_balance", "more than --balance allows"),
        )
        if told[key]
    ]
    if told["unsafe"] is None:
        shown.append("  no safety tags came with these images: none was left out for safety")
    if told["recall"] is not None:
        shown.append(f"  approximate: the index finds {told['recall']:.1%} of an image's 10 nearest")
    return [*shown, f"manifest: {told['manifest']}"]


def _allowed(found: Collection, safety: str) -> tuple[NDArray[np.int64], int | None]:
    """Return the rows that may be found, and how many may not; None where there are no tags."""
    tags = found.safety
    if tags is None and safety == "strict":
        raise EdgeproofError(
            "--safety strict, but these images came without safety tags",
            where=found.folder,
            fix="say --safety tagged (the default) and look at what is found",
        )
    if tags is None:
        return np.arange(len(found)), None
    # Beyond UNSAFE comes what has no tag.
    barred = {"off": np.zeros(len(tags), bool), "tagged": tags == UNSAFE, "strict": tags >= UNSURE}[safety]
    return np.flatnonzero(~barred), int(barred.sum())


def _matches(found: Collection, wanted: Wanted, rules: Rules, allowed: NDArray[np.int64]) -> Matches:
    """Return the matches: among all images, or among those that the approximate index finds."""
    index = found.approximate()
    among = allowed
    if index is not None:
        near = index.nearest(wanted.rows, rules.candidates * OVERFETCH)
        among = np.intersect1d(near[near >= 0], allowed)
    return best_matches(found.cache, wanted.rows, rules.candidates, rules.floor, among)


def _rows(found: Matches) -> list[tuple[int, int, float, float]]:
    return list(
        zip(
            found.rows.tolist(),
            found.queries.tolist(),
            found.scores.tolist(),
            found.margins.tolist(),
            strict=True,
        )
    )


def _line(one: tuple[int, int, float, float], found: Collection, wanted: Wanted) -> Found:
    row, query, score, margin = one
    return Found(found.names[row], wanted.names[query], score, None if np.isnan(margin) else margin)
