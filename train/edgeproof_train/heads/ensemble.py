"""Several heads as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, SerializeAsAny, model_validator

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import Components, HeadConfig, check_shares
from edgeproof_deploy.runtime.ensemble_head import EnsembleHead, z_scores
from edgeproof_deploy.runtime.head import Head
from edgeproof_train.heads.evidence import Evidence, Part
from edgeproof_train.heads.fitted import Fitted, FittedConfig, FittedKind
from edgeproof_train.heads.fitting import fit_kind, moved_keys
from edgeproof_train.heads.joined import sharpened
from edgeproof_train.heads.weights import choose_sharpness, choose_weights, choose_z_weights

NO_MEMBERS = ("classifier", "teacher_head", "ensemble", "cascade")


@register("head")
class Ensemble(FittedKind):
    """`p = sum_m w_m p_m` of the members' probabilities, or `sum_m w_m z_m` of their standardised logits.

    On validation each member gets its temperature, by which probabilities mean what they say (arXiv
    1706.04599), and the weights are those that find the labels likeliest. Without validation temperatures
    stay, and weights are equal.
    """

    class Config(FittedConfig):
        """Who, and with what weight.

        Attributes:
            members: heads of any kinds; which words, shots and views is said once, beside them.
            weights: of the members, with a sum of 1; chosen on validation if not given.
            of: what is added up.
            calibrate: whether each member gets its temperature on validation.
        """

        kind: Literal["ensemble"] = "ensemble"
        members: Annotated[
            tuple[SerializeAsAny[HeadConfig], ...], Components("head"), Field(min_length=2, max_length=64)
        ]
        weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
        of: Literal["probabilities", "z_scores"] = "probabilities"
        calibrate: bool = True

        @model_validator(mode="after")
        def _members_can_be_fitted(self) -> Ensemble.Config:
            for number, member in enumerate(self.members):
                if member.kind in NO_MEMBERS:
                    raise ValueError(f"members.{number}: a head of kind '{member.kind}' cannot be a member")
            return self

        @model_validator(mode="after")
        def _weights_fit(self) -> Ensemble.Config:
            check_shares(self.weights, len(self.members))
            return self

    needs: ClassVar[frozenset[Part]] = frozenset()
    uses: ClassVar[frozenset[Part]] = frozenset({"shots", "text", "unlabelled", "val"})

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Fit the members one after the other, then choose what they count.

        Raises:
            DataError: a member cannot be fitted on this evidence.
            UsageError: a member says itself which words or shots.
        """
        check_members(config.members, "members")
        fitted = [fit_kind(member, evidence) for member in config.members]
        heads = [one.head for one in fitted]
        notes = [
            f"{name}: {note}"
            for name, one in zip(names_of(config.members), fitted, strict=True)
            for note in one.notes
        ]
        factors = [1.0] * len(heads)
        if evidence.val is not None and config.calibrate and config.of == "probabilities":
            rows, labels = evidence.val
            factors = [choose_sharpness(head(rows), labels) for head in heads]
            heads = [sharpened(head, factor) for head, factor in zip(heads, factors, strict=True)]
        weights, how = weights_of(config, heads, evidence)
        chosen = {
            name: {**one.chosen, "sharpness": factor, "weight": float(weight)}
            for name, one, factor, weight in zip(
                *(names_of(config.members), fitted, factors, weights), strict=True
            )
        }
        head = EnsembleHead(evidence.names, tuple(heads), weights, config.of)
        return Fitted(head, {"members": chosen, "weights": how}, tuple(notes))


def weights_of(config: Any, heads: list[Head], evidence: Evidence) -> tuple[np.ndarray, str]:
    """Return the members' weights (M,) and how they were found."""
    if config.weights is not None:
        return np.array(config.weights), "given"
    if evidence.val is None:
        return np.full(len(heads), 1 / len(heads)), "equal: there is no validation"
    rows, labels = evidence.val
    if config.of == "probabilities":
        return choose_weights([head.probabilities(rows) for head in heads], labels), "chosen on validation"
    return choose_z_weights([z_scores(head(rows)) for head in heads], labels), "chosen on validation"


def names_of(members: Sequence[HeadConfig]) -> list[str]:
    """Return the members' kinds, numbered where one is there twice."""
    kinds = [member.kind for member in members]
    return [
        kind if kinds.count(kind) == 1 else f"{kind} {kinds[: place + 1].count(kind)}"
        for place, kind in enumerate(kinds)
    ]


def check_members(members: Sequence[HeadConfig], key: str) -> None:
    """Refuse settings of members that hold for all of them.

    Raises:
        UsageError: a member says which words, shots or views.
    """
    for number, member in enumerate(members):
        moved = moved_keys(member)
        if moved:
            raise UsageError(
                f"{key}.{number}.{moved[0]} has no effect", fix=f"set {moved[0]} beside {key}, for all"
            )
