"""Verification of a run: every form of the student on the same test images, compared along the chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_compress.quantized_student import QuantizedStudent
from edgeproof_configs.progress import progress
from edgeproof_data.loader import eval_batches
from edgeproof_data.objects import ObjectSet
from edgeproof_data.sets import NO_LABEL, ImageSet, unlabelled
from edgeproof_deploy.batches import batch_gate, order_gates
from edgeproof_deploy.claims import Claim
from edgeproof_deploy.controls import controls
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
from edgeproof_train.embeddings import embed_images
from edgeproof_train.object_figures import search_figures
from edgeproof_train.run_data import RunData
from edgeproof_train.run_head import heads_of_run
from edgeproof_train.student import Student

BATCH = 32
PREPROCESSED_IMAGES = 32


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
        gallery: of the same form, of the objects that the data have for searches; None where there are none.
        shipped: name of the form that `embeddings` are of.
        searched: returns what a search with a form finds among objects; nothing of images.
    """

    images: int
    vocabulary: Vocabulary
    preprocessing: PreprocessingParity
    rows: list[dict[str, Any]] = field(default_factory=list)
    controls: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[PairParity] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    embeddings: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    gallery: np.ndarray | None = None
    shipped: str = ""
    searched: Callable[[Form], dict[str, float]] = lambda form: {}

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
    of_objects = isinstance(images, ObjectSet)
    gallery = data.split("gallery") if of_objects and "gallery" in data.parts else None
    heads = heads_of_run(data).on(data, images)
    vocabulary = Vocabulary(
        words.names,
        words.matrix,
        data.word_labels(images),
        images.paths,
        data.source.unseen,
        heads.student,
        heads.teacher,
        of_objects,
        None if gallery is None else data.word_labels(gallery),
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
    found = Verification(len(images), vocabulary, preprocessing, searched=searcher(data, images))
    edges = edge_set(folder / "edge_images", [file.name for file in hard], student)
    teacher = None
    if data.has_teacher:
        its = None if gallery is None else data.teacher_rows("gallery", gallery)
        teacher = Form("teacher", embeddings=data.teacher_rows("test", images), gallery=its)
        add(found, teacher, teacher, [], "")
    Chain(data, images, student, found, teacher, edges, gallery).run(forms)
    found.controls = controls(data, vocabulary, found.searched, (images, gallery), teacher)
    return found


def searcher(data: RunData, images: ImageSet) -> Callable[[Form], dict[str, float]]:
    """Return the function that says what a search with a form finds among objects; nothing of images."""
    if not isinstance(images, ObjectSet) or not (images.labels >= 0).any():
        return lambda form: {}

    def searched(form: Form) -> dict[str, float]:
        def rows_of(part: str, objects: ImageSet) -> np.ndarray:
            assert form.gallery is not None
            return form.gallery

        return search_figures(data, "test", images, form.rows, rows_of)

    return searched


def edge_set(folder: Path, names: Sequence[str], student: Student) -> ImageSet:
    """Return images as a student takes them: a student of views takes each as an object with one view."""
    if student.input_name != "views":
        return unlabelled(folder, names)
    none = np.full(len(names), NO_LABEL, np.int64)
    return ObjectSet(folder, tuple(names), none, views=tuple((name,) for name in names), shown=1)


@dataclass
class Chain:
    """Goes from the teacher over the student in PyTorch to its forms in the engines, pair by pair.

    Attributes:
        edges: images that an engine may go wrong on.
        gallery: objects that the data have for searches; None where there are none.
        eager: what the forms gave in PyTorch, by key.
        exported: what ONNX Runtime gave of the files that it ran.
    """

    data: RunData
    images: ImageSet
    student: Student
    found: Verification
    teacher: Form | None
    edges: ImageSet
    gallery: ImageSet | None = None
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
            self.shipped(eager)
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
        sets = (self.images, self.edges, self.gallery)
        run = run_engine(form, kind, (file, source), sets, self.student, batches)
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
        if made.embeddings is not None and form.key == "fp32" and is_finite(made):
            self.shipped(made)

    def shipped(self, form: Form) -> None:
        """Take a form for the one that is shipped, as far as one has been found."""
        self.found.embeddings, self.found.gallery, self.found.shipped = form.rows, form.gallery, form.name

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
        rows, edges, gallery = (
            None if images is None else embed_images(student, images, device=device)
            for images in (self.images, self.edges, self.gallery)
        )
        return Form(form.name, "pytorch", form.precision, rows, edges=edges, gallery=gallery)

    def pair(self, reference: Form, candidate: Form, step: Step, precision: str) -> PairParity:
        """Compare two forms under the limits of a step."""
        limits = limits_of(step, precision, self.data.recipe.gates)
        return compare_pair(reference, candidate, limits, self.found.vocabulary, self.edges.paths)


def add(
    found: Verification, form: Form, teacher: Form | None, pairs: Sequence[PairParity], status: str
) -> None:
    """Add a form's row, and the pairs that judge it.

    A form that gives NaN has no accuracy: its gate `finite` says so. One that gives zeros finds nothing.
    """
    metrics: dict[str, float] = {}
    if form.embeddings is not None and is_finite(form):
        if form is teacher:
            metrics = found.vocabulary.of_teacher().metrics(form.embeddings)
        else:
            metrics = found.vocabulary.metrics(form.embeddings, teacher and teacher.embeddings)
        metrics = metrics | (found.searched(form) if has_directions(form) else {})
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


def is_finite(form: Form) -> bool:
    """Whether a form gives numbers for everything that it was run on, but for edge images."""
    return all(bool(np.isfinite(rows).all()) for rows in (form.rows, form.gallery) if rows is not None)


def has_directions(form: Form) -> bool:
    """Whether no embedding of a form is zero, so that all can be searched by cosine."""
    return all(bool(rows.any(axis=1).all()) for rows in (form.rows, form.gallery) if rows is not None)


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
    sets: tuple[ImageSet, ImageSet, ImageSet | None],
    student: Student,
    batches: Sequence[int],
) -> EngineRun:
    """Run a form in an engine over the images and the edge images, and some alone and in batches.

    Args:
        of: the form.
        kind: of the engine.
        files: what the engine opens, and what that was made of.
        sets: the images, the edge images, and a gallery if there is one.
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
        rows, edges, gallery = (
            None if images is None else run_session(session, images, student, f"{kind} {of.key}")
            for images in sets
        )
        first = next(eval_batches(sets[0], student.preprocess, batch_size=max(batches) + 1))
        inputs = first["image"].numpy()
        gates = [batch_gate(session, inputs, batches), *order_gates(session, inputs)]
        made = Form(of.name, kind, of.precision, rows, edges=edges, gallery=gallery)
        return EngineRun(made, gates, claim(made.name, session=session))
    finally:
        session.close()


def run_session(session: Session, images: ImageSet, student: Student, label: str) -> np.ndarray:
    """Return a session's embeddings (N, D) of images, or objects, that are prepared as for the student."""
    rows, size, what = [], BATCH, "images"
    if isinstance(images, ObjectSet):
        size, what = max(1, BATCH // images.view_count), "objects"
    with progress(f"verify {label}", len(images), what) as shown:
        for batch in eval_batches(images, student.preprocess, batch_size=size):
            rows.append(session.run({session.input_name: batch["image"].numpy()})["embedding"])
            shown.advance(len(rows[-1]))
    return np.concatenate(rows)
