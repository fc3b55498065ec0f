"""CLAP: a linear probe that is held to text, by class, as much as text is right about it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import model_validator

from edgeproof_configs.registry import register
from edgeproof_configs.schema import PositiveFloat, PositiveInt
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.evidence import Evidence, Part, Rows, require
from edgeproof_train.heads.fitted import Fitted, FittedConfig, FittedKind

MOMENTUM = 0.9


@register("head")
class CLAP(FittedKind):
    """`logits = s e/|e| (w/|w|)'`, `CE + mean_k a_k |w_k - t_k|^2` (CLAP, arXiv 2312.12730).

    w starts from the text t; a_k is the mean zero-shot probability of class k over its own shots, so that
    classes which text knows well stay near it. There is nothing to choose: no validation is used. With
    `constraint_steps` the a_k grow where w has left t, by the outer step of the augmented Lagrangian (PHR).
    """

    class Config(FittedConfig):
        """How it is trained; the authors' settings.

        Attributes:
            epochs: passes over the shots; the rate falls to zero along a cosine.
            batch_size: shots in a step.
            learning_rate: of SGD with momentum 0.9, at the start.
            constraint_steps: how often training is repeated with grown a_k.
        """

        kind: Literal["clap"] = "clap"
        epochs: PositiveInt = 300
        batch_size: PositiveInt = 256
        learning_rate: PositiveFloat = 0.1
        constraint_steps: Literal[0, 1] = 0

        @model_validator(mode="after")
        def _needs_text(self) -> CLAP.Config:
            if not self.use_text:
                raise ValueError("clap starts from text embeddings: use_text must be true")
            return self

    is_matrix: ClassVar[bool] = True
    needs: ClassVar[frozenset[Part]] = frozenset({"shots", "text"})

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Return the probe.

        Raises:
            DataError: there is no text or no shot, or a class has none.
        """
        require(evidence, "shots", "text", kind="clap")
        assert evidence.shots is not None
        assert evidence.text is not None
        scale = np.float32(evidence.logit_scale)
        text = evidence.text
        held = text_trust(evidence.shots, text, scale)
        first = held
        weight = trained(config, evidence.shots, text, held, scale)
        for _ in range(config.constraint_steps):
            held = grown(held, weight, text)
            weight = trained(config, evidence.shots, text, held, scale)
        rows = weight / np.linalg.norm(weight, axis=1, keepdims=True)
        chosen = {"held_to_text": float(first.mean()), "rows": len(evidence.shots.labels)}
        return Fitted(
            LinearHead(evidence.names, rows, None, float(scale)), chosen, ("no validation is needed",)
        )


def text_trust(shots: Rows, text_KD: np.ndarray, scale: np.float32) -> np.ndarray:
    """Return a (K,): the mean zero-shot probability of each class on its own shots."""
    p = softmax(scale * (shots.features @ text_KD.T))[np.arange(len(shots.labels)), shots.labels]
    sums = np.bincount(shots.labels, weights=p, minlength=len(text_KD))
    return (sums / np.maximum(np.bincount(shots.labels, minlength=len(text_KD)), 1)).astype(np.float32)


def grown(held_K: np.ndarray, weight_KD: np.ndarray, text_KD: np.ndarray) -> np.ndarray:
    """Return the multipliers after an outer step: the derivative of the PHR penalty where w is.

    `P(z, rho, a) = a z + rho z^2 / 2` for `a + rho z >= 0`, so the new multiplier is `a + rho z`, with
    `z_k = |w_k - t_k|^2` and rho = a_k.
    """
    distance = ((weight_KD - text_KD) ** 2).sum(axis=1)
    return held_K + held_K * distance


def trained(
    config: Any, shots: Rows, text_KD: np.ndarray, held_K: np.ndarray, scale: np.float32
) -> np.ndarray:
    """Return w (K, D) float32 after SGD on the penalised cross-entropy, from the text on."""
    rng = np.random.default_rng(config.seed)
    count = len(shots.labels)
    weight, moving = text_KD.copy(), np.zeros_like(text_KD)
    batches = -(-count // config.batch_size)
    total, made = config.epochs * batches, 0
    for _ in range(config.epochs):
        order = rng.permutation(count)
        for start in range(0, count, config.batch_size):
            rows = order[start : start + config.batch_size]
            part = Rows(shots.features[rows], shots.labels[rows])
            gradient = slope(weight, part, text_KD, held_K, scale)
            moving = np.float32(MOMENTUM) * moving + gradient
            rate = config.learning_rate * (1 + np.cos(np.pi * made / total)) / 2
            weight = weight - np.float32(rate) * moving
            made += 1
    return weight


def slope(
    weight_KD: np.ndarray, shots: Rows, text_KD: np.ndarray, held_K: np.ndarray, scale: np.float32
) -> np.ndarray:
    """Return the gradient (K, D) of `CE(s f (w/|w|)') + mean_k a_k |w_k - t_k|^2`."""
    lengths = np.linalg.norm(weight_KD, axis=1, keepdims=True)
    unit = weight_KD / lengths
    error = softmax(scale * (shots.features @ unit.T))
    error[np.arange(len(shots.labels)), shots.labels] -= 1
    by_unit = (scale / np.float32(len(shots.labels))) * (error.T @ shots.features)
    along = (by_unit * unit).sum(axis=1, keepdims=True)
    pulled = (2 / np.float32(len(text_KD))) * held_K[:, None] * (weight_KD - text_KD)
    return (by_unit - along * unit) / lengths + pulled


def softmax(logits_NK: np.ndarray) -> np.ndarray:
    """Return the softmax of each row; the array is overwritten."""
    logits_NK -= logits_NK.max(axis=1, keepdims=True)
    np.exp(logits_NK, out=logits_NK)
    logits_NK /= logits_NK.sum(axis=1, keepdims=True)
    return logits_NK
