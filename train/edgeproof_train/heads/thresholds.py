"""How sure a step of a cascade has to be, chosen on validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeproof_deploy.runtime.cascade_step import NEVER

ROUNDS = 20


@dataclass(frozen=True)
class Trial:
    """What a step says of N validation images, whether or not they would reach it.

    Attributes:
        may: (N,) bool, its best label is among its answers.
        confidence: (N,) probability of its best label.
        right: (N,) bool, its best label is the true one.
        owned: (N,) bool, the true label is among its answers.
    """

    may: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    owned: np.ndarray


def choose_thresholds(
    trials: Sequence[Trial],
    fixed: Sequence[float | None],
    weights: np.ndarray | None = None,
    false_answers: float = 0.05,
) -> list[float]:
    """Return the thresholds with which a switching cascade gets most images right.

    Of one step with the others given, the best threshold is found exactly: its images in the order of
    falling confidence, as far down as what it gets right exceeds most what the later steps would. The steps
    take turns until nothing changes; each turn keeps or raises the score. Of equally good thresholds the one
    that answers most images wins, for they cost no later step.

    A step whose answers no validation image has, such as classes that were held out, cannot gain any. It gets
    the smallest threshold by which it takes no more than a share of the images that reach it.

    Args:
        trials: of S steps in order; the last one answers whatever reaches it.
        fixed: thresholds of the S steps that are given; None where one is to be chosen.
        weights: (N,) of the images; all equal if not given.
        false_answers: the share of images that a step without any of its own may take.

    Returns:
        S thresholds; that of the last step is 0.
    """
    count = len(trials[0].right)
    weight = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    found = [0.0 if given is None else float(given) for given in fixed]
    found[-1] = 0.0
    for _ in range(ROUNDS):
        before = list(found)
        for number in range(len(trials) - 1):
            if fixed[number] is not None:
                continue
            trial = trials[number]
            here = reached(trials[:number], found, count) & trial.may
            if not trial.owned.any():
                allowed = int(false_answers * reached(trials[:number], found, count).sum())
                found[number] = above(trial.confidence[here], allowed)
                continue
            gain = weight * (trial.right.astype(float) - later_right(trials, found, number))
            found[number] = best_cut(trial.confidence[here], gain[here])
        if found == before:
            break
    return found


def reached(trials: Sequence[Trial], thresholds: Sequence[float], count: int) -> np.ndarray:
    """Return which of the images pass all of some steps, bool (N,)."""
    passed = np.ones(count, bool)
    for trial, threshold in zip(trials, thresholds, strict=False):
        passed &= ~(trial.may & (trial.confidence >= threshold))
    return passed


def later_right(trials: Sequence[Trial], thresholds: Sequence[float], number: int) -> np.ndarray:
    """Return which images the steps after one of them get right, (N,) float, each as if it reached them."""
    right = trials[-1].right.astype(float)
    for later in range(len(trials) - 2, number, -1):
        trial = trials[later]
        answers = trial.may & (trial.confidence >= thresholds[later])
        right = np.where(answers, trial.right.astype(float), right)
    return right


def best_cut(confidence: np.ndarray, gain: np.ndarray) -> float:
    """Return the threshold that keeps the images whose gains sum to most; 0 where it keeps them all."""
    if not len(confidence):
        return 0.0
    order = np.argsort(-confidence, kind="stable")
    sure, summed = confidence[order], np.append(0.0, np.cumsum(gain[order]))
    # Images of equal confidence stay together.
    cuts = np.append(True, np.append(sure[1:] < sure[:-1], True))
    summed = np.where(cuts, summed, -np.inf)
    kept = len(summed) - 1 - int(np.argmax(summed[::-1] >= summed.max() - 1e-9))
    return cut_after(sure, kept)


def above(confidence: np.ndarray, allowed: int) -> float:
    """Return the smallest threshold, halfway between two images, that keeps no more than some of them."""
    sure = np.sort(confidence)[::-1]
    kept = min(allowed, len(sure))
    while 0 < kept < len(sure) and sure[kept] == sure[kept - 1]:
        kept -= 1
    return cut_after(sure, kept)


def cut_after(falling: np.ndarray, kept: int) -> float:
    """Return a threshold that keeps the first of some falling confidences."""
    if kept == len(falling):
        return 0.0
    return NEVER if kept == 0 else float((falling[kept - 1] + falling[kept]) / 2)
