"""ProKeR: kernel regression of what zero-shot gets wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import PositiveFloat, PositiveInt
from edgeproof_deploy.runtime.cache_head import CacheHead
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.evidence import Evidence, Part, Rows, require
from edgeproof_train.heads.fitted import Fitted, FittedConfig, FittedKind
from edgeproof_train.heads.generalised import of_classes
from edgeproof_train.heads.kernel_ridge import kernel, keys_and_systems
from edgeproof_train.heads.selection import Factor, choose, choose_factor
from edgeproof_train.heads.sharpness import sharpened_on_val

BETAS, RIDGES = (1.0, 0.5, 2.0, 4.0, 8.0), (10.0, 1.0, 0.1, 0.03, 0.01, 0.001)
WEIGHTS = np.concatenate([[0.0], np.logspace(-1, 1, 41)])
DEFAULT_BETA, DEFAULT_RIDGE, DEFAULT_WEIGHT = 1.0, 0.03, 1.0
SHARPNESS = 10.0
"""Factor on the sum without validation; also the one under which likelihoods are compared on it."""
AS_THEY_ARE, CENTRES = 1700, 1024
TUNED_ON, FEWEST_CLASSES = 1024, 32
"""Shots that beta and ridge are chosen with where not all can be keys; classes that these must be of."""


class Settings(NamedTuple):
    """How the regression is done."""

    beta: float
    ridge: float
    weight: float


@register("head")
class ProKeR(FittedKind):
    """`logits = g (p(e) + w k(e, X) (k(X, X) + ridge I)^-1 (Y - p(X)))` (arXiv 2501.11175).

    p are the zero-shot probabilities, `k(x, x') = exp(-beta (1 - x.x'))`, X the shots with the views of each
    averaged, Y their classes one-hot. With a large ridge, or w = 0, answers are those of zero-shot. beta,
    ridge, w and then g are chosen on validation, one after the other. More than `max_keys` shots all take
    part, but the regression lies in the span of so many centres of them (`kernel_ridge.reduced_system`).
    """

    class Config(FittedConfig):
        """How the regression is done.

        Attributes:
            beta: how narrow the kernel is; chosen on validation if not given.
            ridge: how much the regression holds to zero-shot; chosen on validation if not given.
            weight: w; chosen on validation if not given.
            max_keys: rows that the head keeps at most; no less than there are classes. If not given, 1,700
                shots are kept as they are, and of more about a thousand centres; of a recipe's head with
                `max_bytes`, as many as fit.
        """

        kind: Literal["proker"] = "proker"
        beta: PositiveFloat | None = None
        ridge: PositiveFloat | None = None
        weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
        max_keys: PositiveInt | None = None

    needs: ClassVar[frozenset[Part]] = frozenset({"shots", "text"})
    uses: ClassVar[frozenset[Part]] = frozenset({"val"})

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Return the regression as a cache beside the zero-shot probabilities.

        Raises:
            DataError: there are no shots or no text, or a class has no shot.
            UsageError: fewer keys than classes are allowed.
        """
        require(evidence, "shots", "text", kind="proker")
        assert evidence.text is not None
        shots = evidence.photos()
        most = max_keys(config, evidence, len(shots.labels))
        base = LinearHead(evidence.names, evidence.text, None, evidence.logit_scale)
        settings, how, notes = chosen(config, evidence), "given where set, else by default", ()
        keys, system = keys_and_systems(shots, residual_of(base, shots), most, half=config.half)
        if len(keys) < len(shots.labels):
            notes = (f"{len(keys)} centres stand for {len(shots.labels)} shots, all of which are fitted",)
        values = system(settings.beta).solved(settings.ridge).astype(np.float32)
        if evidence.val is None:
            how += ": there is no validation"
        else:
            how = "chosen on validation where not given"
            likely = base.probabilities(evidence.val.features)
            near = kernel(evidence.val.features, keys, settings.beta)
            factor = weighed(config, likely, near @ values, settings, evidence.val.labels)
            settings = settings._replace(weight=factor.value)
        values *= np.float32(settings.weight)
        head = CacheHead(evidence.names, keys, values, settings.beta, base, "probabilities", SHARPNESS)
        head, _ = sharpened_on_val(head, evidence)
        return Fitted(
            head,
            {**settings._asdict(), "scale": head.scale, "keys": len(keys)},
            (*notes, f"beta, ridge and weight {how}"),
        )


