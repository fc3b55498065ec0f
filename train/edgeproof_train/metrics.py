"""Accuracy of a classifier and closeness to a teacher, on numpy arrays; shares lie between 0 and 1."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

TOP_K = (1, 5)
BLOCK_SCORES = 1 << 23
"""Scores that are held at a time, 64 MB: of 250,000 classes those of 33 images."""


def ranks(scores_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Return how many classes stand before the true one, int64 (N,).

    Classes are ordered by score, equal scores by position, so that the answer does not depend on a sort's
    whims and a classifier that gives every class the same score is right only where the label is 0.

    Raises:
        ValueError: a score is NaN, or a label is no column.
    """
    scores, labels = np.asarray(scores_NK), np.asarray(labels_N)
    if scores.ndim != 2 or labels.shape != (len(scores),):
        raise ValueError(f"expected scores (N, K) and labels (N,), got {scores.shape} and {labels.shape}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < scores.shape[1]:
        raise ValueError(f"labels must be 0 to {scores.shape[1] - 1}, got {labels.min()} to {labels.max()}")
    if np.isnan(scores).any():
        raise ValueError("scores are NaN")
    own = scores[np.arange(len(scores)), labels][:, None]
    before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < labels[:, None]))
    return before.sum(axis=1)


def topk_accuracy(scores_NK: np.ndarray, labels_N: np.ndarray, k: int = 1) -> float:
    """Return the share of rows whose true class is among the k first.

    Raises:
        ValueError: there are fewer than k classes, or no rows.
    """
    if not 1 <= k <= np.shape(scores_NK)[1]:
        raise ValueError(f"top-{k} needs at least {k} classes, got {np.shape(scores_NK)[1]}")
    return _share(ranks(scores_NK, labels_N) < k)


def mean_per_class(true_N: np.ndarray, predicted_N: np.ndarray) -> float:
    """Return the mean, over the classes that occur in `true_N`, of the share of their rows that is right."""
    true, right = np.asarray(true_N), np.asarray(true_N) == np.asarray(predicted_N)
    return float(np.mean([_share(right[true == label]) for label in np.unique(true)]))


