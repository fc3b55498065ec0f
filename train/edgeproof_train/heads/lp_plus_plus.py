"""LP++: a linear probe whose class weights are blended with text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import model_validator

from edgeproof_configs.registry import register
from edgeproof_configs.schema import PositiveInt
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.class_sums import class_sums
from edgeproof_train.heads.evidence import Evidence, Part, Rows, require
from edgeproof_train.heads.fitted import Fitted, FittedConfig, FittedKind

MOMENTUM = 0.9
BLEND_START = 250.0
"""What a class's mean cosine to its text is multiplied with to start the blend from."""
POWER_STEPS = 1000
FULL_CELLS = 8_000_000
"""Shots times classes up to which every step looks at all shots."""
SOFTMAX_CELLS = 1 << 17
"""Scores whose softmax is taken at a time, 512 KB, so that they stay in the cache of the core."""
LOOK_EVERY = 10
"""Steps in batches from one look at validation to the next."""


class Blend(NamedTuple):
    """A linear classifier blended with text.

    Attributes:
        weight: w (K, D).
        bias: b (K,).
        alpha: (K,) what the text of each class counts.
    """

    weight: np.ndarray
    bias: np.ndarray
    alpha: np.ndarray

    def matrix(self, text_KD: np.ndarray | None) -> np.ndarray:
        """Return `w_k + alpha_k t_k` (K, D)."""
        return self.weight if text_KD is None else self.weight + self.alpha[:, None] * text_KD


