"""Verification of a run: every form of the student on the same test images, compared along the chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from edgeproof_compress.quantized_student import QuantizedStudent
from edgeproof_configs.progress import progress
from edgeproof_data.loader import eval_batches
from edgeproof_data.sets import ImageSet, unlabelled
from edgeproof_deploy.batches import batch_gate
from edgeproof_deploy.claims import Claim
from edgeproof_deploy.decisions import Vocabulary
from edgeproof_deploy.engine import NOT_RUN_HERE, RUN_HERE, Session, make_engine
from edgeproof_deploy.engine_claims import claims_of
from edgeproof_deploy.forms import TENSORRT, StudentForm
from edgeproof_deploy.gates import GateResult, Step, limits_of
from edgeproof_deploy.parity import Form, PairParity, compare_pair
from edgeproof_deploy.preprocessing_parity import (
    PreprocessingParity,
    preprocessing_parity,
    through_loader,
    through_runtime,
    write_edge_images,
)
from edgeproof_train.distil import classifier_scores, new_student, seed_everything
from edgeproof_train.embeddings import embed_images
from edgeproof_train.keeper import LOSSES_FILE
from edgeproof_train.run_data import RunData
from edgeproof_train.run_head import heads_of_run
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
        claims: whether INT8, half precision and sparsity are what they are called, in each engine.
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
    claims: list[Claim] = field(default_factory=list)
    embeddings: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    shipped: str = ""

    def other_failures(self) -> list[str]:
        """Return failed gates that are not of a pair, in words."""
        gate = self.preprocessing.gate
        return [gate.words("preprocessing")] if gate.status == "fail" else []


@dataclass(frozen=True)
class FormFiles:
    """A form of the student and what each engine opens of it, the ONNX Runtime first if it is among them.

    Attributes:
        files: what an engine opens, by its kind.
        sources: what that was made of: the ONNX file, or the student's folder.
    """

    form: StudentForm
    files: dict[str, Path]
    sources: dict[str, Path]


def verify_run(data: RunData, forms: Sequence[FormFiles], folder: Path) -> Verification:
    """Score and compare every form.

    Args:
        data: of the run.
        forms: those of the run, the student as trained first.
        folder: of the stage; scratch files go there.
    """
    images, words = data.split("test"), data.words()
    heads = heads_of_run(data).on(data, images)
    vocabulary = Vocabulary(
        words.names,
        words.matrix,
        data.word_labels(images),
        images.paths,
        data.source.unseen,
        heads.student,
        heads.teacher,
    )
    student = Student.load(data.context.run.stage("train"))
    checked = np.linspace(0, len(images) - 1, min(PREPROCESSED_IMAGES, len(images))).astype(int)
    hard = write_edge_images(folder / "edge_images")
    preprocessing = preprocessing_parity(
        [images.file(int(i)) for i in checked],
        through_loader(student.preprocess),
        through_runtime(student.preprocess),
        hard,
    )
    found = Verification(len(images), vocabulary, preprocessing)
    edges = unlabelled(folder / "edge_images", [file.name for file in hard])
    teacher = Form("teacher", embeddings=data.teacher_rows("test", images)) if data.has_teacher else None
    if teacher is not None:
        add(found, teacher, teacher, [], "")
    Chain(data, images, student, found, teacher, edges).run(forms)
    found.controls = controls(data, images, vocabulary, teacher)
    return found


@dataclass
class Chain:
    """Goes from the teacher over the student in PyTorch to its forms in the engines, pair by pair.

    Attributes:
        edges: images that an engine may go wrong on.
        eager: what the forms gave in PyTorch, by key.
        exported: what ONNX Runtime gave of the files that it ran.
    """

    data: RunData
    images: ImageSet
    student: Student
    found: Verification
    teacher: Form | None
    edges: ImageSet
    eager: dict[str, Form] = field(default_factory=dict)
    exported: dict[Path, Form] = field(default_factory=dict)

    def run(self, forms: Sequence[FormFiles]) -> None:
        """Score and compare every form."""
        for one in forms:
            if one.form.has_own_student:
                self.in_pytorch(one.form)
            for kind, file in one.files.items():
                self.in_engine(one.form, kind, file, one.sources[kind])

    def in_pytorch(self, form: StudentForm) -> None:
        """Run a form in PyTorch and compare it with the one that it was made of."""
        eager = self.eager[form.key] = self.embedded(form, form.load())
        if form.key == "fp32":
            pairs = [self.pair(self.teacher, eager, "distil", "fp32")] if self.teacher else []
            self.found.embeddings, self.found.shipped = eager.rows, eager.name
        elif form.precision == "int8":
            base = self.eager["fp32" if form.name == "student" else "sparse_fp32"]
            pairs = [self.pair(base, eager, "quantize", "int8")]
        else:
            pairs = [self.pair(self.eager["fp32"], eager, "sparsify", "fp32")]
        add(self.found, eager, self.teacher, pairs, RUN_HERE)
        if form.key == "fp32":
            self.found.rows[-1]["gates"].append(self.found.preprocessing.gate.to_dict())

    def in_engine(self, form: StudentForm, kind: str, file: Path, source: Path) -> None:
        """Run a form in an engine and compare it with PyTorch, and with the student as trained."""
        batches = self.data.recipe.deploy.batch
        run = run_engine(form, kind, (file, source), (self.images, self.edges), self.student, batches)
        made = run.form
        plain = self.eager["fp32"]
        if form.precision == "fp16":
            pairs = [self.pair(plain, made, "engine", "fp16")]
        elif form.precision == "int8":
            pairs = []
            if kind not in TENSORRT:
                pairs.append(self.pair(self.rounded(form), made, "export", "int8"))
            shipped = "shipped" if form.name == "student" else "shipped sparse"
            pairs.append(self.pair(plain, made, shipped, "int8"))
        else:
            step: Step = "export" if kind == "onnxruntime" else "engine"
            pairs = [self.pair(self.eager[form.key], made, step, "fp32")]
            if form.name == "sparse":
                pairs.append(self.pair(plain, made, "shipped sparse", "fp32"))
        pairs[0].gates.extend(run.gates)
        pairs = [*self.same_file(form, kind, made, source), *pairs]
        add(self.found, made, self.teacher, pairs, RUN_HERE if made.embeddings is not None else NOT_RUN_HERE)
        self.found.claims.extend(run.claims)
        self.found.rows[-1]["claims"] = [claim.to_dict() for claim in run.claims]
        if made.embeddings is not None and form.key == "fp32":
            self.found.embeddings, self.found.shipped = made.embeddings, made.name

    def same_file(self, form: StudentForm, kind: str, made: Form, source: Path) -> list[PairParity]:
        """Compare an engine with ONNX Runtime on the same file: no fault of the export shows here."""
        if kind == "onnxruntime":
            self.exported[source] = made
            return []
        reference = self.exported.get(source)
        if reference is None or made.embeddings is None:
            return []
        return [self.pair(reference, made, "engine", form.precision)]

    def rounded(self, form: StudentForm) -> Form:
        """Return an INT8 form in PyTorch, rounding where ONNX Runtime does, whatever it was tuned for."""
        student = form.load()
        assert isinstance(student, QuantizedStudent)
        if student.spec.target == "onnxruntime":
            return self.eager[form.key]
        student.use("onnxruntime")
        return self.embedded(form, student)

    def embedded(self, form: StudentForm, student: Student) -> Form:
        """Run a form in PyTorch over the images and the edge images."""
        device = self.data.context.device
        rows, edges = (embed_images(student, images, device=device) for images in (self.images, self.edges))
        return Form(form.name, "pytorch", form.precision, rows, edges=edges)

    def pair(self, reference: Form, candidate: Form, step: Step, precision: str) -> PairParity:
        """Compare two forms under the limits of a step."""
        limits = limits_of(step, precision, self.data.recipe.gates)
        return compare_pair(reference, candidate, limits, self.found.vocabulary, self.edges.paths)


def add(
    found: Verification, form: Form, teacher: Form | None, pairs: Sequence[PairParity], status: str
) -> None:
    """Add a form's row, and the pairs that judge it."""
    metrics: dict[str, float] = {}
    if form.embeddings is not None:
        if form is teacher:
            metrics = found.vocabulary.of_teacher().metrics(form.embeddings)
        else:
            metrics = found.vocabulary.metrics(form.embeddings, teacher and teacher.embeddings)
    found.pairs.extend(pairs)
    found.rows.append(
        {
            "form": form.form,
            "engine": form.engine,
            "precision": form.precision,
            "status": status or RUN_HERE,
            "reason": form.reason,
            "metrics": metrics,
            "parity": [pair.to_dict() for pair in pairs],
            "gates": [gate.to_dict() for pair in pairs for gate in pair.gates],
        }
    )