def confusion(true_N: np.ndarray, predicted_N: np.ndarray, classes: int) -> np.ndarray:
    """Return counts int64 (K, K): row = true class, column = predicted class."""
    flat = np.asarray(true_N, np.int64) * classes + np.asarray(predicted_N, np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def cosine(first_ND: np.ndarray, second_ND: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows, (N,) float64; 0 where a row is zero."""
    if np.shape(first_ND) != np.shape(second_ND):
        raise ValueError(f"expected equal shapes, got {np.shape(first_ND)} and {np.shape(second_ND)}")
    return (unit_rows(first_ND) * unit_rows(second_ND)).sum(axis=1)


def unit_rows(rows_ND: np.ndarray) -> np.ndarray:
    """Return the rows divided by their length, float64; rows of zeros stay."""
    wide = np.asarray(rows_ND, np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(np.float64).tiny)


def cosines_to(text_KD: np.ndarray | None, embeddings_ND: np.ndarray) -> np.ndarray:
    """Return the cosines (N, K), float64, of embeddings to text embeddings.

    Without text embeddings the space is that of class scores, in which each class is an axis: its cosine is
    the score divided by the length of all of them, which leaves their order as it is.
    """
    unit = unit_rows(embeddings_ND)
    return unit if text_KD is None else unit @ unit_rows(text_KD).T


def harmonic_mean(seen: float, unseen: float) -> float:
    """Return `2 S U / (S + U)`, 0 if both are 0."""
    return 2 * seen * unseen / (seen + unseen) if seen + unseen else 0.0


def classifier_metrics(
    scores_NK: np.ndarray, labels_N: np.ndarray, names: Sequence[str], unseen: Collection[str] = ()
) -> dict[str, float]:
    """Return how well scores pick the true class, every class being a candidate for every image.

    `seen` and `unseen` are means per class over the images of classes that were trained on, and of those
    that were held out (arXiv 1707.00600).

    Args:
        scores_NK: any scores, larger is likelier.
        labels_N: true columns; rows with -1 are left out.
        names: K class names.
        unseen: names of classes that were held out of training.

    Returns:
        `images` (how many were counted), `top1`, `top5` (from five classes on), `mean_per_class`; and
        `seen`, `unseen`, `harmonic_mean` where held-out classes occur among the labels.

    Raises:
        ValueError: no row has a label, or shapes and names do not fit.
    """
    labels = np.asarray(labels_N)
    labelled = labels >= 0
    scores, labels = np.asarray(scores_NK)[labelled], labels[labelled]
    if scores.shape[1:] != (len(names),):
        raise ValueError(f"expected scores (N, {len(names)}), a column for each name, got {scores.shape}")
    return accuracies(ranks(scores, labels), scores.argmax(axis=1), labels, names, unseen)


def accuracies(
    rank_N: np.ndarray,
    predicted_N: np.ndarray,
    labels_N: np.ndarray,
    names: Sequence[str],
    unseen: Collection[str] = (),
) -> dict[str, float]:
    """Return what `classifier_metrics` does, of rows that all have a label.

    Args:
        rank_N: how many classes stand before the true one, as `ranks` counts.
        predicted_N: the first class.
        labels_N: the true one.
        names: K class names.
        unseen: names of classes that were held out of training.

    Raises:
        ValueError: there are no rows.
    """
    if not len(labels_N):
        raise ValueError("no image has a label among the candidates: nothing can be counted")
    found = {"images": float(len(labels_N))}
    found |= {f"top{k}": _share(rank_N < k) for k in TOP_K if k <= len(names)}
    found["mean_per_class"] = mean_per_class(labels_N, predicted_N)
    hidden = np.array([name in unseen for name in names])[labels_N]
    if hidden.any():
        found["unseen"] = mean_per_class(labels_N[hidden], predicted_N[hidden])
    if hidden.any() and not hidden.all():
        found["seen"] = mean_per_class(labels_N[~hidden], predicted_N[~hidden])
        found["harmonic_mean"] = harmonic_mean(found["seen"], found["unseen"])
    return found


def ranked(
    text_KD: np.ndarray | None, embeddings_ND: np.ndarray, labels_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many words are nearer than the true one, and the nearest word, each int64 (N,).

    The cosines (N, K) are looked at in blocks of rows: with 250,000 classes those of a few thousand images
    would not fit into memory.
    """
    text = None if text_KD is None else unit_rows(text_KD)
    count = np.shape(embeddings_ND)[1] if text is None else len(text)
    rows = max(1, BLOCK_SCORES // max(1, count))
    rank, best = np.empty(len(labels_N), np.int64), np.empty(len(labels_N), np.int64)
    for start in range(0, len(labels_N), rows):
        block = slice(start, start + rows)
        unit = unit_rows(embeddings_ND[block])
        scores = unit if text is None else unit @ text.T
        rank[block], best[block] = ranks(scores, labels_N[block]), scores.argmax(axis=1)
    return rank, best


def nearest(text_KD: np.ndarray | None, embeddings_ND: np.ndarray) -> np.ndarray:
    """Return the word nearest to each embedding, int64 (N,); see `cosines_to` for what no words mean."""
    return ranked(text_KD, embeddings_ND, np.zeros(len(embeddings_ND), np.int64))[1]


def zero_shot_metrics(
    embeddings_ND: np.ndarray,
    labels_N: np.ndarray,
    text_KD: np.ndarray | None,
    names: Sequence[str],
    unseen: Collection[str] = (),
    teacher_ND: np.ndarray | None = None,
) -> dict[str, float]:
    """Return how well embeddings find the words for their images, and how near they are to the teacher's.

    Args:
        embeddings_ND: image embeddings, of any length.
        labels_N: row in `text_KD` of each image's class; -1 where the image has no label or its class no
            words.
        text_KD: text embeddings of the candidates; None where embeddings are the candidates' scores.
        names: the candidates.
        unseen: candidates that were held out of training.
        teacher_ND: the teacher's embeddings of the same images.

    Returns:
        What `classifier_metrics` returns if any image has a label, and `cosine_mean` over all images if
        there is a teacher.

    Raises:
        ValueError: shapes and names do not fit, or an embedding is NaN.
    """
    found: dict[str, float] = {}
    labels = np.asarray(labels_N)
    if (labels >= 0).any():
        rows, labels = np.asarray(embeddings_ND)[labels >= 0], labels[labels >= 0]
        width = rows.shape[1] if text_KD is None else len(text_KD)
        if width != len(names):
            raise ValueError(f"expected {width} names, one for each candidate, got {len(names)}")
        rank, predicted = ranked(text_KD, rows, labels)
        found |= accuracies(rank, predicted, labels, names, unseen)
    if teacher_ND is not None:
        found["cosine_mean"] = float(cosine(embeddings_ND, teacher_ND).mean())
    return found


def head_metrics(
    logits: Callable[[np.ndarray], np.ndarray],
    embeddings_ND: np.ndarray,
    labels_N: np.ndarray,
    names: Sequence[str],
    unseen: Collection[str] = (),
    teacher_ND: np.ndarray | None = None,
) -> dict[str, float]:
    """Return what `zero_shot_metrics` does where a head decides, and not the nearest word.

    Args:
        logits: of the head: from embeddings (N, D) to scores (N, K).
        embeddings_ND: image embeddings, of any length.
        labels_N: true columns; -1 where an image has no label.
        names: K labels.
        unseen: labels that were held out of training.
        teacher_ND: the teacher's embeddings of the same images.

    Raises:
        ValueError: shapes and names do not fit, or a score is NaN.
    """
    found: dict[str, float] = {}
    labels = np.asarray(labels_N)
    labelled = labels >= 0
    if labelled.any():
        found |= classifier_metrics(logits(np.asarray(embeddings_ND)), labels, names, unseen)
    if teacher_ND is not None:
        found["cosine_mean"] = float(cosine(embeddings_ND, teacher_ND).mean())
    return found


def _share(right: np.ndarray) -> float:
    if not len(right):
        raise ValueError("there are no rows to count")
    return float(np.mean(right))
