"""What was found among objects, as the report reads it.

`verify/retrieval.json`:
    {"form", "views", "gallery": objects that are searched, or null where those of test search each other,
     "figures": {model: {protocol: {definition: {measure: value}}}},
     "differences": {protocol: {"delta", "low", "high"}}, the form's mAP (standard) less the teacher's,
     "curves": {model: {definition: [precision at a recall of 0, 0.1, ... 1]}},
     "rankings": [{"query": {"path", "class", "thumbnail": base64 of a small JPEG, "seen"},
                   "nearest": [{"path", "class", "thumbnail", "cosine", "right"}]}]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeproof_benchmarks.example_data import picture


@dataclass(frozen=True)
class Pictured:
    """An object: its first view, its class, and how near it is to a query."""

    path: str
    label: str | None
    thumbnail: bytes
    cosine: float | None = None
    right: bool = False
    seen: bool = True


@dataclass(frozen=True)
class Ranking:
    """A query and the objects that are nearest to it."""

    query: Pictured
    nearest: tuple[Pictured, ...]


@dataclass(frozen=True)
class Retrieval:
    """How well objects of a class are found.

    Attributes:
        form: what was shipped, by its name.
        views: how many of each object were seen.
        gallery: how many objects were searched; None where those of test searched each other.
        figures: by model, protocol and definition.
        differences: of the form's mAP to the teacher's, by protocol.
        curves: precision at eleven levels of recall, by model and definition.
        rankings: some queries.
    """

    form: str
    views: int
    figures: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
    differences: Mapping[str, Mapping[str, float]]
    curves: Mapping[str, Mapping[str, list[float]]]
    rankings: tuple[Ranking, ...] = ()
    gallery: int | None = None


def read_retrieval(plain: Mapping[str, Any]) -> Retrieval:
    """Read the file's contents.

    Raises:
        EdgeproofError: a picture is not base64.
    """
    rankings = tuple(
        Ranking(read_pictured(one["query"]), tuple(read_pictured(near) for near in one["nearest"]))
        for one in plain.get("rankings") or ()
    )
    return Retrieval(
        plain["form"],
        int(plain["views"]),
        plain["figures"],
        plain.get("differences") or {},
        plain.get("curves") or {},
        rankings,
        plain.get("gallery"),
    )


def read_pictured(plain: Mapping[str, Any]) -> Pictured:
    """Read one object."""
    path = str(plain["path"])
    return Pictured(
        path,
        plain.get("class"),
        picture(plain["thumbnail"], f"the picture of {path}"),
        plain.get("cosine"),
        bool(plain.get("right")),
        bool(plain.get("seen", True)),
    )
