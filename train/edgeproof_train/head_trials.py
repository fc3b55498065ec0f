"""Heads of several kinds fitted on the same features, over several draws of shots, each scored on test once.

Settings are chosen on val alone. Of few shots val is small, too: at most four images a class, and not more
than there are shots (arXiv 2404.02285), unless all of val is asked for.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from scipy.stats import t as student_t

from edgeproof_configs.errors import DataError
from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import HeadConfig
from edgeproof_data.shots import draw_shots
from edgeproof_train.heads.evidence import Evidence, Rows, evidence_of
from edgeproof_train.heads.fitted import FittedKind
from edgeproof_train.heads.fitting import why_not
from edgeproof_train.metrics import classifier_metrics
from edgeproof_train.unseen_heads import fit_for_run, why_not_unseen

ValProtocol = Literal["few", "full", "none"]
MOST_FEW = 4
"""Images of each class that a small val has at most."""


@dataclass(frozen=True)
class Pool:
    """Labelled features to draw from.

    Attributes:
        rows: features (N, D) and labels (N,).
        names: N names of the images, by which they are drawn.
    """

    rows: Rows
    names: tuple[str, ...]

    def draw(self, count: int | None, seed: int) -> Rows:
        """Return at most `count` rows of each class; all for None."""
        at = draw_shots(self.names, self.rows.labels, count, seed)
        return Rows(self.rows.features[at], self.rows.labels[at])


@dataclass(frozen=True)
class FeatureSets:
    """All that trials of heads need of a data set.

    Attributes:
        names: K classes.
        test: scored once a trial.
        train: images that shots are drawn from.
        stored: draws that were made before, by how many shots of each class they have.
        val: images that settings are chosen on.
        text: (K, D) embeddings of the class names.
        unseen: classes that are in test only.
        logit_scale: factor on cosines between image and text.
        said: what was changed when they were read, in words.
    """

    names: tuple[str, ...]
    test: Rows
    train: Pool | None = None
    stored: Mapping[int, Rows] = field(default_factory=dict)
    val: Pool | None = None
    text: np.ndarray | None = None
    unseen: Collection[str] = ()
    logit_scale: float = 100.0
    said: tuple[str, ...] = ()

    def per_class(self, count: int | None, drawn: bool) -> np.ndarray:
        """Return how many labelled images of each class shots are taken of, (K,)."""
        stored = self.train is None or (not drawn and count in self.stored)
        rows = self.shots(count, 0, drawn) if stored or self.train is None else self.train.rows
        return np.bincount(rows.labels, minlength=len(self.names))

    def one_draw(self, count: int | None, drawn: bool) -> bool:
        """Whether every draw of so many shots is the same: that of all there are."""
        stored = self.train is None or (not drawn and count in self.stored)
        return stored or count is None or count >= self.per_class(count, drawn).max()

    def by_seed(self, count: int | None, protocol: ValProtocol, drawn: bool) -> bool:
        """Whether another seed may give other shots or other images of val."""
        if not self.one_draw(count, drawn):
            return True
        most = few(count, protocol)
        if self.val is None or protocol == "none" or most is None:
            return False
        return bool(np.bincount(self.val.rows.labels).max() > most)

    def shots(self, count: int | None, seed: int, drawn: bool) -> Rows:
        """Return a draw of shots: a new one, or the one that was made before.

        Raises:
            DataError: there is no such draw, and nothing to draw from.
        """
        if self.train is not None and (drawn or count not in self.stored):
            return self.train.draw(count, seed)
        if count is None or count not in self.stored:
            there = ", ".join(map(str, sorted(self.stored))) or "none"
            raise DataError(f"there are no {count} shots of each class; there are: {there}", fix="--shots")
        return self.stored[count]

    def evidence(self, count: int | None, seed: int, protocol: ValProtocol, drawn: bool) -> Evidence:
        """Return what heads are fitted on in one trial; test images at most without labels."""
        shots = self.shots(count, seed, drawn)
        val = self.val and self.val.draw(few(count, protocol), seed) if protocol != "none" else None
        return evidence_of(
            self.names,
            features=shots.features,
            labels=shots.labels,
            text=self.text,
            unlabelled=self.test.features,
            val_features=val and val.features,
            val_labels=val and val.labels,
            logit_scale=self.logit_scale,
        )


def few(count: int | None, protocol: ValProtocol) -> int | None:
    """Return how many images of each class of val are looked at; None for all."""
    return None if protocol == "full" or count is None else min(count, MOST_FEW)


@dataclass(frozen=True)
class Trial:
    """How one kind of head did with one number of shots.

    Attributes:
        kind: of the head, as it was asked for.
        shots: of each class; None for all training images.
        figures: `{metric: value of each draw}`, shares.
        seconds: of fitting, each draw.
        chosen: settings of the first draw.
        notes: what was changed in the features, and what the fits said.
        given: plain data about a draw: how many images, of one class at least and at most, and the classes
            with fewer than `shots`.
        val_images: that settings were chosen on in each draw; 0 where the kind looks at none.
        transductive: whether it saw the test images, without labels.
        reason: why it could not be fitted.
    """

    kind: str
    shots: int | None
    figures: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    chosen: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    val_images: int = 0
    transductive: bool = False
    reason: str = ""

    def summary(self, metric: str) -> tuple[float, float | None]:
        """Return mean and half of the 95 % interval of a metric over the draws; None for one draw."""
        values = self.figures[metric]
        return statistics.fmean(values), half_interval(values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        from edgeproof_train.head_stage import plain

        told: dict[str, Any] = {"kind": self.kind, "shots": self.shots, "given": dict(self.given)}
        told["transductive"] = self.transductive
        if self.reason:
            return told | {"reason": self.reason}
        figures = {
            name: {"mean": statistics.fmean(values), "half_interval": half_interval(values), "values": values}
            for name, values in self.figures.items()
        }
        fitted = {"fit_seconds": self.seconds, "chosen": plain(self.chosen), "notes": list(self.notes)}
        draws = {"tasks": len(self.seconds), "val_images": self.val_images}
        return told | draws | {"figures": figures, **fitted}


def half_interval(values: Sequence[float]) -> float | None:
    """Return half the width of the 95 % interval of a mean, by Student's t; None for one value."""
    n = len(values)
    if n < 2:
        return None
    return float(student_t.ppf(0.975, n - 1)) * statistics.stdev(values) / n**0.5


