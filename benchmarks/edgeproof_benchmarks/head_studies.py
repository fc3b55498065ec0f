"""Three questions about heads: many words at once, uneven classes, and classes without a shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgeproof_benchmarks.head_sets import FewShotSet
from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import HeadConfig
from edgeproof_deploy.runtime.head import ZeroShotHead
from edgeproof_train.heads.evidence import Rows, evidence_of
from edgeproof_train.heads.fitting import fit_kind
from edgeproof_train.heads.generalised import curve_of, fit_generalised, only
from edgeproof_train.metrics import topk_accuracy

IMAGES = 400
CONCENTRATIONS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Of the Dirichlet distributions that class frequencies are drawn from: small ones are very uneven."""


def open_vocabulary(nouns: Sequence[str], text: np.ndarray, one: FewShotSet) -> dict[str, float]:
    """Return top-1 and top-5 in % with all nouns as candidates, over images whose class is one of them."""
    places = {noun: place for place, noun in enumerate(nouns)}
    rows = np.array([places.get(name.replace("_", " "), -1) for name in one.names])[one.test.labels]
    known = rows >= 0
    scores = ZeroShotHead(tuple(nouns), text, 100.0)(one.test.features[known])
    found = {f"top{k}_percent": 100 * topk_accuracy(scores, rows[known], k) for k in (1, 5)}
    return {"images": int(known.sum()), "nouns": len(nouns), **{key: round(v, 2) for key, v in found.items()}}


def imbalance_study(one: FewShotSet, draws: int) -> dict[str, Any]:
    """Return by how many points InMaP is above zero-shot, for test images drawn with uneven classes.

    Returns:
        For each way of `uneven`, mean and lowest gain in points over the draws, that of a uniform prior for
        comparison, half the width of the 95 % interval of one accuracy, how many draws lost more than that of
        their own, and the effective classes.
    """
    if one.text is None:
        raise ValueError("zero-shot needs text")
    return {name: gains_of(one, samples) for name, samples in uneven(one, draws).items()}


def uneven(one: FewShotSet, draws: int) -> dict[str, list[Rows]]:
    """Return samples of the test images by how uneven their classes are, from the same seed at all times.

    For each concentration classes get frequencies from a Dirichlet distribution, and images of the test split
    are drawn by them without repeats. `natural` is the split as it is, `balanced` as many of each class.
    """
    random = np.random.default_rng(0)
    fewest = int(np.bincount(one.test.labels, minlength=len(one.names)).min())
    even = np.full(len(one.names), fewest)
    found = {"natural": [one.test], "balanced": [drawn_by(one.test, even, random) for _ in range(draws)]}
    for concentration in CONCENTRATIONS:
        samples = found[f"Dirichlet {concentration:g}"] = []
        for _ in range(draws):
            shares = random.dirichlet(np.full(len(one.names), concentration))
            samples.append(drawn_by(one.test, np.round(shares * IMAGES).astype(int), random))
    return found


def drawn_by(rows: Rows, counts_K: np.ndarray, random: np.random.Generator) -> Rows:
    """Return so many rows of each class, all of them where there are fewer."""
    at = [random.permutation(np.flatnonzero(rows.labels == k))[:n] for k, n in enumerate(counts_K)]
    chosen = np.sort(np.concatenate(at))
    return Rows(rows.features[chosen], rows.labels[chosen])


def gains_of(one: FewShotSet, samples: Sequence[Rows]) -> dict[str, Any]:
    """Return what InMaP gains over zero-shot on some samples, adapted to each without its labels."""
    ways = {"zero_shot": config_of("zero_shot"), "inmap": config_of("inmap")}
    ways["uniform"] = config_of("inmap", prior="uniform")
    found = np.array([[top1(way, one, rows) for way in ways.values()] for rows in samples])
    gains = found - found[:, :1]
    sizes = np.array([len(rows.labels) for rows in samples])
    shares = found[:, 0] / 100
    intervals = 196 * np.sqrt(shares * (1 - shares) / sizes)
    return {
        "draws": len(samples),
        "images": round(float(sizes.mean()), 1),
        "effective_classes": round(float(np.mean([effective(rows, len(one.names)) for rows in samples])), 3),
        "zero_shot_percent": round(float(found[:, 0].mean()), 2),
        "gain_mean": round(float(gains[:, 1].mean()), 2),
        "gain_lowest": round(float(gains[:, 1].min()), 2),
        "gain_mean_uniform_prior": round(float(gains[:, 2].mean()), 2),
        "interval_of_one_accuracy": round(float(intervals.mean()), 2),
        "draws_below_their_interval": int((gains[:, 1] < -intervals).sum()),
    }


def generalised_study(one: FewShotSet, kinds: Sequence[str], shots: Sequence[int]) -> dict[str, Any]:
    """Return S, U and H in % on test where every second class has no shot, with and without a chosen gamma.

    Gamma is chosen on the validation images of seen classes: `few`, as many as shots but four at most, or
    `full`. `best` is the highest H of any gamma, which only the test images know.
    """
    seen = np.arange(len(one.names)) % 2 == 0
    found: dict[str, Any] = {}
    for count in shots:
        for protocol, val in (("few", one.few_val(count, 0)), ("full", one.val)):
            evidence = one.evidence(count, val, unlabelled=False)
            known = replace(evidence, shots=only(evidence.shots, seen), val=only(evidence.val, seen))
            for kind in kinds:
                plain = fit_generalised(config_of(kind), known, gamma=0.0).head
                gamma = fit_generalised(config_of(kind), known).chosen["gamma"]
                curve = curve_of(plain(one.test.features), one.test.labels, seen)
                cell = {
                    "gamma": round(gamma, 3),
                    "seen_unseen_h": percents(curve.at(gamma)),
                    "without": percents(curve.at(0.0)),
                    "best_h": round(100 * float(curve.harmonic.max()), 2),
                    "ausuc": round(curve.area, 4),
                }
                found.setdefault(kind, {})[f"{count} shots, {protocol}"] = cell
    return found


def percents(shares: Sequence[float]) -> list[float]:
    """Return shares in %."""
    return [round(100 * share, 2) for share in shares]


def config_of(kind: str, **settings: Any) -> HeadConfig:
    """Return a kind's config."""
    return component_class("head", kind).__dict__["Config"](**settings)


def top1(config: HeadConfig, one: FewShotSet, rows: Rows) -> float:
    """Return top-1 in % of a head that adapts to the images that it is asked about."""
    evidence = evidence_of(one.names, text=one.text, unlabelled=rows.features)
    return 100 * topk_accuracy(fit_kind(config, evidence).head(rows.features), rows.labels)


def effective(rows: Rows, classes: int) -> float:
    """Return `exp(entropy) / K` of the classes' frequencies: 1 where all are equal."""
    shares = np.bincount(rows.labels, minlength=classes) / len(rows.labels)
    kept = shares[shares > 0]
    return float(np.exp(-(kept * np.log(kept)).sum()) / classes)
