"""Which layers lose the most when they are rounded, and how many have to be given back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeproof_compress.quantized_student import QuantizedStudent
from edgeproof_data.sets import ImageSet
from edgeproof_train.embeddings import embed_images

Lost = Callable[[QuantizedStudent], float]


def sensitivities(student: QuantizedStudent, images: ImageSet, device: str) -> dict[str, float]:
    """Return for each layer what rounding it alone, its weight and what it reads, does to the embedding.

    Args:
        student: calibrated; rounds as its target does again afterwards.
        images: to look at.
        device: where the student runs.

    Returns:
        1 - the mean cosine to the embedding in floating point, the largest first.
    """
    student.use(None)
    plain = unit(embed_images(student, images, device=device))
    found: dict[str, float] = {}
    for layer in student.spec.layers:
        student.use_only(layer)
        rows = unit(embed_images(student, images, device=device))
        found[layer] = float(1 - (rows * plain).sum(axis=1).mean())
    student.use(student.spec.target)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def fewest_to_return(
    student: QuantizedStudent, order: Sequence[str], lost: Lost, budget: float
) -> tuple[QuantizedStudent, list[str]]:
    """Return the student with the fewest of the most sensitive layers in floating point that is in budget.

    The number is doubled until the budget holds and then halved towards the last that did not, so that a
    network of L layers is evaluated about 2 log2(L) times.

    Args:
        student: calibrated.
        order: its layers, the most sensitive first.
        lost: how much of the figure a student loses on `val`.
        budget: the most that may be lost.

    Returns:
        The student, and the layers given back: all but the least sensitive one, where nothing less will do.
    """
    if lost(student) <= budget:
        return student, []
    failed, count = 0, 1
    most = len(order) - 1
    best = student.without(order[:most])
    held = most
    while count < most:
        tried = student.without(order[:count])
        if lost(tried) <= budget:
            best, held = tried, count
            break
        failed, count = count, 2 * count
    while held - failed > 1:
        middle = (held + failed) // 2
        tried = student.without(order[:middle])
        if lost(tried) <= budget:
            best, held = tried, middle
        else:
            failed = middle
    return best, list(order[:held])


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows (N, D) of length 1; a row of zeros stays."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
