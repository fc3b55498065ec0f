"""TransCLIP: a Gaussian mixture over the images, held to text and to each image's neighbours."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator
from scipy import sparse

from edgeproof_configs.registry import register
from edgeproof_configs.schema import PositiveFloat, PositiveInt
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.clap import softmax
from edgeproof_train.heads.evidence import Evidence, Part, Rows, require
from edgeproof_train.heads.fitted import Fitted, FittedConfig, FittedKind

CONFIDENT = 8
"""Most confident images of each class that the means start from."""
LEAST = 1e-12
LEAST_SPREAD = 1e-3
"""Least variance of a dimension, as a share of what it starts from."""
SUPPORT_WEIGHTS = (0.002, 0.01, 0.02, 0.2)


class Mixture(NamedTuple):
    """Gaussians with one diagonal covariance.

    Attributes:
        means: (K, D) unit rows.
        variance: (D,).
    """

    means: np.ndarray
    variance: np.ndarray

    def log_likelihood(self, features_ND: np.ndarray) -> np.ndarray:
        """Return `-1/2 sum_d (x_d - mu_kd)^2 / var_d` (N, K), up to what all classes share."""
        scaled = self.means / self.variance
        return features_ND @ scaled.T - (self.means * scaled).sum(axis=1) / 2


@register("head")
class TransCLIP(FittedKind):
    """`z_i ~ y_i^lambda exp((l_i + 50/6 (z_i's neighbours)) / 50)` and Gaussians, in turn (arXiv 2406.01837).

    y are zero-shot probabilities, l the log-likelihoods of the mixture, neighbours the three nearest images.
    It is transductive: it adapts to the unlabelled images. With shots they take part in means and variance.
    The mixture has no class weights: where classes are far from balanced, it can fall below zero-shot.

    The covariance is shared, so the mixture's posterior with its text term is one matrix and a bias:
    `logits = lambda s e t_k + (mu_k / var) e / 50 - (mu_k^2 / var) / 100`; an image that was not among the
    unlabelled ones gets its class so, without the term of neighbours.
    """

    class Config(FittedConfig):
        """Weights of the terms; the authors' settings.

        Attributes:
            text_weight: lambda; 1 without shots and 0.5 with, if not given.
            support_weight: gamma of the shots; chosen on validation, or 0.002, if not given.
            use_shots: whether shots take part where there are any.
            temperature: what likelihood and neighbours are divided by.
            neighbours: nearest images that an image agrees with.
            outer_steps: updates of the mixture.
            inner_steps: updates of the assignment for each.
        """

        kind: Literal["transclip"] = "transclip"
        text_weight: Annotated[float, Field(ge=0)] | None = None
        support_weight: PositiveFloat | None = None
        use_shots: bool = True
        temperature: PositiveFloat = 50.0
        neighbours: PositiveInt = 3
        outer_steps: PositiveInt = 10
        inner_steps: PositiveInt = 5

        @model_validator(mode="after")
        def _no_idle_setting(self) -> TransCLIP.Config:
            if not self.use_text:
                raise ValueError("transclip starts from text embeddings: use_text must be true")
            if self.support_weight is not None and not self.use_shots:
                raise ValueError("support_weight has no effect without shots: use_shots is false")
            return self

    is_matrix: ClassVar[bool] = True
    needs: ClassVar[frozenset[Part]] = frozenset({"text", "unlabelled"})
    uses: ClassVar[frozenset[Part]] = frozenset({"shots", "val"})
    transductive: ClassVar[bool] = True

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Return the mixture as a linear head.

        Raises:
            DataError: there is no text or no unlabelled image.
        """
        require(evidence, "text", "unlabelled", kind="transclip")
        shots = evidence.photos() if config.use_shots and evidence.shots is not None else None
        weight = config.text_weight if config.text_weight is not None else 1.0 if shots is None else 0.5
        adaptation = Adaptation(config, evidence, shots, weight)
        if shots is None:
            head, support, notes = adaptation.head(0.0), None, ("no shots: text and unlabelled images alone",)
        elif config.support_weight is not None or evidence.val is None:
            support = SUPPORT_WEIGHTS[0] if config.support_weight is None else config.support_weight
            head, notes = adaptation.head(support), ("support_weight was not chosen on validation",)
        else:
            val = evidence.val
            heads = {gamma: adaptation.head(gamma) for gamma in SUPPORT_WEIGHTS}
            support = max(heads, key=lambda gamma: right(heads[gamma], val))
            head, notes = heads[support], (f"support_weight chosen on {len(val.labels)} validation images",)
        chosen = {"text_weight": weight, "support_weight": support, "images": adaptation.count}
        return Fitted(head, chosen, notes)


