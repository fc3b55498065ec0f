"""What a head is fitted on: a few labelled features, words, features without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from edgeproof_configs.errors import DataError
from edgeproof_data.paths import some_of
from edgeproof_data.sets import ImageSet

Part = Literal["shots", "text", "unlabelled", "val"]
UNIT_TOLERANCE = 1e-3
"""How far from 1 the length of a feature stored in half precision may be."""


class Rows(NamedTuple):
    """Features with the class of each.

    Attributes:
        features: (N, D) float32, unit rows.
        labels: (N,) int64, positions in the names.
    """

    features: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Surroundings:
    """What a run has around its evidence, for a head that looks at more than features.

    Attributes:
        root: of the data, where relative paths are looked for first.
        unseen: labels that were held out of training.
        val: the images of the rows of `val`; None where there are none.
        device: where networks run.
    """

    root: Path
    unseen: tuple[str, ...] = ()
    val: ImageSet | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Evidence:
    """All that a head may look at while it is fitted. Features of test images are at most `unlabelled`.

    Attributes:
        names: K labels, all different, at least two.
        shots: the few labelled features; the views of one photo stand one after the other.
        views: rows of `shots` that come from one photo.
        text: (K, D) unit embeddings of the names.
        unlabelled: (U, D) unit features that a transductive head adapts to.
        val: labelled features on which hyper-parameters are chosen; without them defaults are taken.
        logit_scale: factor on cosines between image and text, as the teacher was trained with.
        said: what was changed on the way in, in words.
        around: of a run; None where there are arrays only.
        named: what each photo of the shots is called; empty where there are arrays only.
    """

    names: tuple[str, ...]
    shots: Rows | None = None
    views: int = 1
    text: np.ndarray | None = None
    unlabelled: np.ndarray | None = None
    val: Rows | None = None
    logit_scale: float = 100.0
    said: tuple[str, ...] = ()
    around: Surroundings | None = None
    named: tuple[str, ...] = ()

    @property
    def dim(self) -> int:
        """Width D of the features."""
        for part in (self.text, self.shots and self.shots.features, self.unlabelled):
            if part is not None:
                return part.shape[1]
        raise ValueError("there is no evidence")

    def photos(self) -> Rows:
        """Return the shots with the views of a photo averaged to one unit row (Tip-Adapter, 2111.03930).

        Raises:
            ValueError: there are no shots.
        """
        if self.shots is None:
            raise ValueError("there are no shots")
        if self.views == 1:
            return self.shots
        features, labels = self.shots
        mean = features.reshape(-1, self.views, features.shape[1]).mean(axis=1)
        lengths = np.linalg.norm(mean, axis=1, keepdims=True)
        return Rows(mean / np.maximum(lengths, np.finfo(np.float32).tiny), labels[:: self.views])


def evidence_of(
    names: Sequence[str],
    *,
    features: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    views: int = 1,
    text: np.ndarray | None = None,
    unlabelled: np.ndarray | None = None,
    val_features: np.ndarray | None = None,
    val_labels: np.ndarray | None = None,
    logit_scale: float = 100.0,
) -> Evidence:
    """Check arrays and return them as evidence; rows that are not of unit length are made so, and it is said.

    Args:
        names: K labels.
        features: (N, D) labelled features, any float type.
        labels: (N,) integers, the class of each.
        views: rows in a row that come from one photo.
        text: (K, D) embeddings of the names.
        unlabelled: (U, D) features.
        val_features: (M, D) labelled features to choose hyper-parameters on.
        val_labels: (M,) the class of each.
        logit_scale: factor on cosines between image and text.

    Raises:
        DataError: two names are equal, one is empty or there is only one; a row is NaN, infinite or zero;
            widths differ; a label is outside of the names; there are not as many labels as rows; views of a
            photo have different labels.
        ValueError: there is no view, or the scale is not a number above 0.
    """
    if views < 1 or not 0 < logit_scale < np.inf:
        raise ValueError(f"expected views >= 1 and a logit_scale above 0, got {views} and {logit_scale}")
    check_names(names)
    said: list[str] = []
    shots = labelled_rows("shots", features, labels, len(names), said)
    if shots is not None:
        check_views(shots.labels, views)
    found = Evidence(
        names=tuple(names),
        shots=shots,
        views=views,
        text=None if text is None else unit_features("text", text, said),
        unlabelled=None if unlabelled is None else unit_features("unlabelled", unlabelled, said),
        val=labelled_rows("val", val_features, val_labels, len(names), said),
        logit_scale=float(logit_scale),
        said=tuple(said),
    )
    check_shapes(found)
    return found


def check_names(names: Sequence[str]) -> None:
    """Refuse label lists that leave nothing to decide, or not clearly.

    Raises:
        DataError: there are fewer than two names, or one is there twice, empty or no text.
    """
    if isinstance(names, str) or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError("labels are a list of texts, none of them empty", fix="name each class")
    if len(names) < 2:
        raise DataError(f"{len(names)} class: a head decides between two or more", fix="give more labels")
    twice = (
        sorted({name for name in names if list(names).count(name) > 1})
        if len(set(names)) < len(names)
        else []
    )
    if twice:
        raise DataError(f"labels that are there twice: {some_of(twice)}", fix="name each class once")


def check_views(labels_N: np.ndarray, views: int) -> None:
    """Refuse rows that are not views of photos, each with the views of one after the other.

    Raises:
        DataError: rows are left over, or those of a photo have different labels.
    """
    if len(labels_N) % views:
        raise DataError(f"{len(labels_N)} rows are no multiple of {views} views a photo")
    photos = labels_N.reshape(-1, views)
    mixed = np.flatnonzero((photos != photos[:, :1]).any(axis=1))
    if len(mixed):
        raise DataError(
            f"{len(mixed)} photos have views of different labels, the first is photo {mixed[0]}",
            fix=f"put the {views} views of a photo one after the other",
        )


def check_shapes(evidence: Evidence) -> None:
    """Refuse parts of different widths, and words that are not one for each name."""
    parts = {
        "text": evidence.text,
        "shots": evidence.shots and evidence.shots.features,
        "unlabelled": evidence.unlabelled,
        "val": evidence.val and evidence.val.features,
    }
    widths = {name: part.shape[1] for name, part in parts.items() if part is not None}
    if len(set(widths.values())) > 1:
        told = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise DataError(f"features of different widths: {told}", fix="take all of them from one model")
    if evidence.text is not None and len(evidence.text) != len(evidence.names):
        raise DataError(f"{len(evidence.names)} labels and {len(evidence.text)} text embeddings")


def labelled_rows(
    part: Part, features: np.ndarray | None, labels: np.ndarray | None, classes: int, said: list[str]
) -> Rows | None:
    """Return features and labels as rows, checked; None where neither is given."""
    if features is None and labels is None:
        return None
    if features is None or labels is None or len(features) != len(labels):
        counts = [0 if array is None else len(array) for array in (features, labels)]
        raise DataError(f"{part}: {counts[0]} rows of features and {counts[1]} labels")
    wanted = np.asarray(labels)
    if wanted.dtype.kind not in "iu" or wanted.ndim != 1:
        raise DataError(
            f"{part}: labels of type {wanted.dtype} and shape {wanted.shape}: expected integers (N,)"
        )
    wrong = np.unique(wanted[(wanted < 0) | (wanted >= classes)])
    if len(wrong):
        raise DataError(f"{part}: label {int(wrong[0])} is outside of the {classes} classes")
    return Rows(unit_features(part, features, said), wanted.astype(np.int64))


def unit_features(part: Part, features: np.ndarray, said: list[str]) -> np.ndarray:
    """Return rows (N, D) as float32 of unit length; add to `said` where they were not.

    Raises:
        DataError: no rows of numbers, or one is NaN, infinite or zero.
    """
    rows = np.asarray(features)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not rows.size:
        raise DataError(
            f"{part}: features of shape {rows.shape} and type {rows.dtype}: expected numbers (N, D)"
        )
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
    if len(bad):
        raise DataError(f"{part}: {len(bad)} rows are NaN, infinite or zero, the first is row {bad[0]}")
    if np.abs(lengths - 1).max() > UNIT_TOLERANCE:
        said.append(f"{part}: rows were not of unit length and have been normalised")
    return (rows / lengths).astype(np.float32)


def require(evidence: Evidence, *parts: Part, kind: str, every_class: bool = True) -> None:
    """Refuse evidence that a kind of head cannot be fitted on.

    Args:
        evidence: to look at.
        parts: that must be there.
        kind: of the head, for the message.
        every_class: whether each class needs a shot where shots are needed.

    Raises:
        DataError: a part is missing, or a class has no shot.
    """
    missing = [part for part in parts if getattr(evidence, part) is None]
    if missing:
        words = {"shots": "labelled images", "text": "text embeddings", "unlabelled": "images without labels"}
        told = " and ".join(words.get(part, part) for part in missing)
        raise DataError(
            f"head {kind} needs {told}", fix="give them, or choose another head: edgeproof ls heads"
        )
    if "shots" in parts and every_class and evidence.shots is not None:
        empty = np.setdiff1d(np.arange(len(evidence.names)), evidence.shots.labels)
        if len(empty):
            told = some_of([evidence.names[row] for row in empty])
            raise DataError(
                f"head {kind}: {len(empty)} of {len(evidence.names)} classes have no shot: {told}",
                fix="give at least one image of each, or leave the classes out",
            )
