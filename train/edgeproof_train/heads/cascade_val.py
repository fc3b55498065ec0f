"""What validation says of the steps of a cascade: how far to trust each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeproof_deploy.runtime.cascade_step import NEVER, Ask, Step
from edgeproof_train.calibration import HIGHEST, LOWEST, fit_temperature
from edgeproof_train.heads.evidence import Rows
from edgeproof_train.heads.thresholds import Trial, choose_thresholds


@dataclass(frozen=True)
class Calibrated:
    """Steps with temperatures and thresholds, and what a reader should know of them.

    Attributes:
        steps: in order.
        notes: in words.
    """

    steps: tuple[Step, ...]
    notes: tuple[str, ...]


def calibrated(
    steps: Sequence[Step],
    names: Sequence[str],
    given: Sequence[float | None],
    val: Rows,
    ask: Ask | None,
    *,
    mean_per_class: bool = False,
    false_answers: float = 0.05,
) -> Calibrated:
    """Return the steps with a temperature each, by the likelihood of val, and the thresholds.

    A specialist that answers last is asked about validation images of its own classes only: of others it is
    wrong whatever it says.

    Args:
        steps: S of them, with temperature 1.
        names: of the steps, for notes.
        given: thresholds that are set; None where one is to be chosen.
        val: features and labels, on which heads may have been chosen too.
        ask: gives the scores of specialists for rows of val; None where there are none.
        mean_per_class: whether every class counts the same, however many images it has.
        false_answers: as `choose_thresholds` has it.
    """
    found: list[Step] = []
    notes: list[str] = []
    trials: list[Trial] = []
    for number, (step, name) in enumerate(zip(steps, names, strict=True)):
        last = number == len(steps) - 1
        own = np.isin(val.labels, step.rows)
        about = np.flatnonzero(own) if step.specialist and last else np.arange(len(own))
        logs = step.log_shares(val.features, about, ask)
        temperature = temperature_of(logs[own[about]], step.rows, val.labels[about][own[about]])
        if temperature is None:
            notes.append(f"{name}: no temperature can be found on val, its probabilities stay as they are")
        step = replace(step, temperature=temperature or 1.0)
        found.append(step)
        trials.append(trial_of(step, logs / step.temperature, about, val.labels))
        if not last and given[number] is None and not trials[-1].owned.any():
            notes.append(
                f"{name}: val has no image of its answers; its threshold lets it take"
                f" {100 * false_answers:g} % of the others that reach it"
            )
    weights = class_weights(val.labels) if mean_per_class else None
    thresholds = choose_thresholds(trials, given, weights, false_answers)
    for name, threshold in zip(names, thresholds, strict=True):
        if threshold >= NEVER:
            notes.append(f"{name}: never answers, val is better without it")
    return Calibrated(
        tuple(replace(step, threshold=value) for step, value in zip(found, thresholds, strict=True)),
        tuple(notes),
    )


def temperature_of(logs: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the temperature with the least nll; None where there is no image, or no minimum.

    Where every image is right, or none better than by chance, any smaller or larger temperature is likelier.
    """
    if not len(labels) or len(rows) < 2:
        return None
    place = np.full(rows.max() + 1, -1)
    place[rows] = np.arange(len(rows))
    temperature = fit_temperature(logs, place[labels])
    return temperature if LOWEST < temperature < HIGHEST else None


def trial_of(step: Step, logs: np.ndarray, about: np.ndarray, labels: np.ndarray) -> Trial:
    """Return what a step says of N images, of which it looked at some."""
    shares = logs - logs.max(axis=1, keepdims=True)
    best, confidence = logs.argmax(axis=1), 1 / np.exp(shares).sum(axis=1)
    may, right, sure = (np.zeros(len(labels), kind) for kind in (bool, bool, float))
    may[about], sure[about] = step.answers[best], confidence
    right[about] = step.rows[best] == labels[about]
    return Trial(may, sure, right, np.isin(labels, step.rows[step.answers]))


def class_weights(labels: np.ndarray) -> np.ndarray:
    """Return a weight for each image, (N,), with which every class counts the same."""
    return 1.0 / np.bincount(labels)[labels]
