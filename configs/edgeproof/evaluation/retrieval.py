"""The figures, curves and nearest objects of an evaluation's searches, by model, protocol and definition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeproof.evaluation.searches import Collection, Searches
from edgeproof.evaluation.tables import write_csv, write_features
from edgeproof_configs.files import write_json
from edgeproof_train.retrieval.curves import pr_curve
from edgeproof_train.retrieval.differences import difference_of
from edgeproof_train.retrieval.figures import DEFINITIONS, Definition
from edgeproof_train.retrieval.protocols import Search
from edgeproof_train.retrieval.search import directions, top_k

Found = dict[str, dict[str, dict[Definition, dict[str, float]]]]
"""Figures by model, protocol and definition."""
NEAREST = 10
MODELS = ("teacher", "student")
PLAIN = "all"
"""The protocol whose figures have no word behind their name."""
CHANGES = {"delta": "map_delta", "low": "map_delta_low", "high": "map_delta_high"}
SHOWN = ("map", "ndcg", "anmrr", "nn", "first_tier", "second_tier", "recall@5", "recall@10")


@dataclass(frozen=True)
class Retrieval:
    """How well objects find others of their class.

    Attributes:
        searches: who searched where.
        figures: by model, protocol and definition.
        differences: the student's mAP (standard) less the teacher's by protocol: `delta`, `low`, `high`.
    """

    searches: Searches
    figures: Found
    differences: dict[str, dict[str, float]]

    def flat(self) -> dict[str, dict[str, float]]:
        """Return the figures by model under one name each: `standard.map`, `osmn40.ndcg_unseen`.

        The student has `standard.map_delta`, `_low` and `_high` against its teacher, too.
        """
        told: dict[str, dict[str, float]] = {
            model: {
                f"{definition}.{name}{suffix(protocol)}": value
                for protocol, by_definition in protocols.items()
                for definition, figures in by_definition.items()
                for name, value in figures.items()
            }
            for model, protocols in self.figures.items()
        }
        for protocol, change in self.differences.items():
            for key, name in CHANGES.items():
                told["student"][f"standard.{name}{suffix(protocol)}"] = change[key]
        return told

    def table(self) -> str:
        """Return a line for each model, protocol and definition, and one for each difference."""
        rows = [["retrieval", "", "", "queries", *SHOWN]]
        for protocol in dict.fromkeys(name for found in self.figures.values() for name in found):
            for definition in DEFINITIONS:
                for model, protocols in self.figures.items():
                    if protocol in protocols:
                        rows.append([protocol, definition, model, *cells(protocols[protocol][definition])])
        lines = aligned(rows)
        for protocol, one in self.differences.items():
            within = f"95 % interval {one['low']:+.4f} to {one['high']:+.4f}"
            lines.append(f"{protocol}: student less teacher, standard map {one['delta']:+.4f} ({within})")
        excluded = int(max(one["standard"]["excluded"] for one in self.figures["student"].values()))
        if excluded:
            lines.append(f"{excluded} queries have nothing of their class to find: standard leaves them out")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write `retrieval.json`, `pr_curves.csv`, `nearest.csv`, and the features of what was searched."""
        told = {"figures": self.figures, "student_less_teacher": self.differences}
        write_json(folder / "retrieval.json", told)
        head = ("model", "protocol", "definition", "recall", "precision")
        write_csv(folder / "pr_curves.csv", head, curves(self.searches))
        own, search = self.searches.own, self.searches.by_model["student"][PLAIN]
        head = ("query", "class", "rank", "object", "object_class", "cosine", "right")
        write_csv(folder / "nearest.csv", head, nearest(own, search))
        if own.searched is not None:
            write_features(folder, search.gallery, own.searched, "gallery_features")


def retrieval_of(searches: Searches) -> Retrieval | None:
    """Return the figures of every search by both definitions; None where no query has anything to find."""
    by_model = searches.by_model
    if PLAIN not in by_model["student"]:
        return None
    found: Found = {
        model: {
            protocol: {definition: search.figures(definition) for definition in DEFINITIONS}
            for protocol, search in by_model[model].items()
            if search.answerable
        }
        for model in MODELS
        if model in by_model
    }
    teacher = by_model.get("teacher", {})
    changes = {
        protocol: difference_of(teacher[protocol].measures()["map"], search.measures()["map"])
        for protocol, search in by_model["student"].items()
        if protocol in teacher and search.answerable
    }
    return Retrieval(searches, found, changes)


def suffix(protocol: str) -> str:
    """Return what is put behind a figure's name: nothing for all classes, otherwise the protocol's."""
    words = protocol.removeprefix(PLAIN) if protocol.split(",")[0] == PLAIN else f"_{protocol}"
    return words.replace(", ", "_").replace(" ", "_")


def cells(figures: Mapping[str, float]) -> list[str]:
    """Return a line's figures, a dash for what the definition does not have here."""
    return [
        f"{figures['queries']:.0f}",
        *[f"{figures[name]:.4f}" if name in figures else "-" for name in SHOWN],
    ]


def aligned(rows: list[list[str]]) -> list[str]:
    """Return lines with aligned columns: the first three to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if place < 3 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def curves(searches: Searches) -> Iterator[tuple[object, ...]]:
    """Yield the points of every curve, eleven each."""
    for model in MODELS:
        for protocol, search in searches.by_model.get(model, {}).items():
            for definition in DEFINITIONS if search.answerable else ():
                for recall, precision in zip(*curve(search, definition), strict=True):
                    yield model, protocol, definition, f"{recall:.1f}", f"{precision:.6f}"


def curve(search: Search, definition: Definition) -> Any:
    """Return recall and precision of a search, eleven points."""
    given = search.queries, search.query_labels, search.gallery, search.gallery_labels, search.own
    return pr_curve(*given, definition)


def nearest(collection: Collection, search: Search) -> Iterator[tuple[object, ...]]:
    """Yield the nearest objects of each query."""
    k = min(NEAREST, len(search.gallery) - (search.own is not None))
    names, asking, objects = (
        collection.queries.class_names,
        collection.query_paths,
        collection.searched_paths,
    )
    rows = directions(search.queries, "queries"), directions(search.gallery, "gallery")
    places, cosines = top_k(*rows, k, search.own)
    for query, (found, near) in enumerate(zip(places.tolist(), cosines.tolist(), strict=True)):
        own = search.query_labels[query]
        for rank, (place, cosine) in enumerate(zip(found, near, strict=True), 1):
            label = search.gallery_labels[place]
            word = names[label] if label >= 0 else ""
            right = "yes" if label == own else "no"
            yield asking[query], names[own], rank, objects[place], word, f"{cosine:.6f}", right
