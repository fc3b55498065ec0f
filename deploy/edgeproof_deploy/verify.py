"""Verification of a run: every form of the student on the same test images, compared along the chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from edgeproof_configs.progress import progress
from edgeproof_data.loader import eval_batches
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.batches import batch_gate
from edgeproof_deploy.decisions import Vocabulary
from edgeproof_deploy.engine import NOT_RUN_HERE, RUN_HERE, Session, make_engine
from edgeproof_deploy.gates import GateResult, Step, limits_of
from edgeproof_deploy.parity import Form, PairParity, compare_pair
from edgeproof_deploy.preprocessing_parity import (
    PreprocessingParity,
    preprocessing_parity,
    through_loader,
    through_runtime,
)
from edgeproof_train.distil import classifier_scores, new_student, seed_everything
from edgeproof_train.embeddings import embed_images
from edgeproof_train.keeper import LOSSES_FILE
from edgeproof_train.metrics import zero_shot_metrics
from edgeproof_train.run_data import RunData
from edgeproof_train.student import Student

BATCH = 32
PREPROCESSED_IMAGES = 32
CLASSIFIER = "label_cross_entropy.classifier"


@dataclass
class Verification:
    """What was found out about every form.

    Attributes:
        images: how many test images every form was run on.
        rows: the forms, as `result.json` has them, latencies left out.
        controls: chance, the untrained student, normal training.
        pairs: the chain of comparisons.
        preprocessing: training's way from file to input against the device's.
        vocabulary: the labels and what is true.
        embeddings: of the shipped form, (N, D).
        shipped: name of the form that `embeddings` are of.
    """

    images: int
    vocabulary: Vocabulary
    preprocessing: PreprocessingParity
    rows: list[dict[str, Any]] = field(default_factory=list)
    controls: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[PairParity] = field(default_factory=list)
    embeddings: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    shipped: str = ""

    def other_failures(self) -> list[str]:
        """Return failed gates that are not of a pair, in words."""
        gate = self.preprocessing.gate
        return [gate.words("preprocessing")] if gate.status == "fail" else []


def verify_run(data: RunData, engines: dict[str, Path], folder: Path) -> Verification:
    """Score and compare every form.

    Args:
        data: of the run.
        engines: file of each engine by kind, the ONNX Runtime first if it is among them.
        folder: of the stage; scratch files go there.
    """
    images, words = data.split("test"), data.words()
    vocabulary = Vocabulary(
        words.names, words.matrix, data.word_labels(images), images.paths, data.source.unseen
    )
    student = Student.load(data.context.run.stage("train"))
    checked = np.linspace(0, len(images) - 1, min(PREPROCESSED_IMAGES, len(images))).astype(int)
    preprocessing = preprocessing_parity(
        [images.file(int(i)) for i in checked],
        through_loader(student.preprocess),
        through_runtime(student.preprocess),
        folder / "edge_images",
    )
    found = Verification(len(images), vocabulary, preprocessing)
    teacher = Form("teacher", embeddings=data.teacher_rows("test", images)) if data.has_teacher else None
    eager = Form("student", "pytorch", embeddings=embed_images(student, images, device=data.context.device))
    gates = data.recipe.gates
    distilled = None
    if teacher is not None:
        distilled = compare_pair(teacher, eager, limits_of("distil", "fp32", gates), vocabulary)
        add(found, teacher, teacher, None, "")
    add(found, eager, teacher, distilled, RUN_HERE)
    found.rows[-1]["gates"].append(preprocessing.gate.to_dict())
    found.embeddings, found.shipped = eager.embeddings, eager.name  # pyright: ignore[reportAttributeAccessIssue]
    for kind, file in engines.items():
        form, batched = run_engine(kind, file, images, student, data.recipe.deploy.batch)
        step: Step = "export" if kind == "onnxruntime" else "engine"
        pair = compare_pair(eager, form, limits_of(step, "fp32", gates), vocabulary)
        pair.gates.extend(batched)
        add(found, form, teacher, pair, RUN_HERE if form.embeddings is not None else NOT_RUN_HERE)
        if form.embeddings is not None:
            found.embeddings, found.shipped = form.embeddings, form.name
    found.controls = controls(data, images, vocabulary, teacher)
    return found


def add(found: Verification, form: Form, teacher: Form | None, pair: PairParity | None, status: str) -> None:
    """Add a form's row, and the pair that judges it."""
    metrics: dict[str, float] = {}
    if form.embeddings is not None:
        rows = None if teacher is None or form is teacher else teacher.embeddings
        metrics = scores_of(form.embeddings, found.vocabulary, rows)
    if pair is not None:
        found.pairs.append(pair)
    found.rows.append(
        {
            "form": form.form,
            "engine": form.engine,
            "precision": form.precision,
            "status": status or RUN_HERE,
            "reason": form.reason,
            "metrics": metrics,
            "parity": pair.to_dict() if pair else None,
            "gates": [gate.to_dict() for gate in pair.gates] if pair else [],
        }
    )


