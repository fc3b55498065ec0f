"""LP++: a linear probe whose class weights are blended with text."""

from __future__ import annotations

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
LOOK_EVERY = 10
"""Steps in batches from one look at validation to the next."""


class Blend(NamedTuple):
    """A linear classifier blended with text.

    Attributes:
        weight: w (K, D).
        bias: b (K,).
        alpha: (K,) what the text of each class counts.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    alpha: torch.Tensor

    def matrix(self, text_KD: torch.Tensor | None) -> torch.Tensor:
        """Return `w_k + alpha_k t_k` (K, D)."""
        return self.weight if text_KD is None else self.weight + self.alpha[:, None] * text_KD

    def copy(self) -> Blend:
        """Return one that stays as it is while this one is trained."""
        return Blend(*(part.clone() for part in self))


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
        best, best_step, best_right = training.blend, 0, -1
        for step in range(1, steps + 1):
            training.step(step)
            if evidence.val is not None and (training.full or step % LOOK_EVERY == 0 or step == steps):
                right = count_right(training, evidence.val)
                if right > best_right:
                    best, best_step, best_right = training.blend.copy(), step, right
        notes = ("no validation images: the last step was taken",)
        if evidence.val is None:
            best, best_step = training.blend, steps
        else:
            images = len(evidence.val.labels)
            notes = (f"the step with the best accuracy on {images} validation images was taken",)
        bias = best.bias.numpy() if config.bias else None
        head = LinearHead(evidence.names, best.matrix(training.text).numpy(), bias)
        chosen: dict[str, Any] = {
            "step": best_step,
            "batch_size": training.batch,
            "rate": training.rate,
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
        self.config = config
        self.text = None if text_KD is None else torch.from_numpy(text_KD)
        self.features, self.labels = torch.from_numpy(shots.features), torch.from_numpy(shots.labels)
        count, dim = shots.features.shape
        few = count * classes <= FULL_CELLS
        self.batch = min(count, config.batch_size or (count if few else max(256, classes)))
        self.full = self.batch == count
        self.draw = np.random.default_rng(config.seed)
        self.waiting = np.empty(0, np.int64)
        weight = torch.from_numpy(class_sums(*shots, classes).astype(np.float32))
        self.blend = Blend(weight, torch.zeros(classes), torch.zeros(classes))
        self.moving = torch.zeros(classes, dim), torch.zeros(classes)
        moments = second_moments(shots.features)
        self.rate = float(np.float32(4 * count / largest_eigenvalue(moments)))
        self.owed = torch.zeros(classes)
        if text_KD is not None:
            own = np.einsum("nd,nd->n", shots.features, text_KD[shots.labels])
            self.blend.alpha.fill_(BLEND_START * class_mean(own, shots.labels, classes))
            steepest = float(((text_KD @ moments) * text_KD).sum(axis=1).max())
            self.alpha_rate = count / (4 * steepest)

    def step(self, number: int) -> None:
        """Take one step of w and b, and one of alpha where its turn has come (numbers count from 1)."""
        features, labels = self.features, self.labels
        if not self.full:
            rows = torch.from_numpy(self._next_rows())
            features, labels = features[rows], labels[rows]
        slope = self._softmax_error(features, labels)
        turn = number % self.config.alpha_every == 0
        by_weight = (slope.T @ features).div_(self.batch)
        if self.text is not None and (turn or self.config.accumulate_alpha_grad):
            gradient = (by_weight * self.text).sum(dim=1)
            self.owed = self.owed + gradient if self.config.accumulate_alpha_grad else gradient
        weight, bias, alpha = self.blend
        weight_moving, bias_moving = self.moving
        weight_moving.mul_(MOMENTUM).add_(by_weight)
        weight.sub_(weight_moving, alpha=self.rate)
        if self.config.bias:
            bias_moving.mul_(MOMENTUM).add_(slope.mean(dim=0))
            bias.sub_(bias_moving, alpha=self.rate)
        if self.text is not None and turn:
            alpha.sub_(self.owed, alpha=self.alpha_rate)

    def scores(self, features_ND: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K)."""
        return torch.addmm(self.blend.bias, features_ND, self.blend.matrix(self.text).T)

    def _next_rows(self) -> np.ndarray:
        """Return the next shots of a random order; a new one is drawn where too few are left."""
        if len(self.waiting) < self.batch:
            self.waiting = self.draw.permutation(len(self.labels))
        rows, self.waiting = self.waiting[: self.batch], self.waiting[self.batch :]
        return rows

    def _softmax_error(self, features_ND: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
        """Return `softmax(logits) - onehot` (N, K): the slope of the cross-entropy by the logits, times N."""
        shares = self.scores(features_ND).softmax(dim=1)
        shares[torch.arange(len(labels_N)), labels_N] -= 1
        return shares


def count_right(training: Training, rows: Rows) -> int:
    """Return how many rows get their own class."""
    answers = training.scores(torch.from_numpy(rows.features)).numpy().argmax(axis=1)
    return int((answers == rows.labels).sum())


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
