"""What two forms of the student decide about the same images."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgeproof_deploy.paired import Interval, class_intervals, difference_interval, mcnemar_p
from edgeproof_deploy.retrieval import Gallery, ranking_changes, retrieval_changes
from edgeproof_deploy.runtime.head import Head
from edgeproof_train.metrics import cosines_to, head_metrics, ranks, zero_shot_metrics

TIE_MARGIN = 1e-5
"""Two labels whose cosines are this close are a tie: fp32 itself does not order them.

Of the scores of a fitted head this is a part of the image's largest one.
"""
TOP = 5


@dataclass(frozen=True)
class Vocabulary:
    """The labels between which a form decides, and what is true of the images.

    Attributes:
        names: K labels.
        text: (K, D) their embeddings; None where a form's embeddings are the labels' scores, or where a head
            knows the labels by images only.
        labels: (N,) int64, the true label's row of each image; -1 where there is none.
        unseen: labels that were held out of training.
        paths: N names of the images.
        head: that was fitted and decides; None: the nearest text embedding does, or the scores.
        teacher_head: fitted on the teacher's embeddings, which it decides for; None: the same as `head`.
        of_objects: whether the images are objects, whose searches are judged by their whole rankings.
        gallery_labels: int64 (G,), the label's row of each object that the data have for searches, -1 where
            there is none; None where the images search each other.
    """

    names: tuple[str, ...]
    text: np.ndarray | None
    labels: np.ndarray
    paths: tuple[str, ...]
    unseen: Collection[str] = ()
    head: Head | None = None
    teacher_head: Head | None = None
    of_objects: bool = False
    gallery_labels: np.ndarray | None = None

    @property
    def class_scores(self) -> bool:
        """Whether a form's embeddings are the labels' scores."""
        return self.text is None and self.head is None

    def of_teacher(self) -> Vocabulary:
        """Return the same labels with the head that decides for the teacher."""
        return self if self.teacher_head is None else replace(self, head=self.teacher_head)

    def only(self, at: np.ndarray) -> Vocabulary:
        """Return what is true of the images at some positions."""
        heads = [head if head is None else head.at(at) for head in (self.head, self.teacher_head)]
        paths = tuple(self.paths[i] for i in at)
        return replace(self, labels=self.labels[at], paths=paths, head=heads[0], teacher_head=heads[1])

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the cosines (N, K), or the scores of a fitted head, float64."""
        if self.head is None:
            return cosines_to(self.text, embeddings)
        return self.head.logits(embeddings).astype(np.float64)

    def metrics(self, embeddings: np.ndarray, teacher: np.ndarray | None = None) -> dict[str, float]:
        """Return accuracies of embeddings (N, D) and, given the teacher's, their cosine to them."""
        if self.head is None:
            return zero_shot_metrics(embeddings, self.labels, self.text, self.names, self.unseen, teacher)
        return head_metrics(self.head.logits, embeddings, self.labels, self.names, self.unseen, teacher)

    def ties(self, scores: np.ndarray) -> np.ndarray:
        """Return of which images (N, K) the two best labels tie, bool (N,)."""
        limit = TIE_MARGIN if self.head is None else TIE_MARGIN * np.abs(scores).max(axis=1)
        return margin(scores) <= limit


@dataclass(frozen=True)
class Decisions:
    """How the decisions of two forms differ; accuracies only where images have labels.

    Attributes:
        top1_agreement: share of images with the same best label.
        top5_agreement: share of images with the same five best labels in any order; None below five labels.
        agreement: as `top1_agreement`, but a flip between labels that tie in the reference counts as none.
        flips: `{path, true, reference, candidate, reference_margin, candidate_margin, tie}` for each image
            whose best label changed; the margins are cosines of the best label less the second best, or
            scores of a fitted head.
        score_shift: largest absolute change of a cosine between an image and a label, or of a fitted head's
            score.
        metrics: `{"reference", "candidate", "delta"}`, each with `top1`, `mean_per_class`, ...
        drop: top-1 accuracy lost, flips between ties left out.
        interval: 95 % bootstrap interval of the change of top-1 accuracy.
        mcnemar_p: exact p of McNemar's test on top-1.
        intervals: 95 % bootstrap intervals of the changes in `metrics`, by name.
        recall_changes: `{label, images, reference, candidate, delta}` for each class whose recall changed,
            the largest loss first.
        retrieval: as `retrieval_changes` returns it; None where embeddings are the labels' scores.
        ranking: as `ranking_changes` returns it, of objects.
    """

    top1_agreement: float
    top5_agreement: float | None
    agreement: float
    flips: list[dict[str, Any]]
    score_shift: float
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    drop: float | None = None
    interval: Interval | None = None
    mcnemar_p: float | None = None
    intervals: dict[str, Interval] = field(default_factory=dict)
    recall_changes: list[dict[str, Any]] = field(default_factory=list)
    retrieval: dict[str, Any] | None = None
    ranking: dict[str, dict[str, Any]] | None = None

    @property
    def map_drop(self) -> float | None:
        """Mean average precision lost in the worse of the two searches; None where none was measured."""
        if self.ranking is None:
            return None
        return max(0.0 - search["map"]["delta"] for search in self.ranking.values())


