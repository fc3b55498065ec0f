"""What became of the images of a cascade: who answered them, who should have, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeproof_deploy.runtime.cascade_head import CascadeHead, Routed
from edgeproof_deploy.runtime.cascade_step import Ask

Plain = dict[str, Any]


def step_names(cascade: CascadeHead, kinds: Sequence[str]) -> list[str]:
    """Return a name for each step: its number with the kind of its head, or its specialist."""
    return [
        f"{number} {step.specialist or kind}"
        for number, (step, kind) in enumerate(zip(cascade.steps, kinds, strict=True), 1)
    ]


def owners(cascade: CascadeHead) -> np.ndarray:
    """Return for each label the first step that may answer it, int64 (K,)."""
    found = np.full(len(cascade.labels), -1, np.int64)
    for number in reversed(range(len(cascade.steps))):
        step = cascade.steps[number]
        found[step.rows[step.answers]] = number
    return found


def with_oracle(
    cascade: CascadeHead, embeddings: np.ndarray, labels: np.ndarray, ask: Ask | None
) -> np.ndarray:
    """Return whether each image would be right if routing never erred, bool (N,).

    That is where a step that may answer the true label finds it best among all that it may answer.

    Args:
        cascade: of S steps.
        embeddings: (N, D) raw.
        labels: (N,) true rows, none below 0.
        ask: gives the scores of specialists.
    """
    found = np.zeros(len(labels), bool)
    for step in cascade.steps:
        images = np.flatnonzero(np.isin(labels, step.rows[step.answers]) & ~found)
        if len(images):
            shares = np.where(step.answers, step.log_shares(embeddings, images, ask), -np.inf)
            found[images] = step.rows[shares.argmax(axis=1)] == labels[images]
    return found


def routing_figures(
    cascade: CascadeHead,
    routed: Routed,
    labels: np.ndarray,
    names: Sequence[str],
    oracle: np.ndarray | None = None,
) -> Plain:
    """Return how well images were routed, and what wrong routes cost.

    A step's precision is the share of the images that it answered whose label it may answer. Its recall is
    the share that it answered of the images whose label it may answer, without those that went to another
    step that may answer them too. `accuracy` is the share right of those that it answered. Shares of nothing
    are None.

    Args:
        cascade: of S steps.
        routed: what it said of N images.
        labels: (N,) true rows; -1 where there is none: such images count as arrived and answered only.
        names: of the steps.
        oracle: (N,) bool, what `with_oracle` returns of the labelled images, in their order.

    Returns:
        `images`, `labelled`, `steps` (a row each), `confusion` (row: the first step that may answer the
        label, column: the one that did) and, where there are labels, `accuracy`; with `oracle`
        `oracle_accuracy` and `lost_by_routing`.
    """
    known = np.flatnonzero(labels >= 0)
    answered, true = routed.answered[known], labels[known]
    owner, best = owners(cascade)[true], routed.logits[known].argmax(axis=1)
    may = np.stack([np.isin(true, step.rows[step.answers]) for step in cascade.steps])
    well = may[answered, np.arange(len(known))]
    steps = [
        {
            "step": name,
            "arrived": int(routed.arrived[:, number].sum()),
            "answered": int((routed.answered == number).sum()),
            "threshold": cascade.steps[number].threshold,
            "precision": share(well[answered == number]),
            "recall": share((answered == number)[may[number] & ~(well & (answered != number))]),
            "accuracy": share((best == true)[answered == number]),
        }
        for number, name in enumerate(names)
    ]
    count = len(cascade.steps)
    confusion = np.bincount(owner * count + answered, minlength=count * count).reshape(count, count)
    found: Plain = {"images": len(labels), "labelled": len(known), "combine": cascade.combine}
    found |= {"steps": steps, "confusion": confusion.tolist()}
    if len(known):
        found["accuracy"] = float((best == true).mean())
    if oracle is not None and len(known):
        found["oracle_accuracy"] = float(oracle.mean())
        found["lost_by_routing"] = found["oracle_accuracy"] - found["accuracy"]
    return found


def share(kept: np.ndarray) -> float | None:
    """Return the share of true values; None of no values."""
    return float(kept.mean()) if len(kept) else None


def cost(cascade: CascadeHead, arrived: np.ndarray, student: int, specialists: Mapping[str, int]) -> Plain:
    """Return parameters, counted both ways: all that is loaded, and what a mean image makes use of.

    Args:
        cascade: its heads' numbers count as parameters.
        arrived: (N, S) bool, which steps looked at an image.
        student: parameters of the network whose embeddings the heads read.
        specialists: parameters of each specialist.

    Returns:
        `loaded`, `used_mean`, `used_most`, and `parts`: the parameters of each, and the share of images that
        use it.
    """
    shares = arrived.mean(axis=0) if len(arrived) else np.zeros(len(cascade.steps))
    parts: list[Plain] = [{"part": "student", "parameters": int(student), "share": 1.0}]
    for number, step in enumerate(cascade.steps):
        if step.head is not None:
            count = sum(array.size for array in step.head.arrays().values())
            part = f"head of step {number + 1}"
        else:
            count, part = specialists[step.specialist], step.specialist
        parts.append({"part": part, "parameters": int(count), "share": float(shares[number])})
    return {
        "loaded": sum(part["parameters"] for part in parts),
        "used_mean": sum(part["parameters"] * part["share"] for part in parts),
        "used_most": sum(part["parameters"] for part in parts if part["share"] > 0),
        "parts": parts,
    }


def time_spent(
    cascade: CascadeHead, arrived: np.ndarray, heads: float, specialists: Mapping[str, float]
) -> Plain:
    """Return milliseconds of a mean image: of the heads, of each specialist where it is asked, and of both.

    Args:
        cascade: of S steps.
        arrived: (N, S) bool, which steps looked at an image.
        heads: of all steps' heads together, a mean image.
        specialists: of each that was asked, an image that it looked at.

    Returns:
        `heads`, `specialists`, `mean` (the heads, and each specialist by the share of images that reach it)
        and `mean_of`, in words what that counts.
    """
    mean = heads
    for name, each in specialists.items():
        columns = [step.specialist == name for step in cascade.steps]
        mean += each * float(arrived[:, columns].any(axis=1).mean())
    counted = " and ".join(["heads", *(["specialists"] if cascade.specialists else [])])
    return {
        "heads": heads,
        "specialists": dict(specialists),
        "mean": mean,
        "mean_of": f"{counted}, without the student",
    }