@dataclass(frozen=True)
class EngineRun:
    """What an engine gave of a form: embeddings, if it runs here, gates of its own, and claims."""

    form: Form
    gates: list[GateResult]
    claims: list[Claim]


def run_engine(
    of: StudentForm,
    kind: str,
    files: tuple[Path, Path],
    sets: tuple[ImageSet, ImageSet],
    student: Student,
    batches: Sequence[int],
) -> EngineRun:
    """Run a form in an engine over the images and the edge images, and some alone and in batches.

    Args:
        of: the form.
        kind: of the engine.
        files: what the engine opens, and what that was made of.
        sets: the images and the edge images.
        student: prepares them.
        batches: sizes to compare with single images.
    """
    engine = make_engine(kind)
    file, source = files
    claim = partial(claims_of, engine=kind, model=source, precision=of.precision, sparse=of.name == "sparse")
    reason = engine.why_not_here(file)
    if reason is not None:
        absent = Form(of.name, kind, of.precision, reason=f"{NOT_RUN_HERE}: {reason}")
        return EngineRun(absent, [], claim(absent.name, session=None, why_not=absent.reason))
    session = engine.open(file)
    try:
        rows, edges = (run_session(session, images, student, f"{kind} {of.key}") for images in sets)
        first = next(eval_batches(sets[0], student.preprocess, batch_size=max(batches) + 1))
        gate = batch_gate(session, first["image"].numpy(), batches)
        made = Form(of.name, kind, of.precision, rows, edges=edges)
        return EngineRun(made, [gate], claim(made.name, session=session))
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
    rows.append({"form": "untrained student", "metrics": vocabulary.metrics(untrained, teacher_rows)})
    baseline = data.context.run.stage("baseline")
    if data.recipe.baseline is not None and data.context.run.record("baseline") is not None:
        student = Student.load(baseline)
        if data.class_scores:
            metrics = vocabulary.metrics(embed_images(student, images, device=data.context.device))
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
