"""The head that images held out of fitting speak for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, SerializeAsAny, model_validator

from edgeproof_configs.errors import DataError
from edgeproof_configs.registry import component_class, discover, register
from edgeproof_configs.schema import Components, HeadConfig
from edgeproof_train.heads.ensemble import check_members, names_of
from edgeproof_train.heads.evidence import Evidence, Part, require
from edgeproof_train.heads.fitted import Asked, Fitted, FittedConfig, FittedKind
from edgeproof_train.heads.fitting import fit_kind, fitted_class, why_not
from edgeproof_train.heads.held_out import can_hold_out, held_out

NO_CANDIDATES = ("classifier", "teacher_head", "auto", "cascade")
MADE_OF_OTHERS = ("ensemble",)
ORDER = ("gda", "proker", "lp_plus_plus", "clap", "tip_adapter", "logistic", "nearest_mean", "zero_shot")
"""Kinds from the one that is taken first where they cannot be told apart, by what their papers say of eleven
sets and 1 to 16 shots; others follow by name."""
ONE_SHOT = ("lp_plus_plus",)
"""Kinds that come first where classes have one row each: how a class varies is not known then."""
FEW_IMAGES, MANY_PARTS, FEW_PARTS = 2000, 5, 2
"""With fewer images than this four fifths of them choose hyper-parameters, where half would be too few."""


@register("head")
class Auto(FittedKind):
    """One of several heads, chosen by what they say of images that they were not fitted or chosen on.

    Each candidate is fitted for several parts of the validation images, its hyper-parameters chosen on the
    others. Of those that are within one standard error of the best, by the images on which the two differ,
    the first in a fixed order is taken: where images are few, what is good on many sets. It is fitted again
    on everything. Without validation the shots are held out part by part; where each class has one shot only,
    the first candidate is taken.
    """

    class Config(FittedConfig):
        """Among whom, and how.

        Attributes:
            candidates: heads of any kinds; every kind with its defaults if not given.
            folds: parts that are held out in turn; 5 of fewer than 2,000 images and 2 of more if not given.
            transductive: whether kinds that look at the test images, without labels, are candidates too
                where `candidates` is not given.
        """

        kind: Literal["auto"] = "auto"
        candidates: Annotated[tuple[SerializeAsAny[HeadConfig], ...] | None, Components("head")] = None
        folds: Annotated[int, Field(ge=2, le=20)] | None = None
        transductive: bool = False

        @model_validator(mode="after")
        def _candidates_can_be_fitted(self) -> Auto.Config:
            if self.candidates is not None and len(self.candidates) < 2:
                raise ValueError("candidates: name two or more to choose among")
            for number, one in enumerate(self.candidates or ()):
                if one.kind in NO_CANDIDATES:
                    raise ValueError(f"candidates.{number}: a head of kind '{one.kind}' is no candidate")
            if self.candidates is not None and self.transductive:
                raise ValueError("transductive has an effect only without candidates: name the kinds there")
            return self

    needs: ClassVar[frozenset[Part]] = frozenset({"shots"})
    uses: ClassVar[frozenset[Part]] = frozenset({"text", "val"})

    @classmethod
    def asked(cls, config: Any) -> Asked:
        """Return what the candidates may look at; test images only where transductive ones are asked for."""
        candidates = config.candidates or default_candidates(config.transductive)
        seen = [fitted_class(one.kind).asked(one) for one in candidates if one.kind != "zero_shot"]
        uses = frozenset().union(cls.uses, *(one.parts for one in seen))
        return Asked(cls.needs, uses - cls.needs, any(one.transductive for one in seen))

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Fit every candidate on parts of the evidence, and the one that is chosen on all of it.

        Raises:
            DataError: no candidate can be fitted on this evidence; or a class has no shot where no candidates
                are named, which would leave to choose among those that never answer it.
            UsageError: a candidate says itself which words or shots.
        """
        check_members(config.candidates or (), "candidates")
        candidates = config.candidates or default_candidates(config.transductive)
        if config.candidates is None:
            require(evidence, "shots", kind=config.kind)
            candidates = in_order(candidates, evidence)
        notes = [f"{one.kind} {reason}" for one in candidates if (reason := why_not(one, evidence))]
        possible = [one for one in candidates if why_not(one, evidence) is None]
        if not can_hold_out(evidence):
            return first_that_fits(possible, evidence, notes)
        folds = config.folds or parts_for(evidence)
        right: dict[str, np.ndarray] = {}
        kept: list[HeadConfig] = []
        for name, one in zip(names_of(possible), possible, strict=True):
            try:
                right[name] = held_out(one, evidence, folds, config.seed).right
            except DataError as error:
                notes.append(f"{name}: {error.what}")
            else:
                kept.append(one)
        if not kept:
            raise no_candidate(notes)
        answers = np.stack(list(right.values()))
        place, count = choose(answers), answers.shape[1]
        fitted = fit_kind(kept[place], evidence)
        share = {name: round(float(one.mean()), 4) for name, one in right.items()}
        on = "validation" if evidence.val is not None else "shots held out"
        notes += [f"{list(right)[place]} was taken among {len(kept)} by {count} images of {on}"]
        chosen = {"kind": kept[place].kind, "held_out_accuracy": share, **fitted.chosen}
        return Fitted(fitted.head, chosen, (*notes, *fitted.notes))


