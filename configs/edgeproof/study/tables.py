"""A study's figures as tables and as curves: means over seeds, with their deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeproof.seeds import spread
from edgeproof.study.variants import SEED, SEEN
from edgeproof_benchmarks.study_chart import Axis, Curve, Panel
from edgeproof_train.retrieval.figures import DEFINITIONS

Row = dict[str, Any]
WHAT = ("variant", "model", "protocol", "definition", "views", "gallery_views")
"""What tells one line of the table from another."""
MEASURES = (
    "map",
    "ndcg",
    "anmrr",
    "nn",
    "first_tier",
    "second_tier",
    "recall@1",
    "recall@5",
    "recall@10",
    "queries",
    "excluded",
    "map_delta",
    "map_low",
    "map_high",
)
SHOWN = ("map", "ndcg", "anmrr", "nn", "first_tier", "second_tier", "map_delta")
NAMES = {
    "ndcg": "ndcg@100",
    "first_tier": "first tier",
    "second_tier": "second tier",
    "map_delta": "map - teacher's",
}
PLOTTED = "map"
ALL = "all of them"


def means_of(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each variant, with mean and sample deviation of each measure over its seeds."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in WHAT), []).append(row)
    found = []
    for key, members in groups.items():
        made: Row = dict(zip(WHAT, key, strict=True)) | {"seeds": len(members)}
        for name in MEASURES:
            values = [member[name] for member in members if name in member]
            if len(values) == len(members):
                told = spread(values)
                made |= {name: told["mean"], f"{name}_std": told["std"]}
        found.append(made)
    return found


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return the keys of rows, in the order in which they first occur."""
    return list(dict.fromkeys(key for row in rows for key in row))


def cells_of(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return head and lines of a table to read: what differs, and the main measures as mean ± deviation.

    The standard definition stands first. A teacher that all variants share has lines of its own.
    """
    rows = sorted(shared_once(rows), key=lambda row: DEFINITIONS.index(row["definition"]))
    told = [name for name in WHAT if len({row[name] for row in rows}) > 1 or name in ("model", "definition")]
    if "gallery_views" in told and all(row["gallery_views"] == row["views"] for row in rows):
        told.remove("gallery_views")
    measures = [name for name in SHOWN if any(name in row for row in rows)]
    head = [
        *(name.replace("_", " ") for name in told),
        "queries",
        *(NAMES.get(name, name) for name in measures),
    ]
    lines = [
        [*(str(row[name]) for name in told), f"{row['queries']:.0f}", *(cell(row, name) for name in measures)]
        for row in rows
    ]
    return head, lines


def shared_once(rows: Sequence[Row]) -> list[Row]:
    """Return the rows by protocol, model and variant; a teacher that is the same in all of these once."""
    protocols, models = (list(dict.fromkeys(row[name] for row in rows)) for name in ("protocol", "model"))
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    of_teacher: dict[str, list[Row]] = {}
    for row in rows:
        if row["model"] == "teacher":
            of_teacher.setdefault(row["variant"], []).append({**row, "variant": ALL})
    if (
        len(variants) > 1
        and of_teacher
        and all(one == of_teacher[variants[0]] for one in of_teacher.values())
    ):
        rows = [*of_teacher[variants[0]], *(row for row in rows if row["model"] != "teacher")]
        variants = [ALL, *variants]
    return sorted(
        rows,
        key=lambda row: (
            protocols.index(row["protocol"]),
            models.index(row["model"]),
            variants.index(row["variant"]),
            row["views"],
        ),
    )


def cell(row: Mapping[str, Any], name: str) -> str:
    """Return `0.8340` or `0.8340 ± 0.0120`, a difference with its sign, a dash for what was not counted."""
    if name not in row:
        return "-"
    value = f"{row[name]:+.4f}" if name == "map_delta" else f"{row[name]:.4f}"
    return f"{value} ± {row[f'{name}_std']:.4f}" if row["seeds"] > 1 else value


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows) + "\n"


def panels_of(rows: Sequence[Row], settings: Mapping[str, Mapping[str, str]]) -> tuple[list[Panel], Axis]:
    """Return what is plotted: mAP by the standard definition, a panel for each protocol.

    To the right run the views where there are several numbers of them; else how many classes were seen, where
    that varies; else the variants.

    Args:
        rows: means.
        settings: of each variant, by its name.
    """
    chosen = [row for row in rows if row["definition"] == "standard"]
    variants = list(dict.fromkeys(row["variant"] for row in chosen))
    by_views = len({row["views"] for row in chosen}) > 1
    by_seen = not by_views and len({one.get(SEEN) for one in settings.values()}) > 1
    axis = Axis("views" if by_views else "seen classes") if by_views or by_seen else Axis("variant", variants)

    def place(row: Row) -> float:
        if by_views:
            return float(row["views"])
        return float(settings[row["variant"]][SEEN]) if by_seen else float(variants.index(row["variant"]))

    def name(row: Row) -> str:
        if by_views:
            kept = settings[row["variant"]]
        else:
            kept = {key: value for key, value in settings[row["variant"]].items() if by_seen and key != SEEN}
        words = ", ".join(f"{key}={value}" for key, value in kept.items() if key != SEED)
        return f"{row['model']}, {words}" if words and len(variants) > 1 else row["model"]

    panels = []
    for protocol in dict.fromkeys(row["protocol"] for row in chosen):
        lines: dict[str, list[Row]] = {}
        for row in chosen:
            if row["protocol"] == protocol:
                lines.setdefault(name(row), []).append(row)
        panels.append(Panel(protocol, merged([curve(words, found, place) for words, found in lines.items()])))
    return panels, axis


def curve(name: str, rows: Sequence[Row], place: Any) -> Curve:
    """Return the line of some rows, in the order of its axis."""
    ordered = sorted(rows, key=place)
    spreads = [row[f"{PLOTTED}_std"] for row in ordered]
    return Curve(name, [place(row) for row in ordered], [row[PLOTTED] for row in ordered], spreads)


def merged(curves: Sequence[Curve]) -> list[Curve]:
    """Return the curves; where all variants have the same teacher, that is drawn once."""
    teachers = [one for one in curves if one.name.startswith("teacher")]
    if len(teachers) < 2 or any((one.x, one.y) != (teachers[0].x, teachers[0].y) for one in teachers):
        return list(curves)
    one = teachers[0]
    return [Curve("teacher", one.x, one.y, one.spread), *(c for c in curves if c not in teachers)]