@register("head")
class LPPlusPlus(FittedKind):
    """`logits = e/|e| (w_k + alpha_k t_k)' + b_k` (LP++, arXiv 2404.02285).

    Rates follow from bounds on the curvature, so there is none to choose: w and b take steps with momentum
    of rate `4 n / lambda_max(F'F)`; alpha takes one of `n / (4 max_k sum_i (f_i t_k)^2)` every tenth step.
    The step with the best accuracy on validation is kept, the last where there is none. A step looks at all
    shots, as in the paper; where there are very many, at a batch of them, one for each class on average.
    """

    class Config(FittedConfig):
        """How long it is trained.

        Attributes:
            steps: how many; 300 if not given, 150 in batches.
            batch_size: shots in a step; if not given all, or one for each class where there are very many.
            alpha_every: steps of w from one of alpha to the next.
            bias: whether classes have a bias.
            accumulate_alpha_grad: add up alpha's gradient over all steps, as the authors' code does.
        """

        kind: Literal["lp_plus_plus"] = "lp_plus_plus"
        steps: PositiveInt | None = None
        batch_size: PositiveInt | None = None
        alpha_every: PositiveInt = 10
        bias: bool = True
        accumulate_alpha_grad: bool = False

        @model_validator(mode="after")
        def _alpha_needs_text(self) -> LPPlusPlus.Config:
            if self.accumulate_alpha_grad and not self.use_text:
                raise ValueError("accumulate_alpha_grad has no effect without text: use_text is false")
            return self

    needs: ClassVar[frozenset[Part]] = frozenset({"shots"})
    uses: ClassVar[frozenset[Part]] = frozenset({"text", "val"})

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Return the blended probe.

        Raises:
            DataError: there are no shots, or a class has none.
        """
        require(evidence, "shots", kind="lp_plus_plus")
        assert evidence.shots is not None
        training = Training(config, evidence.shots, evidence.text, len(evidence.names))
        steps = config.steps or (300 if training.full else 150)
        best, best_step, best_right = training.blend(), 0, -1
        for step in range(1, steps + 1):
            training.step(step)
            if evidence.val is not None and (training.full or step % LOOK_EVERY == 0 or step == steps):
                right = count_right(training.blend(), evidence.text, evidence.val)
                if right > best_right:
                    best, best_step, best_right = training.blend(), step, right
        notes = ("no validation images: the last step was taken",)
        if evidence.val is None:
            best, best_step = training.blend(), steps
        else:
            images = len(evidence.val.labels)
            notes = (f"the step with the best accuracy on {images} validation images was taken",)
        bias = best.bias.astype(np.float32) if config.bias else None
        head = LinearHead(evidence.names, best.matrix(evidence.text).astype(np.float32), bias)
        chosen: dict[str, Any] = {
            "step": best_step,
            "batch_size": training.batch,
            "rate": float(training.rate),
        }
        if evidence.text is not None:
            chosen["alpha"] = float(best.alpha.mean())
        return Fitted(head, chosen, notes)


class Training:
    """Training of a blend, step by step.

    Args:
        config: of the kind.
        shots: labelled rows.
        text_KD: unit rows, or None for images alone.
        classes: K.
    """

    def __init__(self, config: Any, shots: Rows, text_KD: np.ndarray | None, classes: int):
        self.config, self.text = config, text_KD
        self.features, self.labels = shots.features, shots.labels
        count = len(self.labels)
        few = count * classes <= FULL_CELLS
        self.batch = min(count, config.batch_size or (count if few else max(256, classes)))
        self.full = self.batch == count
        self.draw = np.random.default_rng(config.seed)
        self.waiting = np.empty(0, np.int64)
        self.weight = class_sums(*shots, classes).astype(np.float32)
        self.pool = ThreadPoolExecutor(torch.get_num_threads())
        self.bias = np.zeros(classes, np.float32)
        self.moving = np.zeros_like(self.weight), np.zeros_like(self.bias)
        moments = second_moments(self.features)
        self.rate = np.float32(4 * count / largest_eigenvalue(moments))
        self.alpha, self.owed = np.zeros(classes, np.float32), np.zeros(classes, np.float32)
        if text_KD is not None:
            own = (self.features * text_KD[self.labels]).sum(axis=1)
            self.alpha[:] = BLEND_START * class_mean(own, self.labels, classes)
            steepest = float(((text_KD @ moments) * text_KD).sum(axis=1).max())
            self.alpha_rate = np.float32(count / (4 * steepest))

    def blend(self) -> Blend:
        """Return a copy of what it has come to."""
        return Blend(self.weight.copy(), self.bias.copy(), self.alpha.copy())

    def step(self, number: int) -> None:
        """Take one step of w and b, and one of alpha where its turn has come (numbers count from 1)."""
        rows = slice(None) if self.full else self._next_rows()
        features, count = self.features[rows], np.float32(self.batch)
        slope = self._softmax_error(features, self.labels[rows])
        turn = number % self.config.alpha_every == 0
        by_weight = (slope.T @ features) / count
        if self.text is not None and (turn or self.config.accumulate_alpha_grad):
            gradient = (by_weight * self.text).sum(axis=1)
            self.owed = self.owed + gradient if self.config.accumulate_alpha_grad else gradient
        weight_moving, bias_moving = self.moving
        weight_moving *= np.float32(MOMENTUM)
        weight_moving += by_weight
        self.weight -= self.rate * weight_moving
        if self.config.bias:
            bias_moving *= np.float32(MOMENTUM)
            bias_moving += slope.sum(axis=0) / count
            self.bias -= self.rate * bias_moving
        if self.text is not None and turn:
            self.alpha = self.alpha - self.alpha_rate * self.owed

    def _next_rows(self) -> np.ndarray:
        """Return the next shots of a random order; a new one is drawn where too few are left."""
        if len(self.waiting) < self.batch:
            self.waiting = self.draw.permutation(len(self.labels))
        rows, self.waiting = self.waiting[: self.batch], self.waiting[self.batch :]
        return rows

    def _softmax_error(self, features_ND: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
        """Return `softmax(logits) - onehot` (N, K): the slope of the cross-entropy by the logits, times N."""
        scores = features_ND @ Blend(self.weight, self.bias, self.alpha).matrix(self.text).T

        def softmax(start: int) -> None:
            some = scores[start : start + step]
            some += self.bias
            some -= some.max(axis=1, keepdims=True)
            np.exp(some, out=some)
            some /= some.sum(axis=1, keepdims=True)

        step = max(1, SOFTMAX_CELLS // scores.shape[1])
        list(self.pool.map(softmax, range(0, len(scores), step)))
        scores[np.arange(len(labels_N)), labels_N] -= 1
        return scores


def count_right(blend: Blend, text_KD: np.ndarray | None, rows: Rows) -> int:
    """Return how many rows get their own class."""
    scores = rows.features @ blend.matrix(text_KD).T + blend.bias
    return int((scores.argmax(axis=1) == rows.labels).sum())


def class_mean(values_N: np.ndarray, labels_N: np.ndarray, classes: int) -> float:
    """Return the mean over the classes of each class's mean."""
    sums = np.bincount(labels_N, weights=values_N, minlength=classes)
    counts = np.bincount(labels_N, minlength=classes)
    return float((sums[counts > 0] / counts[counts > 0]).mean())


def second_moments(features_ND: np.ndarray) -> np.ndarray:
    """Return `F'F` (D, D), float64."""
    moments = np.zeros((features_ND.shape[1],) * 2)
    for start in range(0, len(features_ND), 4096):
        part = features_ND[start : start + 4096].astype(np.float64)
        moments += part.T @ part
    return moments


def largest_eigenvalue(matrix_DD: np.ndarray) -> float:
    """Return lambda_max of a positive semi-definite matrix by power iteration, float64."""
    vector = matrix_DD.sum(axis=1) + 1e-3
    value = 0.0
    for _ in range(POWER_STEPS):
        vector = vector / np.linalg.norm(vector)
        following = matrix_DD @ vector
        before, value = value, float(vector @ following)
        if abs(value - before) <= 1e-12 * value:
            break
        vector = following
    return value
