"""Kinds of heads that are fitted on features, and what they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import HeadConfig, PositiveFloat, PositiveInt
from edgeproof_data.sets import DataSource
from edgeproof_deploy.runtime.head import Head
from edgeproof_train.heads.evidence import Evidence, Part
from edgeproof_train.teacher import Teacher
from edgeproof_train.text import TextBank, TextSpec, label_names, make_text_bank

ShotsPart = Literal["train", "gallery", "test"]
"""Parts of the data that a head may keep or learn from."""


class WordsConfig(HeadConfig):
    """Which words a head knows its classes by.

    Attributes:
        labels: file with one label a line, or csv `label,prompt`; the data's class names if not given.
        templates: name of a set of prompt templates, or a file with one a line.
        text_embeddings: .npy (K, D) with a row for each label, in place of the teacher's text tower.
        logit_scale: factor on the cosines between image and text; the teacher's if not given.
    """

    labels: str | None = None
    templates: str = "plain"
    text_embeddings: str | None = None
    logit_scale: PositiveFloat | None = None

    def text_spec(self) -> TextSpec:
        """Return the words."""
        return TextSpec(labels=self.labels, templates=self.templates, text_embeddings=self.text_embeddings)


class FittedConfig(WordsConfig):
    """What a fitted head learns from.

    Attributes:
        use_text: whether text embeddings help; without them the head knows images only.
        shots: training images of each class; all of them if not given.
        val_shots: validation images of each class on which settings are chosen; all of them if not given.
        seed: of the draw of the shots.
        views: augmented views of each shot; 1 is the plain image.
        fit_on: whose features it is fitted on; the teacher's serve the student, which lives in its space.
        max_bytes: largest size of the stored head; to fit, a cache's keys of a class are merged, and ProKeR
            is fitted again with fewer.
        half: whether a cache's keys are stored in half precision.
    """

    use_text: bool = True
    shots: PositiveInt | None = None
    val_shots: PositiveInt | None = None
    seed: int = 0
    views: PositiveInt = 1
    fit_on: Literal["student", "teacher"] = "student"
    max_bytes: PositiveInt | None = None
    half: bool = False

    @property
    def learns_from(self) -> tuple[ShotsPart, ...]:
        """The parts of the data that the shots are of."""
        return ("train",)


@dataclass(frozen=True)
class Fitted:
    """A head and how it came about.

    Attributes:
        head: gives class scores; runs on the device.
        chosen: hyper-parameters by name, those chosen on validation and the others.
        notes: what a reader should know, in words: how they were chosen, what fell back and why.
    """

    head: Head
    chosen: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What a head with its settings looks at.

    Attributes:
        needs: parts of the evidence without which it cannot be fitted.
        uses: parts that it takes where they are there.
        transductive: whether it adapts to the unlabelled images that it is asked about.
    """

    needs: frozenset[Part]
    uses: frozenset[Part]
    transductive: bool

    @property
    def parts(self) -> frozenset[Part]:
        """All that it looks at."""
        return self.needs | self.uses


class FittedKind(ABC):
    """Base of the head kinds that are fitted on features.

    Attributes:
        needs: parts of the evidence without which it cannot be fitted.
        uses: parts that it takes where they are there.
        transductive: whether it adapts to the unlabelled images that it is asked about.
        class_scores: whether the student scores classes itself; never here.
        is_matrix: whether its head is a row of numbers for each label, whatever it is fitted on.
    """

    needs: ClassVar[frozenset[Part]]
    uses: ClassVar[frozenset[Part]] = frozenset()
    transductive: ClassVar[bool] = False
    class_scores: ClassVar[bool] = False
    is_matrix: ClassVar[bool] = False

    @classmethod
    def asked(cls, config: Any) -> Asked:
        """Return what a head with these settings looks at; of several in one, what its members do."""
        members: Any = getattr(config, "members", None)
        if not members:
            return Asked(cls.needs, cls.uses, cls.transductive)
        seen = [_asked_of(member) for member in members]
        needs = frozenset().union(cls.needs, *(one.needs for one in seen))
        uses = frozenset().union(cls.uses & {"val"}, *(one.uses for one in seen))
        return Asked(needs, uses - needs, any(one.transductive for one in seen))

    @classmethod
    def make_bank(cls, config: Any, teacher: Teacher, source: DataSource) -> TextBank:
        """Return the labels with text embeddings; without those where none help and none can be had.

        Raises:
            UsageError: words are wanted, and there is neither a text tower nor a file.
        """
        helps = config.use_text and "text" in cls.asked(config).parts
        if not helps and config.text_embeddings is None and not teacher.lead.has_text:
            return TextBank(label_names(config.text_spec(), source), None)
        return make_text_bank(config.text_spec(), teacher, source)

    @staticmethod
    @abstractmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Return the head that the evidence supports.

        Args:
            config: this kind's settings.
            evidence: checked; `text` is None where `use_text` is off.

        Raises:
            DataError: a part that it needs is missing, or a class has no shot.
        """


def _asked_of(member: HeadConfig) -> Asked:
    kind: Any = component_class("head", member.kind)
    if issubclass(kind, FittedKind):
        return kind.asked(member)
    return Asked(frozenset({"text"}), frozenset(), False)
