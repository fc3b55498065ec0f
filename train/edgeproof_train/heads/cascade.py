"""Heads and specialists in a row, each for what it is best at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, SerializeAsAny, model_validator

from edgeproof_configs.component_configs import Config as Plain
from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import Components, Fraction, HeadConfig, Parts
from edgeproof_data.paths import some_of
from edgeproof_deploy.runtime.cascade_head import MOST_STEPS, CascadeHead
from edgeproof_deploy.runtime.cascade_step import Step
from edgeproof_train.heads.cascade_labels import Lists, narrowed
from edgeproof_train.heads.cascade_val import Calibrated, calibrated
from edgeproof_train.heads.evidence import Evidence, Part
from edgeproof_train.heads.fitted import Fitted, FittedConfig, FittedKind
from edgeproof_train.heads.fitting import fit_kind, moved_keys
from edgeproof_train.specialist import Consultation, Specialist, name_of

NO_STEPS = ("classifier", "teacher_head", "cascade")
Labels = str | Annotated[tuple[str, ...], Field(min_length=1)]


class StepConfig(Plain):
    """One step of a cascade.

    A list of labels is written out, or is a file with one a line, or one of these words: `all`, `seen` and
    `unseen` of the data, `specialists` (the classes of all of them).

    Attributes:
        head: of any kind that can be fitted, or `zero_shot`, on the student's embedding; which words, shots
            and views is said once, for all steps.
        specialist: the folder of a finished run with `head: classifier`; its classes are labels of the head.
        over: labels that it chooses between; all of them, or the specialist's classes, if not given.
        answers: labels that it may answer; those of `over` if not given.
        except_for: labels that it may not answer.
        threshold: smallest probability of its best label with which it answers; chosen on val if not given.
    """

    head: Annotated[SerializeAsAny[HeadConfig] | None, Components("head")] = None
    specialist: str | None = None
    over: Labels | None = None
    answers: Labels | None = None
    except_for: Labels | None = None
    threshold: Fraction | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> StepConfig:
        if (self.head is None) == (self.specialist is None):
            raise ValueError("a step has either a head or a specialist")
        if self.head is not None and self.head.kind in NO_STEPS:
            raise ValueError(f"head: one of kind '{self.head.kind}' cannot be a step")
        return self

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return self.head.kind if self.head else name_of(self.specialist or "")


@register("head")
class Cascade(FittedKind):
    """Steps in order: one whose best label is among its answers, and sure, answers; else the next is asked.

    All heads read the student's embedding, which is computed once. A specialist looks at the image itself,
    and is shown only images that reach it. On validation each step gets a temperature (arXiv 1706.04599),
    and how sure it must be is chosen so that most images are right.
    """

    class Config(FittedConfig):
        """Which steps, and how their answers become one.

        Attributes:
            steps: in order; the first one has a head.
            combine: `switch`: the step that answers decides. `product`: p(group) p(label | group): a step
                keeps what it gives to its answers and passes the rest on; there are no thresholds.
            least_share: smallest share of an image that `product` passes on.
            select: what thresholds are chosen by.
            false_answers: share of validation images that a step may take whose own classes have none there.
        """

        kind: Literal["cascade"] = "cascade"
        steps: Annotated[
            tuple[SerializeAsAny[StepConfig], ...], Parts(), Field(min_length=1, max_length=MOST_STEPS)
        ]
        combine: Literal["switch", "product"] = "switch"
        least_share: Annotated[float, Field(ge=0, lt=1)] = 0.01
        select: Literal["top1", "mean_per_class"] = "top1"
        false_answers: Fraction = 0.05

        @model_validator(mode="after")
        def _steps_fit(self) -> Cascade.Config:
            if self.steps[0].head is None:
                raise ValueError("steps.0: a specialist would see every image: begin with a head")
            names = [step.name for step in self.steps if step.specialist]
            if len(set(names)) < len(names):
                raise ValueError("steps: a specialist is there twice, or two have folders of one name")
            for number, step in enumerate(self.steps):
                last = number == len(self.steps) - 1
                if step.threshold is not None and (last or self.combine == "product"):
                    why = "the last step answers always" if last else "combine: product has no thresholds"
                    raise ValueError(f"steps.{number}.threshold has no effect: {why}")
                if last and (step.answers is not None or step.except_for is not None):
                    raise ValueError(f"steps.{number}: the last step answers all of `over`: set that alone")
            return self

        @property
        def members(self) -> tuple[HeadConfig, ...]:
            """The heads of the steps."""
            return tuple(step.head for step in self.steps if step.head is not None)

        @property
        def specialists(self) -> dict[str, str]:
            """The run of each specialist, by its name."""
            return {step.name: step.specialist for step in self.steps if step.specialist is not None}

    needs: ClassVar[frozenset[Part]] = frozenset()
    uses: ClassVar[frozenset[Part]] = frozenset({"shots", "text", "unlabelled", "val"})

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Fit the heads of the steps, each on what is known of its labels, then choose thresholds.

        Raises:
            DataError: a head cannot be fitted, a list of labels does not fit, or no step answers some label.
            UsageError: a step says which words or shots, or a specialist is no finished classifier.
        """
        refuse_own_words(config.steps)
        root = None if evidence.around is None else evidence.around.root
        specialists = {name: Specialist.read(path, root) for name, path in config.specialists.items()}
        classes = {name: one.classes for name, one in specialists.items()}
        lists = Lists(evidence, classes, config.combine == "product")
        names = [f"{number} {step.name}" for number, step in enumerate(config.steps, 1)]
        made = [
            make_step(step, f"head.steps.{number}", lists, last=number == len(config.steps) - 1)
            for number, step in enumerate(config.steps)
        ]
        notes = [
            f"{name}: {note}"
            for name, (_, fitted) in zip(names, made, strict=True)
            for note in (fitted.notes if fitted else ())
        ]
        found = with_thresholds(config, [step for step, _ in made], names, evidence, specialists)
        try:
            head = CascadeHead(evidence.names, found.steps, config.combine, config.least_share)
        except ValueError as error:
            raise DataError(
                f"the steps do not make a cascade: {error}",
                where="head.steps",
                fix="let the last step choose between all that the others may not answer",
            ) from error
        chosen = {
            name: {
                "labels": len(step.rows),
                "answers": int(step.answers.sum()),
                "threshold": step.threshold,
                "temperature": step.temperature,
                **(fitted.chosen if fitted else {}),
            }
            for name, step, (_, fitted) in zip(names, head.steps, made, strict=True)
        }
        about = {name: specialist.described() for name, specialist in specialists.items()}
        return Fitted(head, {"steps": chosen, "specialists": about}, (*notes, *found.notes))


