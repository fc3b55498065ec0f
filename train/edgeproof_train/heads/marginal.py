"""Which class marginal soft labels are balanced to: given, or chosen by how the images lie."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgeproof_train.heads.prior import effective_classes
from edgeproof_train.heads.proxies import ProxyProblem, accelerate
from edgeproof_train.heads.sinkhorn import SoftLabels, class_sums, column_factors

SAMPLE = 5000
"""Most images that a choice looks at."""
NEIGHBOURS = 5
STEPS = 40
"""Passes over the sample for each marginal that is tried."""
EVEN = 0.8
"""Share of effective classes from which on a more even marginal is tried."""
SPARSE = 0.6
"""Share of effective classes below which the marginal is counted again from the proxies' answers."""
LOST = 0.015
"""Most agreement with neighbours that a more even marginal may cost."""


class Marginal(NamedTuple):
    """A class marginal and why it is the one.

    Attributes:
        marginal: (K,) float64, sums to 1.
        name: `uniform`, `pseudo 0.5`, `pseudo 1`, `counted`, ...
        effective: share of effective classes in the mean probabilities.
        note: the choice in words.
    """

    marginal: np.ndarray
    name: str
    effective: float
    note: str


class Fit(NamedTuple):
    """How well the answers under one marginal agree with how the images lie.

    Attributes:
        explained: mean cosine of an image to the mean of the others that got its class.
        agreement: share of an image's nearest neighbours that got its class.
        answers: (N,) classes.
    """

    explained: float
    agreement: float
    answers: np.ndarray


def tempered(masses_K: np.ndarray, gamma: float) -> np.ndarray:
    """Return `masses^gamma`, normalised: 0 is uniform, 1 the masses (InMaP, arXiv 2310.19752)."""
    raised = np.ones(len(masses_K)) if gamma == 0 else masses_K**gamma
    return raised / raised.sum()


def chosen_marginal(
    features_ND: np.ndarray,
    text_KD: np.ndarray,
    temperature: float,
    proxy_temperature: float,
    confident: float,
    seed: int = 0,
) -> Marginal:
    """Return the marginal under which proxies explain the images best, found without a label.

    A uniform marginal gains where classes are balanced and does much harm where they are not; the mean of
    the probabilities hardly ever harms. So the mean (gamma 1) stands unless an evener marginal (gamma 0.5
    or 0) leaves images at least as near to the others of their class and splits few neighbours: under
    imbalance it breaks large groups of images up between classes, which both show. Where few classes occur
    the mean overstates the others; there the answers of the first proxies are counted instead.
    """
    sample = sampled(features_ND, seed)
    labels = SoftLabels(sample, text_KD, temperature)
    masses = labels.masses()
    effective = effective_classes(masses) / len(masses)
    said = f"effective classes {effective:.2f} of all"

    def tried(marginal_K: np.ndarray) -> Fit:
        sums = class_sums(labels, column_factors(labels, marginal_K), confident)
        problem = ProxyProblem(sample, sums, proxy_temperature)
        return fit_of(sample, accelerate(problem, text_KD, steps=STEPS).weight, near)

    whole = (
        SoftLabels(features_ND, text_KD, temperature).masses() if len(sample) < len(features_ND) else masses
    )
    if len(sample) < 2 or SPARSE <= effective < EVEN:
        return Marginal(whole, "pseudo 1", effective, f"{said}: the mean of the probabilities")
    near = neighbours(sample)
    first = tried(tempered(masses, 1))
    if effective < SPARSE:
        counted = np.bincount(first.answers, minlength=len(masses)) + 1 / len(masses)
        return Marginal(counted / counted.sum(), "counted", effective, f"{said}: counted from first answers")
    best, gamma = first, 1.0
    for evener in (0.5, 0.0):
        found = tried(tempered(masses, evener))
        if found.agreement > first.agreement - LOST and found.explained >= best.explained:
            best, gamma = found, evener
    kept = f"the images are explained best by gamma {gamma:g}"
    return Marginal(tempered(whole, gamma), f"pseudo {gamma:g}", effective, f"{said}: {kept}")


def sampled(features_ND: np.ndarray, seed: int) -> np.ndarray:
    """Return at most `SAMPLE` rows, drawn with a seed, in their order."""
    if len(features_ND) <= SAMPLE:
        return features_ND
    rows = np.random.default_rng(seed).choice(len(features_ND), SAMPLE, replace=False)
    return features_ND[np.sort(rows)]


def neighbours(features_ND: np.ndarray) -> np.ndarray:
    """Return the positions (N, k) of each row's nearest others by cosine, k at most `NEIGHBOURS`."""
    count = len(features_ND)
    k = min(NEIGHBOURS, count - 1)
    found = np.empty((count, k), np.int64)
    for start in range(0, count, 512):
        part = features_ND[start : start + 512] @ features_ND.T
        own = np.arange(len(part))
        part[own, start + own] = -np.inf
        found[start : start + 512] = np.argpartition(-part, k - 1, axis=1)[:, :k]
    return found


def fit_of(features_ND: np.ndarray, weight_KD: np.ndarray, near_Nk: np.ndarray) -> Fit:
    """Return how the answers of some proxies agree with how the images lie."""
    answers = (features_ND @ weight_KD.T).argmax(axis=1)
    counts = np.bincount(answers, minlength=len(weight_KD))
    sums = np.zeros(weight_KD.shape)
    np.add.at(sums, answers, features_ND)
    others = sums[answers] - features_ND
    lengths = np.linalg.norm(others, axis=1)
    alone = counts[answers] < 2
    cosines = (others * features_ND).sum(axis=1) / np.where(alone, 1, np.maximum(lengths, 1e-12))
    overall = features_ND @ features_ND.mean(axis=0)
    explained = float(np.where(alone, overall, cosines).mean())
    return Fit(explained, float((answers[near_Nk] == answers[:, None]).mean()), answers)