def scores_of(embeddings: np.ndarray, vocabulary: Vocabulary, teacher: np.ndarray | None) -> dict[str, float]:
    """Return the zero-shot metrics of embeddings (N, D)."""
    return zero_shot_metrics(
        embeddings, vocabulary.labels, vocabulary.text, vocabulary.names, vocabulary.unseen, teacher
    )


def run_engine(
    kind: str, file: Path, images: ImageSet, student: Student, batches: Sequence[int]
) -> tuple[Form, list[GateResult]]:
    """Run an engine over the images, and some of them alone and in batches.

    Returns:
        The form, without embeddings where the engine cannot run here, and the gates of the engine itself.
    """
    engine = make_engine(kind)
    reason = engine.why_not_here()
    if reason is not None:
        return Form("student", kind, reason=f"{NOT_RUN_HERE}: {reason}"), []
    session = engine.open(file)
    try:
        rows = run_session(session, images, student, kind)
        first = next(eval_batches(images, student.preprocess, batch_size=max(batches) + 1))
        gate = batch_gate(session, first["image"].numpy(), batches)
        return Form("student", kind, embeddings=rows), [gate]
    finally:
        session.close()


def run_session(session: Session, images: ImageSet, student: Student, label: str) -> np.ndarray:
    """Return a session's embeddings (N, D) of images that are prepared as for the student."""
    rows = []
    with progress(f"verify {label}", len(images), "images") as shown:
        for batch in eval_batches(images, student.preprocess, batch_size=BATCH):
            rows.append(session.run({"image": batch["image"].numpy()})["embedding"])
            shown.advance(len(rows[-1]))
    return np.concatenate(rows)


def controls(
    data: RunData, images: ImageSet, vocabulary: Vocabulary, teacher: Form | None
) -> list[dict[str, Any]]:
    """Return rows to compare with: chance, the student before training, normal training on labels."""
    rows: list[dict[str, Any]] = []
    if (vocabulary.labels >= 0).any():
        count = len(vocabulary.names)
        chance = {"top1": 1 / count, "top5": min(5 / count, 1.0), "mean_per_class": 1 / count}
        rows.append({"form": "chance", "metrics": chance})
    seed_everything(data.recipe.train.seed)
    untrained = embed_images(new_student(data).eval(), images, device=data.context.device)
    teacher_rows = teacher.embeddings if teacher else None
    rows.append({"form": "untrained student", "metrics": scores_of(untrained, vocabulary, teacher_rows)})
    baseline = data.context.run.stage("baseline")
    if data.context.run.record("baseline") is not None:
        student = Student.load(baseline)
        if data.class_scores:
            metrics = scores_of(embed_images(student, images, device=data.context.device), vocabulary, None)
        else:
            metrics = classifier_scores(data, images, student, read_classifier(baseline))
        rows.append({"form": "baseline", "metrics": metrics})
    return rows


def read_classifier(folder: Path) -> torch.nn.Linear:
    """Return the linear classifier that normal training left beside its student."""
    tensors = load_file(folder / LOSSES_FILE)
    weight, bias = tensors[f"{CLASSIFIER}.weight"], tensors[f"{CLASSIFIER}.bias"]
    classifier = torch.nn.Linear(weight.shape[1], weight.shape[0])
    classifier.load_state_dict({"weight": weight, "bias": bias})
    return classifier
