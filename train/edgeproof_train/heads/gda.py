"""Gaussian discriminant analysis, beside the text or alone."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field
from scipy.linalg import cho_factor, cho_solve

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.registry import register
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.class_sums import class_means
from edgeproof_train.heads.evidence import Evidence, Part, Rows, require
from edgeproof_train.heads.fitted import Fitted, FittedConfig, FittedKind
from edgeproof_train.heads.selection import choose_factor
from edgeproof_train.heads.sharpness import sharpened_on_val

WEIGHTS = np.concatenate([[0.0], np.logspace(-4, 2, 61)])
SPREAD, ALONE = 0.5, 5.0
"""How logits differ from class to class without validation: in parts of what the text's do; without text."""
NOT_CHOSEN = "by the spread of the logits: there is no validation"
FLOOR = 0.1
ALIKE = 1e-12
"""Mean squared distance from the mean of all, below which shots do not differ but by rounding."""
BLOCK_ROWS = 1 << 15


class Gaussians(NamedTuple):
    """Discriminants `f W' + b` of Gaussians that share a covariance.

    Attributes:
        weight: (K, D) float64.
        bias: (K,) float64.
        floored: whether the spread inside of the classes was too small to be believed.
    """

    weight: np.ndarray
    bias: np.ndarray
    floored: bool


@register("head")
class GDA(FittedKind):
    """`logits = s e/|e| T' + a (e/|e| W' + b)`, the discriminants of Gaussians (arXiv 2402.04087).

    `W = P mu`, `b = -mu' P mu / 2` with the class means mu and one precision P for all, see `gaussians`. a is
    chosen on validation, 0 included, which is zero-shot. Without text the discriminants stand alone. Views
    of a photo count as rows of their own.
    """

    class Config(FittedConfig):
        """`weight`: a; chosen on validation if not given. Without text it is the sharpness."""

        kind: Literal["gda"] = "gda"
        weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    is_matrix: ClassVar[bool] = True
    needs: ClassVar[frozenset[Part]] = frozenset({"shots"})
    uses: ClassVar[frozenset[Part]] = frozenset({"text", "val"})

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Return the discriminants as one matrix.

        Raises:
            DataError: there are no shots, a class has none, or all shots are the same.
            UsageError: the weight is 0, and there is no text.
        """
        require(evidence, "shots", kind="gda")
        assert evidence.shots is not None
        found = gaussians(evidence.shots, len(evidence.names))
        notes: tuple[str, ...] = ()
        if found.floored:
            notes = (f"classes hardly vary: their spread is taken as {FLOOR:.0%} of that of all shots",)
        if evidence.text is None:
            return alone(config, evidence, found, notes)
        weight, how = weight_beside_text(config, evidence, evidence.text, found)
        share = weight / evidence.logit_scale
        head = LinearHead(
            evidence.names,
            (evidence.text + share * found.weight).astype(np.float32),
            (weight * found.bias).astype(np.float32),
            evidence.logit_scale,
        )
        return Fitted(head, {"weight": weight}, (*notes, f"weight {how}"))


def alone(config: Any, evidence: Evidence, found: Gaussians, notes: tuple[str, ...]) -> Fitted:
    """Return the head that knows images only, whose answers do not depend on the weight.

    Raises:
        UsageError: the weight is 0.
    """
    if config.weight == 0:
        raise UsageError(
            "gda: weight 0 without text leaves nothing to answer with", fix="give text, or another weight"
        )
    weight, how = config.weight, "given"
    if weight is None:
        weight, how = ALONE / spread(evidence.photos().features, found), NOT_CHOSEN
    head = LinearHead(
        evidence.names, (weight * found.weight).astype(np.float32), (weight * found.bias).astype(np.float32)
    )
    if config.weight is None and evidence.val is not None:
        head, factor = sharpened_on_val(head, evidence)
        weight, how = weight * factor, "chosen on validation"
    return Fitted(head, {"weight": weight}, (*notes, f"images only; weight {how}"))


def weight_beside_text(
    config: Any, evidence: Evidence, text_KD: np.ndarray, found: Gaussians
) -> tuple[float, str]:
    """Return a, and how it was found.

    Without validation a makes the discriminants of the shots vary between classes by a part of what the
    text's logits do, the more the more shots n a class has: `SPREAD n / (n + 1)`.
    """
    if config.weight is not None:
        return config.weight, "given"
    rows = evidence.photos() if evidence.val is None else evidence.val
    base = np.float32(evidence.logit_scale) * (rows.features @ text_KD.T)
    if evidence.val is not None:
        extra = rows.features @ found.weight.astype(np.float32).T + found.bias.astype(np.float32)
        return choose_factor(base, extra, rows.labels, WEIGHTS).value, "chosen on validation"
    shots = len(rows.labels) / len(evidence.names)
    part = SPREAD * shots / (shots + 1)
    return part * float(base.std(axis=1).mean()) / spread(rows.features, found), NOT_CHOSEN


def spread(features_ND: np.ndarray, found: Gaussians) -> float:
    """Return by how much the discriminants of features differ from class to class, above 0."""
    logits = features_ND @ found.weight.T + found.bias
    return max(float(logits.std(axis=1).mean()), float(np.finfo(np.float32).tiny))


def gaussians(shots: Rows, classes: int) -> Gaussians:
    """Return the discriminants of n shots, `P = D ((n - 1) S + tr(S) I)^-1`, all in float64.

    S is the covariance of the shots around their class means, divided by n - 1. Where classes have one shot S
    is 0 and where shots are near copies it is close to it; tr(S) is then no smaller than a tenth of the trace
    of the covariance around the mean of all, so that P stays of the size that it has with more shots. What
    all classes have in common is left out of W and b: no answer depends on it, and float32 is left for the
    differences.

    Raises:
        DataError: all shots are the same.
    """
    count, dim = shots.features.shape
    means = class_means(shots, classes)
    scatter, total = np.zeros((dim, dim)), 0.0
    centre = means.mean(axis=0)
    for start in range(0, count, BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        wide = shots.features[part].astype(np.float64)
        total += float(((wide - centre) ** 2).sum())
        wide -= means[shots.labels[part]]
        scatter += wide.T @ wide
    if total <= ALIKE * count:
        raise DataError(
            f"gda: all {count} shots are the same in {dim} feature(s): nothing tells the classes apart",
            fix="look at the images, or at the network that the features are of",
        )
    own, least = np.trace(scatter) / (count - 1), FLOOR * total / (count - 1)
    scatter[np.diag_indices(dim)] += max(own, least, np.finfo(np.float64).tiny)
    weight = dim * cho_solve(cho_factor(scatter), means.T).T
    bias = -0.5 * np.einsum("kd,kd->k", weight, means)
    return Gaussians(weight - weight.mean(axis=0), bias - bias.mean(), bool(own < least))
