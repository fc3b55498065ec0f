"""The teacher's own classifier, copied and frozen, as the classifier of the student."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import HeadConfig, PositiveFloat
from edgeproof_data.sets import DataSource
from edgeproof_train.heads.zero_shot import ZeroShotHead
from edgeproof_train.teacher import Teacher
from edgeproof_train.text import TextBank, unit_rows


@register("head")
class TeacherHead(ZeroShotHead):
    """`logits = s e/|e| (w/|w|)'` with w the rows of the teacher's classifier (CosFace, arXiv 1801.09414).

    The student learns to give features that the teacher's classifier understands; only their directions
    count. It is stored and run like a zero-shot head, whose text embeddings the rows take the place of.
    """

    class Config(HeadConfig):
        """`logit_scale`: s; 32 is what cosine-margin classifiers are usually trained with."""

        kind: Literal["teacher_head"] = "teacher_head"
        logit_scale: PositiveFloat = 32.0

    class_scores: ClassVar[bool] = False

    @staticmethod
    def make_bank(config: Any, teacher: Teacher, source: DataSource) -> TextBank:
        """Return the teacher's rows as embeddings of the classes of the data.

        Raises:
            UsageError: it has no linear classifier, or one for another number of classes.
        """
        del config
        classifier, names = teacher.classifier(), source.class_names
        if classifier is None or classifier.out_features != len(names):
            found = "no linear classifier" if classifier is None else f"{classifier.out_features} classes"
            raise UsageError(
                f"head teacher_head: the teacher has {found}, the data have {len(names)} classes",
                where="head.kind",
                fix="choose a teacher that was trained on these classes",
            )
        matrix = unit_rows(classifier.weight.detach().cpu().numpy())
        return TextBank(names, matrix, (), {"teacher": teacher.identity(), "rows": "classifier"})