def make_step(config: StepConfig, place: str, lists: Lists, *, last: bool) -> tuple[Step, Fitted | None]:
    """Return a step that is sure of all it says, and how its head came about.

    Args:
        config: of the step.
        place: of its settings, for an error.
        lists: what lists of labels stand for.
        last: whether it answers all that it chooses between.

    Raises:
        DataError: the lists do not fit, or the head cannot be fitted.
    """
    evidence, known = lists.evidence, None
    if config.specialist is not None:
        # The classes in the order of the specialist's scores, each where the cascade has it.
        classes = lists.specialists[config.name]
        each = [int(lists.rows((label,), f"{place}.specialist")[0]) for label in classes]
        known = np.array(each, np.int64)
        if len(np.unique(known)) < len(known):
            raise DataError("two classes of the specialist are one label of the head", where=place)
    over = config.over or "all"
    rows = lists.rows(over, f"{place}.over") if known is None or config.over else np.unique(known)
    if known is not None and not np.isin(rows, known).all():
        lacks = [evidence.names[row] for row in np.setdiff1d(rows, known)]
        raise DataError(f"the specialist does not know {some_of(lacks)}", where=f"{place}.over")
    answers = np.ones(len(rows), bool)
    if config.answers is not None:
        answers = np.isin(rows, lists.rows(config.answers, f"{place}.answers"))
    if config.except_for is not None:
        answers &= ~np.isin(rows, lists.rows(config.except_for, f"{place}.except_for"))
    if not answers.any() and not last:
        raise DataError("the step may answer no label: it would do nothing", where=place)
    if lists.product and not last and answers.all():
        raise DataError(
            "the step may answer all labels that it knows, and product would pass nothing on",
            where=place,
            fix="let it choose between others as well (over), and set answers; or combine: switch",
        )
    if config.head is not None:
        fitted = fit_kind(config.head, narrowed(evidence, rows))
        return Step(rows, answers, head=fitted.head), fitted
    assert known is not None
    columns = np.array([int(np.flatnonzero(known == row)[0]) for row in rows])
    return Step(rows, answers, specialist=config.name, columns=columns, classes=len(known)), None


def with_thresholds(
    config: Any,
    steps: Sequence[Step],
    names: Sequence[str],
    evidence: Evidence,
    specialists: Mapping[str, Specialist],
) -> Calibrated:
    """Return the steps as sure as validation says they should be.

    Raises:
        UsageError: there are features of validation images, but not the images that specialists look at.
    """
    given = [step.threshold for step in config.steps]
    if evidence.val is None:
        sure = tuple(replace(step, threshold=value or 0.0) for step, value in zip(steps, given, strict=True))
        return Calibrated(sure, ("no validation images: a step answers however sure it is",))
    around = evidence.around
    ask = None
    if specialists:
        if around is None or around.val is None:
            raise UsageError(
                "specialists look at images, and there are features only",
                where="head.steps",
                fix="fit the cascade in a run: edgeproof head RECIPE",
            )
        ask = Consultation(around.val, specialists, around.device)
    return calibrated(
        steps,
        names,
        given,
        evidence.val,
        ask,
        mean_per_class=config.select == "mean_per_class",
        false_answers=config.false_answers,
    )


def refuse_own_words(steps: Sequence[StepConfig]) -> None:
    """Refuse settings of a step's head that hold for all steps.

    Raises:
        UsageError: one says which words, shots or views.
    """
    for number, step in enumerate(steps):
        moved = moved_keys(step.head) if step.head is not None else []
        if moved:
            raise UsageError(
                f"steps.{number}.head.{moved[0]} has no effect", fix=f"set {moved[0]} beside steps, for all"
            )