def run_trials(
    sets: FeatureSets,
    heads: Mapping[str, HeadConfig],
    shots: Sequence[int | None],
    *,
    tasks: int,
    seed: int,
    protocol: ValProtocol = "few",
    drawn: bool = True,
    report: Callable[[str, int | None], None] = lambda kind, count: None,
) -> list[Trial]:
    """Fit every kind on every number of shots, `tasks` times, and score each head on test.

    Args:
        sets: features.
        heads: configs by the name that they are shown under.
        shots: how many of each class; None for all training images.
        tasks: draws; draw t has the seed `seed + t`. Where all images are taken there is one draw.
        seed: of the first draw.
        protocol: how many images of val settings are chosen on.
        drawn: draw anew where there is something to draw from; else take the draws made before.
        report: is told what begins.
    """
    found: list[Trial] = []
    for count in shots:
        # Of all kinds the draws are the same: their figures can be compared pair by pair.
        draws = 1 if sets.one_draw(count, drawn) else tasks
        given = [sets.evidence(count, seed + task, protocol, drawn) for task in range(draws)]
        for name, config in heads.items():
            report(name, count)
            found.append(trial(sets, name, config, count, given))
    return found


def trial(
    sets: FeatureSets, name: str, config: HeadConfig, count: int | None, given: Sequence[Evidence]
) -> Trial:
    """Fit one kind on each piece of evidence and score each head on test."""
    kind: Any = component_class("head", config.kind)
    asked = kind.asked(config) if issubclass(kind, FittedKind) else None
    first = given[0]
    made = Trial(
        name,
        count,
        given=draw_told(first, count, sets.unseen),
        val_images=len(first.val.labels) if asked and "val" in asked.parts and first.val else 0,
        transductive=asked is not None and asked.transductive,
    )
    reason = why_not(config, first) or why_not_unseen(config, first, sets.unseen)
    if reason is not None:
        return replace(made, reason=reason)
    figures: dict[str, list[float]] = {}
    seconds: list[float] = []
    chosen: dict[str, Any] = {}
    notes: list[str] = []
    for evidence in given:
        began = time.perf_counter()
        try:
            fitted = fit_for_run(config, evidence, sets.unseen)
        except DataError as error:
            return replace(made, reason=error.what)
        seconds.append(time.perf_counter() - began)
        scores = fitted.head.logits(sets.test.features)
        for metric, value in classifier_metrics(scores, sets.test.labels, sets.names, sets.unseen).items():
            figures.setdefault(metric, []).append(value)
        chosen = chosen or fitted.chosen
        notes += [*sets.said, *evidence.said, *fitted.notes]
    told = tuple(dict.fromkeys(notes))
    return replace(made, figures=figures, seconds=seconds, chosen=chosen, notes=told)


def draw_told(evidence: Evidence, count: int | None, unseen: Collection[str] = ()) -> dict[str, Any]:
    """Return what a draw of shots came to, as plain data; classes held out on purpose are not looked at.

    Args:
        evidence: with the draw.
        count: shots of each class that were asked for; None for all.
        unseen: classes that were held out.
    """
    if evidence.shots is None:
        return {}
    counts = np.bincount(evidence.shots.labels, minlength=len(evidence.names))
    known = {name: int(n) for name, n in zip(evidence.names, counts, strict=True) if name not in unseen}
    short = {name: n for name, n in known.items() if count is not None and n < count}
    told = {"images": int(counts.sum()), "fewest": min(known.values(), default=0)}
    told["most"] = max(known.values(), default=0)
    return told | ({"classes_with_fewer": short} if short else {})
