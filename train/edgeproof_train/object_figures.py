"""How well embeddings find what is of one class: the figures by which a run chooses and compares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeproof_data.sets import NO_LABEL, ImageSet, SplitName
from edgeproof_train.retrieval.protocols import Search, parts_of
from edgeproof_train.run_data import PartName, RunData

Rows = Callable[[PartName, ImageSet], np.ndarray]
"""Embeddings (N, D) of the images or objects of a part of the data."""
FIGURES = ("map", "ndcg", "anmrr", "nn")


def search_figures(
    data: RunData, split: SplitName, images: ImageSet, rows: np.ndarray, embed: Rows
) -> dict[str, float]:
    """Return `map`, `ndcg`, `anmrr` and `nn` by their standard definitions, and how many queries counted.

    Where there are both, `map_seen`, `map_unseen` and so on are of the classes that were trained on, and of
    those held out, each searched among its own.

    Args:
        data: of the run.
        split: of the queries.
        images: the queries.
        rows: their embeddings (N, D).
        embed: gives those of what else is searched.
    """
    found: dict[str, float] = {}
    searches = parts_of(search_of(data, split, images, rows, embed), images.class_names, data.source.unseen)
    for name, search in searches.items():
        suffix = "" if name == "all" else f"_{name}"
        figures = search.figures()
        found |= {f"{key}{suffix}": figures[key] for key in FIGURES}
        if name == "all":
            found["queries"] = figures["queries"]
    return found


def search_of(data: RunData, split: SplitName, images: ImageSet, rows: np.ndarray, embed: Rows) -> Search:
    """Return who searches where.

    Objects of `test` search the data's gallery if there is one. Otherwise the objects of a split search each
    other; where a class of `val` has a single one, those of `train`, too, so that every query can find
    something.
    """
    if split == "test" and "gallery" in data.parts:
        gallery = data.split("gallery")
        asked = images.labels != NO_LABEL
        return Search(rows[asked], images.labels[asked], embed("gallery", gallery), gallery.labels)
    if split != "val" or not (np.bincount(images.labels[images.labels != NO_LABEL]) == 1).any():
        return Search.among(rows, images.labels)
    others = data.split("train")
    asked = np.flatnonzero(images.labels != NO_LABEL)
    return Search(
        rows[asked],
        images.labels[asked],
        np.concatenate([rows, embed("train", others)]),
        np.concatenate([images.labels, others.labels]),
        asked,
    )