def choose(right_MN: np.ndarray) -> int:
    """Return the first candidate that is not worse than the best by more than one standard error.

    The error is that of the mean of the images' differences, right or wrong, to the best.

    Args:
        right_MN: whether each of M candidates was right on each of N images; earlier ones are preferred.
    """
    best = right_MN[int(right_MN.mean(axis=1).argmax())].astype(np.float64)
    lags = best - right_MN
    errors = lags.std(axis=1) / np.sqrt(max(1, right_MN.shape[1] - 1))
    return int(np.argmax(lags.mean(axis=1) <= errors + 1e-12))


def parts_for(evidence: Evidence) -> int:
    """Return in how many parts images are held out: more where there are few to choose on."""
    images = evidence.photos() if evidence.val is None else evidence.val
    return MANY_PARTS if len(images.labels) < FEW_IMAGES else FEW_PARTS


def in_order(candidates: Sequence[HeadConfig], evidence: Evidence) -> list[HeadConfig]:
    """Return candidates with those first that do best with one row a class, where there is no more."""
    one_row = evidence.shots is not None and len(evidence.shots.labels) <= len(evidence.names)
    return sorted(candidates, key=lambda one: not (one_row and one.kind in ONE_SHOT))


def default_candidates(transductive: bool) -> list[HeadConfig]:
    """Return every kind that stands alone with its defaults, those of `ORDER` first."""
    left_out = {*NO_CANDIDATES, *MADE_OF_OTHERS}
    known = {kind: found for kind, found in discover("head").items() if kind not in left_out}
    kinds = sorted(known, key=lambda kind: (ORDER.index(kind) if kind in ORDER else len(ORDER), kind))
    return [
        component_class("head", kind).__dict__["Config"]()
        for kind in kinds
        if transductive or not getattr(known[kind], "transductive", False)
    ]


def first_that_fits(possible: Sequence[HeadConfig], evidence: Evidence, notes: list[str]) -> Fitted:
    """Return the first candidate that can be fitted, where nothing can be held out.

    Raises:
        DataError: there is none.
    """
    for one in possible:
        try:
            fitted = fit_kind(one, evidence)
        except DataError as error:
            notes.append(f"{one.kind}: {error.what}")
            continue
        notes.append(
            f"{one.kind} was taken unchosen: there is neither validation nor a second shot of each class"
        )
        return Fitted(fitted.head, {"kind": one.kind, **fitted.chosen}, (*notes, *fitted.notes))
    raise no_candidate(notes)


def no_candidate(notes: Sequence[str]) -> DataError:
    """Return the error that no candidate can be fitted, with the first reasons."""
    return DataError(
        f"head auto: none of the candidates can be fitted: {'; '.join(notes[:3])}",
        fix="give labelled images of each class, or text embeddings",
    )
