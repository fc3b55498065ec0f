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
FULL_CELLS = 2_000_000
"""Shots times classes up to which every step looks at all shots."""
FEWEST_IN_BATCH = 256
LOOKS = 6
"""How often validation is looked at while training in batches."""


class Blend(NamedTuple):
    """A linear classifier blended with text.

    Attributes:
        weight: `w_k + alpha_k t_k` (K, D).
        bias: b (K,).
        alpha: (K,) what the text of each class counts.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    alpha: torch.Tensor


@register("head")
class LPPlusPlus(FittedKind):
    """`logits = e/|e| (w_k + alpha_k t_k)' + b_k` (LP++, arXiv 2404.02285).

    Rates follow from bounds on the curvature, so there is none to choose: w and b take steps with momentum
    of rate `4 n / lambda_max(F'F)`; alpha takes one of `n / (4 max_k sum_i (f_i t_k)^2)` every tenth step.
    The step with the best accuracy on validation is kept, the last where there is none. A step looks at all
    shots, as in the paper; where there are very many, at a batch of them, one for every fourth
    class on average, and the rate of w and b then falls to zero in a line, so that their noise dies out.
    """

    class Config(FittedConfig):
        """How long it is trained.

        Attributes:
            steps: how many.
            batch_size: shots in a step; if not given all, or where there are very many a quarter as many as
                classes, 256 at least.
            alpha_every: steps of w from one of alpha to the next.
            bias: whether classes have a bias.
            accumulate_alpha_grad: add up alpha's gradient over all steps, as the authors' code does.
        """

        kind: Literal["lp_plus_plus"] = "lp_plus_plus"
        steps: PositiveInt = 300
        batch_size: PositiveInt | None = None
        alpha_every: PositiveInt = 10
        bias: bool = True
        accumulate_alpha_grad: bool = False

        @model_validator(mode="after")
        def _alpha_needs_text(self) -> LPPlusPlus.Config:
            if self.accumulate_alpha_grad and not self.use_text:
                raise ValueError("accumulate_alpha_grad has no effect without text: use_text is false")
            return self

    is_matrix: ClassVar[bool] = True
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
        steps, look_every = training.steps, 1 if training.full else -(-training.steps // LOOKS)
        best, best_step, best_right = training.blend(), 0, -1
        for step in range(1, steps + 1):
            training.step(step)
            if evidence.val is not None and (step % look_every == 0 or step == steps):
                blend = training.blend()
                right = count_right(blend, evidence.val)
                if right > best_right:
                    best, best_step, best_right = blend, step, right
        notes = ("no validation images: the last step was taken",)
        if evidence.val is None:
            best, best_step = training.blend(), steps
        else:
            images = len(evidence.val.labels)
            notes = (f"the step with the best accuracy on {images} validation images was taken",)
        bias = best.bias.numpy() if config.bias else None
        chosen: dict[str, Any] = {"step": best_step, "batch_size": training.batch, "rate": training.rate}
        if evidence.text is not None:
            chosen["alpha"] = float(best.alpha.mean())
        return Fitted(LinearHead(evidence.names, best.weight.numpy(), bias), chosen, notes)


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
        self.features, self.labels = torch.from_numpy(shots.features), torch.from_numpy(shots.labels)
        self.text = None if text_KD is None else torch.from_numpy(text_KD)
        count = len(shots.labels)
        few = count * classes <= FULL_CELLS
        self.batch = min(count, config.batch_size or (count if few else max(FEWEST_IN_BATCH, classes // 4)))
        self.full = self.batch == count
        self.steps = config.steps
        self.draw = np.random.default_rng(config.seed)
        self.waiting = np.empty(0, np.int64)
        self.weight = torch.from_numpy(class_sums(*shots, classes).astype(np.float32))
        self.bias = torch.zeros(classes)
        self.moving = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        # Written over by every step: memory that is new each time takes longer than the sums in it.
        self.scores, self.mixed = torch.empty(self.batch, classes), torch.empty_like(self.weight)
        self.drawn = torch.empty(0 if self.full else self.batch, self.features.shape[1])
        moments = second_moments(shots.features)
        self.rate = 4 * count / largest_eigenvalue(moments)
        self.alpha, self.owed = torch.zeros(classes), torch.zeros(classes)
        if text_KD is not None:
            own = (shots.features * text_KD[shots.labels]).sum(axis=1)
            self.alpha += BLEND_START * class_mean(own, shots.labels, classes)
            steepest = float(((text_KD @ moments) * text_KD).sum(axis=1).max())
            self.alpha_rate = count / (4 * steepest)

    def blend(self) -> Blend:
        """Return a copy of what it has come to."""
        return Blend(self._mixed().clone(), self.bias.clone(), self.alpha.clone())

    def step(self, number: int) -> None:
        """Take one step of w and b, and one of alpha where its turn has come (numbers count from 1)."""
        features, labels = self._next_shots()
        slope = torch.addmm(self.bias, features, self._mixed().T, out=self.scores)
        torch.softmax(slope, dim=1, out=slope)
        slope[torch.arange(self.batch), labels] -= 1
        turn = number % self.config.alpha_every == 0
        if self.text is not None and (turn or self.config.accumulate_alpha_grad):
            gradient = (slope * (features @ self.text.T)).sum(dim=0) / self.batch
            self.owed = self.owed + gradient if self.config.accumulate_alpha_grad else gradient
        rate = self.rate if self.full else self.rate * (1 - (number - 1) / self.steps)
        weight_moving, bias_moving = self.moving
        each = 1 / self.batch
        torch.addmm(weight_moving, slope.T, features, beta=MOMENTUM, alpha=each, out=weight_moving)
        self.weight.sub_(weight_moving, alpha=rate)
        if self.config.bias:
            self.bias.sub_(bias_moving.mul_(MOMENTUM).add_(slope.sum(dim=0), alpha=each), alpha=rate)
        if self.text is not None and turn:
            self.alpha.sub_(self.owed, alpha=self.alpha_rate)

    def _mixed(self) -> torch.Tensor:
        if self.text is None:
            return self.weight
        return torch.addcmul(self.weight, self.alpha[:, None], self.text, out=self.mixed)

    def _next_shots(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next shots of a random order; a new one is drawn where too few are left."""
        if self.full:
            return self.features, self.labels
        if len(self.waiting) < self.batch:
            self.waiting = self.draw.permutation(len(self.labels))
        rows = torch.from_numpy(self.waiting[: self.batch])
        self.waiting = self.waiting[self.batch :]
        return torch.index_select(self.features, 0, rows, out=self.drawn), self.labels[rows]


def count_right(blend: Blend, rows: Rows) -> int:
    """Return how many rows get their own class."""
    scores = torch.addmm(blend.bias, torch.from_numpy(rows.features), blend.weight.T)
    return int((scores.argmax(dim=1) == torch.from_numpy(rows.labels)).sum())


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