def max_keys(config: Any, evidence: Evidence, shots: int) -> int:
    """Return how many keys are kept.

    Raises:
        UsageError: fewer than there are classes, by a setting.
    """
    classes = len(evidence.names)
    if config.max_keys is None:
        return shots if shots <= AS_THEY_ARE else max(CENTRES, classes)
    if config.max_keys < min(classes, shots):
        raise UsageError(
            f"proker: max_keys {config.max_keys} for {classes} classes", fix=f"allow {classes} or more"
        )
    return config.max_keys


def residual_of(base: LinearHead, rows: Rows) -> np.ndarray:
    """Return what zero-shot lacks, one-hot minus probabilities, (N, K) float32."""
    residual = torch.from_numpy(base.logits(rows.features)).softmax(dim=1).neg_().numpy()
    residual[np.arange(len(rows.labels)), rows.labels] += 1
    return residual


def weighed(
    config: Any, likely_NK: np.ndarray, votes_NK: np.ndarray, settings: Settings, labels_N: np.ndarray
) -> Factor:
    """Return the weight of the votes, beside zero-shot probabilities, that is right most often."""
    weights = WEIGHTS if config.weight is None else np.array([settings.weight])
    scale = np.float32(SHARPNESS)
    return choose_factor(scale * likely_NK, scale * votes_NK, labels_N, weights)


def chosen(config: Any, evidence: Evidence) -> Settings:
    """Return the best beta at the default ridge, with the best ridge for it; the weight is not final.

    Where the shots are too many to be keys, a part of the classes decides, every second, third ..., with all
    shots and validation images of these: what a shot is worth does not depend on how many classes there are.
    If that leaves few classes, all shots decide, and few centres stand for them.
    """
    given = Settings(
        config.beta or DEFAULT_BETA,
        config.ridge or DEFAULT_RIDGE,
        DEFAULT_WEIGHT if config.weight is None else config.weight,
    )
    if evidence.val is None or (config.beta and config.ridge):
        return given
    shots, classes = len(evidence.photos().labels), len(evidence.names)
    seen, most = evidence, max_keys(config, evidence, shots)
    if shots > most:
        kept = np.arange(classes) % -(-shots // TUNED_ON) == 0
        few = kept.sum() < FEWEST_CLASSES or not kept[evidence.val.labels].any()
        seen, most = (evidence, max(TUNED_ON // 2, classes)) if few else (of_classes(evidence, kept), shots)
    betas = BETAS if config.beta is None else (config.beta,)
    best = tried(config, seen, most, betas, (given.ridge,), given)
    return best if config.ridge else tried(config, seen, most, (best.beta,), RIDGES, best)


def tried(
    config: Any,
    evidence: Evidence,
    most: int,
    betas: Sequence[float],
    ridges: Sequence[float],
    given: Settings,
) -> Settings:
    """Return the settings that are right most often on validation, likelihood breaking ties."""
    assert evidence.text is not None
    assert evidence.val is not None
    val, shots = evidence.val, evidence.photos()
    base = LinearHead(evidence.names, evidence.text, None, evidence.logit_scale)
    keys, system = keys_and_systems(shots, residual_of(base, shots), most, half=config.half)
    likely = base.probabilities(val.features)

    def candidates() -> Iterator[tuple[Settings, Factor]]:
        for beta in betas:
            equations, near = system(beta), kernel(val.features, keys, beta)
            for ridge in ridges:
                settings = given._replace(beta=beta, ridge=ridge)
                values = equations.solved(ridge).astype(np.float32)
                yield settings, weighed(config, likely, near @ values, settings, val.labels)

    return choose(candidates(), lambda pair: pair[1].score).value[0]
