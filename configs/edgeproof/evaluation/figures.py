"""The figures of one model on one split, each computed only where the data allow it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.metrics import cohen_kappa_score, f1_score, roc_auc_score

from edgeproof.evaluation.subject import Subject
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.paired import difference_interval, mcnemar_p
from edgeproof_train.embeddings import embed_images, pooled_features
from edgeproof_train.metrics import cosines_to, zero_shot_metrics
from edgeproof_train.tta import Tta, embed_images_tta

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Answers:
    """What a model says of N images.

    Attributes:
        subject: whose labels they are about.
        images: N images.
        rows: (N, D) float32, its embeddings, or its class scores where the space is theirs.
        features: (N, F), what images are compared by; None where it is not known.
    """

    subject: Subject
    images: ImageSet
    rows: np.ndarray
    features: np.ndarray | None

    @cached_property
    def true(self) -> np.ndarray:
        """Row of each image's class among the words, int64 (N,), -1 where there is none."""
        return self.subject.word_of_class[self.images.labels]

    @cached_property
    def labelled(self) -> np.ndarray:
        """Positions of the images that have a label among the words."""
        return np.flatnonzero(self.true >= 0)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Row of the best word for each image, int64 (N,)."""
        return cosines_to(self.subject.words.matrix, self.rows).argmax(axis=1)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(N, K) float64, the softmax of the head's class scores."""
        logits = self.subject.head.logits(self.rows).astype(np.float64)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)

    @property
    def certainty(self) -> np.ndarray:
        """(N,) probability of what was predicted."""
        return self.probabilities[np.arange(len(self.predicted)), self.predicted]


def answers_of(subject: Subject, images: ImageSet) -> Answers:
    """Run the student over images once, and a second time for its features where it scores classes."""
    rows = embed_images(subject.student, images, device=subject.device, label="evaluate")
    features = rows
    if subject.class_scores:
        features = pooled_features(subject.student, images, device=subject.device)
    return Answers(subject, images, rows, features)


def tta_answers_of(subject: Subject, images: ImageSet) -> tuple[str, Answers]:
    """Run the student over ten views of each image; return the name of how they were merged, too."""
    tta: Tta = "tencrop_logits" if subject.class_scores else "tencrop_embeddings"
    rows = embed_images_tta(subject.student, images, tta=tta, device=subject.device, label="ten crops")
    return tta, Answers(subject, images, rows, None if subject.class_scores else rows)


def accuracy(answers: Answers, teacher_rows: np.ndarray | None) -> Figures:
    """Return top-1, top-5, mean per class, seen and unseen, F1, kappa, AUC, and the cosine to the teacher.

    F1 and AUC are means over classes, the AUC of each class against all others.
    """
    subject, at = answers.subject, answers.labelled
    found: Figures = dict(
        zero_shot_metrics(
            answers.rows,
            answers.true,
            subject.words.matrix,
            subject.words.names,
            subject.source.unseen,
            teacher_rows,
        )
    )
    true, predicted = answers.true[at], answers.predicted[at]
    present = np.unique(true)
    if len(present) < 2:
        return found
    found["f1_macro"] = float(f1_score(true, predicted, labels=present, average="macro"))
    found["kappa"] = float(cohen_kappa_score(true, predicted))
    scores = answers.probabilities[at]
    found["auc"] = float(np.mean([roc_auc_score(true == label, scores[:, label]) for label in present]))
    return found


def against_teacher(student: Answers, teacher: Answers) -> Figures:
    """Return how the student's right and wrong answers differ from the teacher's on the same images.

    `top1_delta` is accuracy less the teacher's, with a 95 % bootstrap interval and McNemar's exact p;
    `teacher_agreement` is the share of images on which both give the same answer.
    """
    at = student.labelled
    found: Figures = {"teacher_agreement": float((student.predicted == teacher.predicted).mean())}
    if not len(at):
        return found
    own, others = (model.predicted[at] == student.true[at] for model in (student, teacher))
    low, high = difference_interval(others, own)
    found |= {"top1_delta": float(own.mean() - others.mean()), "top1_delta_low": low, "top1_delta_high": high}
    return found | {"mcnemar_p": mcnemar_p(int((others & ~own).sum()), int((own & ~others).sum()))}