def compare_decisions(
    reference: np.ndarray,
    candidate: np.ndarray,
    vocabulary: Vocabulary,
    before: Vocabulary | None = None,
    gallery: Gallery | None = None,
) -> Decisions:
    """Compare what two arrays of embeddings (N, D), finite, say about the images.

    Args:
        reference: taken as right.
        candidate: judged.
        vocabulary: the labels, and how they are decided between.
        before: how the reference decides between the same labels, where that is another way.
        gallery: what the images search; None where they search each other.
    """
    before = before or vocabulary
    scores = before.scores(reference), vocabulary.scores(candidate)
    best = [table.argmax(axis=1) for table in scores]
    margins = [margin(table) for table in scores]
    changed = best[0] != best[1]
    tied = changed & before.ties(scores[0])
    flips = [
        {
            "path": vocabulary.paths[i],
            "true": vocabulary.names[vocabulary.labels[i]] if vocabulary.labels[i] >= 0 else None,
            "reference": vocabulary.names[best[0][i]],
            "candidate": vocabulary.names[best[1][i]],
            "reference_margin": float(margins[0][i]),
            "candidate_margin": float(margins[1][i]),
            "tie": bool(tied[i]),
        }
        for i in np.flatnonzero(changed)
    ]
    n = len(changed)
    found = Decisions(
        top1_agreement=float(1 - changed.mean()),
        top5_agreement=same_top(*scores) if len(vocabulary.names) >= TOP else None,
        agreement=1 - int((changed & ~tied).sum()) / n,
        flips=flips,
        score_shift=float(np.abs(scores[0] - scores[1]).max()),
    )
    labelled = vocabulary.labels >= 0
    if not labelled.any():
        return found
    if not vocabulary.class_scores:
        changes = retrieval_changes(reference, candidate, vocabulary.labels, vocabulary.text, gallery)
        found = replace(found, retrieval=changes)
        if vocabulary.of_objects:
            ranking = ranking_changes(reference, candidate, vocabulary.labels, gallery)
            found = replace(found, ranking=ranking)
    metrics = {"reference": before.metrics(reference), "candidate": vocabulary.metrics(candidate)}
    return with_accuracy(found, metrics, vocabulary, scores, tied)


def with_accuracy(
    found: Decisions,
    metrics: dict[str, dict[str, float]],
    vocabulary: Vocabulary,
    scores: tuple[np.ndarray, np.ndarray],
    tied: np.ndarray,
) -> Decisions:
    """Return the decisions with what they mean for accuracy."""
    labels, labelled = vocabulary.labels, vocabulary.labels >= 0
    known = labels[labelled]
    right = [(table.argmax(axis=1) == labels)[labelled] for table in scores]
    counted = np.where(tied[labelled], right[0], right[1])
    hidden = np.array([name in vocabulary.unseen for name in vocabulary.names])[known]
    intervals = {"top1": difference_interval(right[0], right[1])}
    if len(vocabulary.names) >= TOP:
        among = [ranks(table[labelled], known) < TOP for table in scores]
        intervals["top5"] = difference_interval(among[0], among[1])
    was, now = metrics["reference"], metrics["candidate"]
    delta = {key: now[key] - was[key] for key in was if key in now and key != "images"}
    return replace(
        found,
        metrics=metrics | {"delta": delta},
        drop=float(right[0].mean() - counted.mean()),
        interval=intervals["top1"],
        mcnemar_p=mcnemar_p(int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())),
        intervals=intervals | class_intervals(known, right[0], right[1], hidden),
        recall_changes=recall_changes(vocabulary.names, known, right[0], right[1]),
    )


def recall_changes(
    names: Sequence[str], labels: np.ndarray, before: np.ndarray, after: np.ndarray
) -> list[dict[str, Any]]:
    """Return the classes whose recall changed, the largest loss first.

    Args:
        names: of the classes.
        labels: (N,) the true class of each image.
        before: bool (N,), whether the reference is right.
        after: the same of the candidate.
    """
    images, was, now = (
        np.bincount(labels, weights=kept, minlength=len(names))
        for kept in (np.ones(len(labels)), before, after)
    )
    changed = [
        {
            "label": names[int(row)],
            "images": int(images[row]),
            "reference": was[row] / images[row],
            "candidate": now[row] / images[row],
            "delta": (now[row] - was[row]) / images[row],
        }
        for row in np.flatnonzero(was != now)
    ]
    return sorted(changed, key=lambda told: (told["delta"], told["label"]))


def margin(scores: np.ndarray) -> np.ndarray:
    """Return best less second best of each row (N, K); infinity where there is one label only."""
    if scores.shape[1] == 1:
        return np.full(len(scores), np.inf)
    second, first = np.partition(scores, -2, axis=1)[:, -2:].T
    return first - second


def same_top(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Return the share of rows whose five best columns are the same set."""
    chosen = [
        np.sort(np.argsort(-table, axis=1, kind="stable")[:, :TOP], axis=1)
        for table in (reference, candidate)
    ]
    return float((chosen[0] == chosen[1]).all(axis=1).mean())