class Adaptation:
    """What does not change while the mixture adapts.

    Args:
        config: of the kind.
        evidence: with text and unlabelled images.
        shots: labelled rows, or None.
        text_weight: lambda.
    """

    def __init__(self, config: Any, evidence: Evidence, shots: Rows | None, text_weight: float):
        assert evidence.text is not None
        assert evidence.unlabelled is not None
        self.config, self.names, self.shots, self.text_weight = config, evidence.names, shots, text_weight
        self.images, self.text = evidence.unlabelled, evidence.text
        self.scale = np.float32(evidence.logit_scale)
        self.count, self.dim = self.images.shape
        self.cosines = self.images @ self.text.T
        self.affinity = nearest_images(self.images, config.neighbours)

    def head(self, support_weight: float) -> LinearHead:
        """Return the adapted mixture as a linear head."""
        mixture = self._adapted(support_weight)
        sharp = np.float32(1 / self.config.temperature)
        rows = self.text_weight * self.scale * self.text + sharp * mixture.means / mixture.variance
        bias = -sharp / 2 * (mixture.means**2 / mixture.variance).sum(axis=1)
        return LinearHead(self.names, rows.astype(np.float32), (bias - bias.max()).astype(np.float32))

    def _adapted(self, support_weight: float) -> Mixture:
        z = softmax(self.scale * self.cosines)
        mixture = Mixture(self._first_means(z), np.full(self.dim, 1 / self.dim, np.float32))
        prior = np.float32(self.text_weight) * self.scale * self.cosines
        spread = np.float32(self.config.temperature / 6)
        sharp = np.float32(1 / self.config.temperature)
        for _ in range(self.config.outer_steps):
            likely = mixture.log_likelihood(self.images)
            likely -= likely.max(axis=1, keepdims=True)
            for _ in range(self.config.inner_steps):
                z = softmax(prior + sharp * (likely + spread * (self.affinity @ z)))
            mixture = self._fitted(z, mixture, support_weight)
        return mixture

    def _first_means(self, z_NK: np.ndarray) -> np.ndarray:
        """Return the means of the shots, or of each class's most confident images, as unit rows."""
        if self.shots is not None and len(np.unique(self.shots.labels)) == len(self.text):
            sums = np.zeros_like(self.text)
            np.add.at(sums, self.shots.labels, self.shots.features)
        else:
            few = min(CONFIDENT, self.count)
            best = np.argpartition(-z_NK, few - 1, axis=0)[:few]
            sums = self.images[best].mean(axis=0)
        return unit_or(sums, self.text)

    def _fitted(self, z_NK: np.ndarray, before: Mixture, support_weight: float) -> Mixture:
        """Return means and variance of images and shots; a class that nothing belongs to keeps its mean."""
        sums, masses = z_NK.T @ self.images / self.count, z_NK.sum(axis=0) / self.count
        squares, total = (self.images**2).mean(axis=0), 1.0
        if self.shots is not None:
            share = np.float32(50 * support_weight / len(self.shots.labels))
            added = np.zeros_like(sums)
            np.add.at(added, self.shots.labels, self.shots.features)
            sums = sums + share * added
            masses = masses + share * np.bincount(self.shots.labels, minlength=len(masses))
            squares = squares + share * (self.shots.features**2).sum(axis=0)
            total += 50 * support_weight
        means = unit_or(np.where(masses[:, None] > LEAST, sums, 0), before.means)
        variance = squares - 2 * (means * sums).sum(axis=0) + (masses[:, None] * means**2).sum(axis=0)
        variance = np.maximum(variance / total, LEAST_SPREAD / self.dim)
        return Mixture(means.astype(np.float32), variance.astype(np.float32))


def nearest_images(features_ND: np.ndarray, count: int) -> sparse.csr_matrix:
    """Return the symmetric affinities (N, N): cosine, floored at 0, of each row's nearest others.

    `(W' z + W z)_i` of the paper is one product with what is returned.
    """
    rows = len(features_ND)
    near = min(count, rows - 1)
    if near == 0:
        return sparse.csr_matrix((rows, rows), dtype=np.float32)
    columns, values = np.empty((rows, near), np.int64), np.empty((rows, near), np.float32)
    for start in range(0, rows, 512):
        part = features_ND[start : start + 512] @ features_ND.T
        own = np.arange(len(part))
        part[own, start + own] = -np.inf
        best = np.argpartition(-part, near - 1, axis=1)[:, :near]
        columns[start : start + 512] = best
        values[start : start + 512] = np.maximum(np.take_along_axis(part, best, axis=1), 0)
    pointers = np.arange(0, rows * near + 1, near)
    one_way = sparse.csr_matrix((values.ravel(), columns.ravel(), pointers), shape=(rows, rows))
    return sparse.csr_matrix(one_way + one_way.T)


def unit_or(rows_KD: np.ndarray, fallback_KD: np.ndarray) -> np.ndarray:
    """Return rows of unit length; where a row is zero, the other's."""
    lengths = np.linalg.norm(rows_KD, axis=1, keepdims=True)
    return np.where(lengths > LEAST, rows_KD / np.maximum(lengths, LEAST), fallback_KD)


def right(head: LinearHead, rows: Rows) -> int:
    """Return how many rows get their own class."""
    return int((head.logits(rows.features).argmax(axis=1) == rows.labels).sum())
