"""Generalised zero-shot: seen and unseen classes compete for every image (arXiv 1707.00600).

S and U are means per class of the images of seen and of unseen classes, H = 2 S U / (S + U). A head that
learnt from shots of the seen classes prefers them; calibrated stacking (arXiv 1605.04253) takes a number
gamma from their scores. Here it is chosen on validation images of seen classes, some of which play unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from edgeproof_configs.errors import DataError
from edgeproof_configs.schema import HeadConfig
from edgeproof_deploy.runtime.head import Head
from edgeproof_train.heads.evidence import Evidence, Rows, require
from edgeproof_train.heads.fitted import Fitted
from edgeproof_train.heads.fitting import fit_kind, fitted_class
from edgeproof_train.heads.joined import joined, matched, shifted
from edgeproof_train.metrics import harmonic_mean

FOLDS = 6
FEWEST_SEEN = 4
"""How many seen classes there must be for some of them to play unseen ones."""


class SeenUnseen(NamedTuple):
    """Means per class, between 0 and 1, every class being a candidate for every image."""

    seen: float
    unseen: float
    harmonic_mean: float


@dataclass(frozen=True)
class Curve:
    """What seen and unseen classes reach as gamma grows.

    Attributes:
        gammas: (G,) rising; each between two places where an answer changes.
        seen: (G,) S, falling.
        unseen: (G,) U, rising.
    """

    gammas: np.ndarray
    seen: np.ndarray
    unseen: np.ndarray

    @property
    def harmonic(self) -> np.ndarray:
        """H at each gamma, (G,)."""
        total = self.seen + self.unseen
        return np.divide(2 * self.seen * self.unseen, total, out=np.zeros_like(total), where=total > 0)

    @property
    def area(self) -> float:
        """Area under U over S, from all seen to all unseen (AUSUC, arXiv 1605.04253), by trapezoids."""
        return float(np.sum((self.seen[:-1] - self.seen[1:]) * (self.unseen[:-1] + self.unseen[1:]) / 2))

    def at(self, gamma: float) -> SeenUnseen:
        """Return S, U and H where gamma is taken from the scores of seen classes."""
        middles = (self.gammas[1:] + self.gammas[:-1]) / 2
        place = int(np.searchsorted(middles, gamma))
        seen, unseen = float(self.seen[place]), float(self.unseen[place])
        return SeenUnseen(seen, unseen, harmonic_mean(seen, unseen))


def curve_of(scores_NK: np.ndarray, labels_N: np.ndarray, seen_K: np.ndarray) -> Curve:
    """Return S and U for every gamma, exactly.

    An image of a seen class is right if its class is first among the seen ones, and leads the first of the
    unseen ones by more than gamma; one of an unseen class the other way round.

    Args:
        scores_NK: of all classes.
        labels_N: true columns.
        seen_K: bool, which classes were seen.

    Raises:
        ValueError: seen or unseen classes are missing among the candidates or the images, or a score is NaN.
    """
    scores, labels, seen = np.asarray(scores_NK, np.float64), np.asarray(labels_N), np.asarray(seen_K, bool)
    of_seen = seen[labels]
    if seen.all() or not seen.any() or of_seen.all() or not of_seen.any():
        raise ValueError("there have to be seen and unseen classes, and images of both")
    if np.isnan(scores).any():
        raise ValueError("scores are NaN")
    inside = np.where(seen == of_seen[:, None], scores, -np.inf)
    right = inside.argmax(axis=1) == labels
    lead = scores[:, seen].max(axis=1) - scores[:, ~seen].max(axis=1)
    counts = np.bincount(labels, minlength=len(seen))
    present = counts > 0
    classes = np.where(of_seen, (present & seen).sum(), (present & ~seen).sum())
    share = right / (counts[labels] * classes)
    ends = np.unique(lead)
    gammas = np.concatenate([[ends[0] - 1], (ends[1:] + ends[:-1]) / 2, [ends[-1] + 1]])
    place = np.searchsorted(ends, lead)
    lost = np.bincount(place, np.where(of_seen, share, 0), len(ends)).cumsum()
    won = np.bincount(place, np.where(of_seen, 0, share), len(ends)).cumsum()
    start = share[of_seen].sum()
    return Curve(gammas, np.concatenate([[start], start - lost]).clip(0, 1), np.concatenate([[0.0], won]))


def choose_gamma(curves: Sequence[Curve]) -> float:
    """Return the gamma nearest to 0 whose mean H over some curves is within one standard error of the best.

    The error is that of the mean of the curves' differences to the best, so that few images do not speak for
    a gamma that chance prefers. Of one curve alone it is the best gamma that is nearest to 0.
    """
    gammas = np.unique(np.concatenate([[0.0], *(curve.gammas for curve in curves)]))
    found = np.array([curve.harmonic[np.searchsorted(middles(curve), gammas)] for curve in curves])
    lags = found[:, [int(found.mean(axis=0).argmax())]] - found
    errors = lags.std(axis=0) / np.sqrt(max(1, len(curves) - 1))
    good = gammas[lags.mean(axis=0) <= errors + 1e-12]
    return float(good[np.abs(good).argmin()])


def middles(curve: Curve) -> np.ndarray:
    """Return the gammas at which answers change."""
    return (curve.gammas[1:] + curve.gammas[:-1]) / 2


def fit_generalised(
    config: HeadConfig,
    evidence: Evidence,
    *,
    gamma: float | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> Fitted:
    """Return a head for seen and unseen classes: those without a shot are known by their text alone.

    Args:
        config: of the head; what it learns of seen classes stands beside the text of unseen ones.
        evidence: with text of all classes, and shots of the seen ones.
        gamma: what is taken from the scores of seen classes; chosen on `val` if not given, and 0 without it.
        folds: how often a part of the seen classes plays unseen.
        seed: of these parts.

    Returns:
        A head of all classes, gamma in its bias; `chosen` holds `gamma` beside what the head chose.

    Raises:
        DataError: text or shots are missing, every class has a shot, or too few have.
    """
    require(evidence, "text", "shots", kind=f"{config.kind} (generalised)", every_class=False)
    seen = seen_classes(evidence)
    fitted = fit_joined(config, evidence, seen)
    notes = fitted.notes
    if gamma is None and evidence.val is None:
        notes += ("gamma 0: there is no validation to choose it on",)
    elif gamma is None:
        gamma = choose_gamma(
            played_curves(lambda part, mask: fit_joined(config, part, mask).head, evidence, folds, seed)
        )
        notes += (f"gamma {gamma:.4g} chosen on validation, where seen classes played unseen ones",)
    gamma = gamma or 0.0
    return Fitted(shifted(fitted.head, -gamma * seen), fitted.chosen | {"gamma": gamma}, notes)


def seen_classes(evidence: Evidence) -> np.ndarray:
    """Return which classes have shots, bool (K,).

    Raises:
        DataError: all of them have, or fewer than four.
    """
    assert evidence.shots is not None
    seen = np.isin(np.arange(len(evidence.names)), evidence.shots.labels)
    if seen.all():
        raise DataError("every class has shots: there is no unseen class", fix="fit the head as it is")
    if seen.sum() < FEWEST_SEEN:
        raise DataError(f"{seen.sum()} classes have shots: at least {FEWEST_SEEN} are needed")
    return seen


def fit_joined(config: HeadConfig, evidence: Evidence, seen_K: np.ndarray) -> Fitted:
    """Fit a head on the seen classes and add the text of the others; one without shots knows all by text.

    Scores of seen classes are made as high and as wide as the cosines to their text are, so that one gamma
    means the same for heads of other classes.
    """
    if config.kind == "zero_shot" or "shots" not in fitted_class(config.kind).asked(config).parts:
        return fit_kind(config, evidence)
    seen = of_classes(evidence, seen_K)
    fitted, rows = fit_kind(config, seen), seen.val or seen.photos()
    assert seen.text is not None
    assert evidence.text is not None
    head = matched(fitted.head, seen.text, evidence.logit_scale, rows.features)
    return replace(fitted, head=joined(head, evidence.names, evidence.text, evidence.logit_scale))


def of_classes(evidence: Evidence, kept_K: np.ndarray) -> Evidence:
    """Return what is known of some classes only; unlabelled images stay, of whatever class they are."""
    place = np.cumsum(kept_K) - 1

    def rows(part: Rows | None) -> Rows | None:
        if part is None:
            return None
        at = kept_K[part.labels]
        return Rows(part.features[at], place[part.labels[at]]) if at.any() else None

    return replace(
        evidence,
        names=tuple(name for name, kept in zip(evidence.names, kept_K, strict=True) if kept),
        text=None if evidence.text is None else evidence.text[kept_K],
        shots=rows(evidence.shots),
        val=rows(evidence.val),
    )


def played_curves(
    fit: Callable[[Evidence, np.ndarray], Head], evidence: Evidence, folds: int = FOLDS, seed: int = 0
) -> list[Curve]:
    """Return the curves of heads for which a part of the seen classes played unseen ones.

    Of the seen classes alone, as many play unseen as the real unseen ones are to all, at most half; a head is
    fitted without their shots and their validation images, and all validation images are scored.

    Args:
        fit: from evidence and which of its classes are seen to a head of all of them.
        evidence: with text, shots of the seen classes and `val`.
        folds: how often.
        seed: of the parts.

    Raises:
        DataError: no validation image is of a class that is seen.
    """
    assert evidence.val is not None
    seen = seen_classes(evidence)
    known = of_classes(evidence, seen)
    if known.val is None:
        raise DataError("no validation image is of a class with shots")
    count = len(known.names)
    playing = int(np.clip(round(count * (1 - seen.mean())), 1, count // 2))
    random, curves = np.random.default_rng(seed), []
    order = random.permutation(count)
    for fold in range(folds):
        hidden = np.roll(order, -fold * playing)[:playing]
        mask = ~np.isin(np.arange(count), hidden)
        there = mask[known.val.labels]
        if there.all() or not there.any():
            continue
        head = fit(replace(known, shots=only(known.shots, mask), val=only(known.val, mask)), mask)
        curves.append(curve_of(head(known.val.features), known.val.labels, mask))
    if not curves:
        raise DataError("validation images are of too few classes to let some of them play unseen ones")
    return curves


def only(rows: Rows | None, kept_K: np.ndarray) -> Rows:
    """Return the rows of some classes, with the labels they had."""
    assert rows is not None
    at = kept_K[rows.labels]
    return Rows(rows.features[at], rows.labels[at])
