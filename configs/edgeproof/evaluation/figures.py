"""The figures of one model on one split, each computed only where the data allow it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from sklearn.metrics import cohen_kappa_score, f1_score, roc_auc_score

from edgeproof.evaluation.answers import Answers
from edgeproof_configs.errors import DataError
from edgeproof_data.paths import counted, some_of
from edgeproof_data.sets import ImageSet
from edgeproof_data.tables import read_label_table
from edgeproof_deploy.paired import difference_interval, mcnemar_p
from edgeproof_train.calibration import calibration_metrics, fit_temperature, probabilities
from edgeproof_train.knn import fair_neighbours, knn_metrics
from edgeproof_train.metrics import head_metrics, zero_shot_metrics
from edgeproof_train.verification import Verification, verification_rates

Figures = dict[str, float]
LabelSets = Mapping[str, np.ndarray]


def accuracy(answers: Answers, teacher_rows: np.ndarray | None) -> Figures:
    """Return top-1, top-5, mean per class, seen and unseen, F1, kappa, AUC, and the cosine to the teacher.

    F1 and AUC are means over classes, the AUC of each class against all others.
    """
    subject, at = answers.subject, answers.labelled
    names, unseen = subject.words.names, subject.source.unseen
    if subject.fitted:
        found = head_metrics(
            lambda _: answers.logits, answers.rows, answers.true, names, unseen, teacher_rows
        )
    else:
        matrix = subject.words.matrix
        found = zero_shot_metrics(answers.rows, answers.true, matrix, names, unseen, teacher_rows)
    true, predicted = answers.true[at], answers.predicted[at]
    present = np.unique(true)
    if len(present) < 2:
        return found
    found["f1_macro"] = float(f1_score(true, predicted, labels=present, average="macro"))
    found["kappa"] = float(cohen_kappa_score(true, predicted))
    scores = probabilities(answers.logits[at])
    found["auc"] = float(np.mean([roc_auc_score(true == label, scores[:, label]) for label in present]))
    return found


def against_teacher(student: Answers, teacher: Answers) -> Figures:
    """Return how the student's right and wrong answers differ from the teacher's on the same images.

    `top1_delta` is accuracy less the teacher's, with a 95 % bootstrap interval and McNemar's exact p;
    `teacher_agreement` is the share of images on which both give the same answer.
    """
    at = student.labelled
    found = {"teacher_agreement": float((student.predicted == teacher.predicted).mean())}
    if not len(at):
        return found
    own, others = (model.predicted[at] == student.true[at] for model in (student, teacher))
    low, high = difference_interval(others, own)
    found |= {"top1_delta": float(own.mean() - others.mean()), "top1_delta_low": low, "top1_delta_high": high}
    return found | {"mcnemar_p": mcnemar_p(int((others & ~own).sum()), int((own & ~others).sum()))}


def calibration(answers: Answers, val: Answers | None) -> Figures:
    """Return ECE, NLL and Brier score, and the same after dividing by a temperature fitted on `val`."""
    if not len(answers.labelled):
        return {}
    found = calibration_metrics(answers.logits, answers.true)
    if val is None:
        return found
    temperature = fit_temperature(val.logits, val.true)
    scaled = calibration_metrics(answers.logits, answers.true, temperature)
    return found | {"temperature": temperature} | {f"{name}_scaled": value for name, value in scaled.items()}


def neighbours(answers: Answers) -> Figures:
    """Return how often the nearest of the other images, and the k nearest, are of an image's class.

    k is 20, and no more than a class has others (`fair_neighbours`).

    Images whose features are all zero have no direction and are left out.
    """
    if answers.features is None:
        return {}
    labels = np.where(answers.features.any(axis=1), answers.images.labels, -1)
    k = fair_neighbours(labels)
    classes = len(answers.images.class_names)
    return knn_metrics(answers.features, labels, classes=classes, k=k) if k >= 1 else {}


def verification(answers: Answers, labels: LabelSets) -> dict[str, Verification]:
    """Return the verification rates by each set of labels in which two images are of one class."""
    if answers.features is None:
        return {}
    usable = {name: given for name, given in labels.items() if has_pairs(given)}
    return verification_rates(answers.features, usable)


def verified(found: Mapping[str, Verification]) -> Figures:
    """Return the resolvable rates as `verified_fine@0.001`, the false-accept rate at the end."""
    return {
        f"verified_{name}@{far:g}": rate
        for name, one in found.items()
        for far, rate in one.rates.items()
        if rate is not None
    }


def routed(answers: Answers) -> Figures:
    """Return, of a cascade, the accuracy if routing never erred, and what it loses by erring."""
    found = answers.routing or {}
    return {name: found[name] for name in ("oracle_accuracy", "lost_by_routing") if name in found}


def label_sets(images: ImageSet, files: Mapping[str, Path | None]) -> LabelSets:
    """Return the sets of labels to verify by, int64 (N,) each.

    Args:
        images: N images.
        files: csv `path,label` by name; None for `fine` means the data's own labels.

    Raises:
        DataError: a table is not readable, or lacks some of the images.
    """
    found = {name: table_labels(images, file) for name, file in files.items() if file is not None}
    return found if "fine" in found else {"fine": images.labels, **found}


def table_labels(images: ImageSet, file: Path) -> np.ndarray:
    """Return the number of each image's label in a table `path,label`, whose paths start at data.root."""
    if not file.is_file():
        raise DataError("there is no such table of labels", where=file)
    table = read_label_table(file)
    lacking = [path for path in images.paths if path not in table]
    if lacking:
        raise DataError(
            f"{counted(len(lacking), 'image')} without a label: {some_of(lacking)}",
            where=file,
            fix=f"add rows path,label; paths start at data.root ({images.root})",
        )
    return np.unique([table[path] for path in images.paths], return_inverse=True)[1]


def has_pairs(labels: np.ndarray) -> bool:
    """Whether two images are of one class, and two of different ones."""
    counts = np.unique(labels[labels >= 0], return_counts=True)[1]
    return len(counts) > 1 and bool(counts.max() > 1)
