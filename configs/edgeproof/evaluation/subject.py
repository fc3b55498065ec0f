"""Whose answers are scored and on which images: the student of a run, or weights under a recipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof.processes import ALONE, Processes
from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_configs.files import FileTable, read_json
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.registry import build, component_class
from edgeproof_configs.run import RunDir
from edgeproof_configs.schema import Recipe
from edgeproof_configs.stage import StageContext
from edgeproof_data.check import usable
from edgeproof_data.sets import DataSource, ImageSet, SplitName
from edgeproof_train.run_data import RunData
from edgeproof_train.run_head import bound, head_of_run, heads_of_run, is_fitted
from edgeproof_train.student import CARD_FILE, Student
from edgeproof_train.teacher import Teacher, TeacherPlaces
from edgeproof_train.text import TextBank

Images = Callable[[SplitName], ImageSet]
TeacherRows = Callable[[SplitName, ImageSet], np.ndarray]


@dataclass(frozen=True)
class Subject:
    """A student, the classifier that goes with it, and the images.

    Attributes:
        student: what is scored.
        head: turns its embeddings into class scores.
        teacher_head: does so for the teacher, where a fitted one of its own does.
        fitted: whether the head was fitted, and decides in place of the nearest words.
        data: of the run, where there is one.
        words: the labels that it chooses among.
        source: the data.
        device: where torch works.
        images: returns the readable images of a split.
        teacher: returns the teacher's embeddings of images of a split; None where there are none.
        processes: those that run the student together.
    """

    student: Student
    head: Any
    words: TextBank
    source: DataSource
    device: str
    images: Images
    teacher: TeacherRows | None = None
    processes: Processes = ALONE
    teacher_head: Any = None
    fitted: bool = False
    data: RunData | None = None

    @property
    def class_scores(self) -> bool:
        """Whether the student's embedding is its class scores."""
        return self.words.matrix is None and not self.fitted

    def head_on(self, images: ImageSet) -> Any:
        """Return the head for some images, in their order; see `edgeproof_train.run_head.bound`."""
        return self.head if self.data is None else bound([self.head], self.data, images)[0]

    def of_teacher(self) -> Subject:
        """Return the same with the head that decides for the teacher."""
        return self if self.teacher_head is None else replace(self, head=self.teacher_head)

    @cached_property
    def word_of_class(self) -> np.ndarray:
        """Row in the words of each class of the data, and -1 for the class -1, no label."""
        return np.append(self.words.rows_of(self.source.class_names), -1)


def of_run(run: RunDir, device: str, processes: Processes) -> Subject:
    """Return the student of a run, with its teacher.

    Args:
        run: of which the stage `train` has finished.
        device: where torch works.
        processes: those that run the student together.

    Raises:
        UsageError: it has not been trained, or its head not been fitted.
    """
    if run.record("train") is None:
        raise UsageError(
            "the student of this run has not been trained", where=run.path, fix="edgeproof ship RECIPE"
        )
    recipe = load_recipe(str(run.path / "recipe.resolved.yaml")).recipe
    files = FileTable(run.path / "files.tsv")
    context = StageContext(recipe, run, device, strict=False, files=files)
    data = RunData(context)
    return Subject(
        student=Student.load(run.stage("train")),
        head=head_of_run(data),
        words=data.words(),
        source=data.source,
        device=device,
        images=data.split,
        teacher=data.teacher_rows if data.has_teacher else None,
        processes=processes,
        teacher_head=heads_of_run(data).teacher,
        fitted=is_fitted(recipe.head),
        data=data,
    )


def of_weights(
    recipe_name: str, overrides: Sequence[str], weights: Path, device: str, processes: Processes
) -> Subject:
    """Return a student that was trained elsewhere, with the data and the labels of a recipe.

    Args:
        recipe_name: a file, or the name of a shipped recipe.
        overrides: `key=value` settings that win over it.
        weights: a folder with `model.safetensors` and `config.json`, written by edgeproof or by timm.
        device: where torch works.
        processes: those that run the student together; the first decides which images can be read.

    Raises:
        EdgeproofError: the folder holds no student, or one that does not fit the recipe.
        UsageError: the recipe's head is fitted, which takes a run.
    """
    recipe = load_recipe(recipe_name, list(overrides)).recipe
    if is_fitted(recipe.head):
        raise UsageError(
            f"head {recipe.head.kind} is fitted on a student's embeddings, and these weights have no run",
            where="head.kind",
            fix="--set head.kind=zero_shot, or train them in a run: student.weights and `ship`",
        )
    if recipe.curate is not None and processes.first:
        print("every image is scored: what curate chose is known in a run alone", file=sys.stderr)
    source: DataSource = build("data", recipe.data)
    processes.once(source.prepare)
    source.prepare()
    teacher: Teacher = build("teacher", recipe.teacher, TeacherPlaces(source.root, None, device))
    kind: Any = component_class("head", recipe.head.kind)
    words = (
        TextBank(source.class_names, None)
        if kind.class_scores
        else kind.make_bank(recipe.head, teacher, source)
    )
    width = len(words.names) if words.matrix is None else words.matrix.shape[1]
    student = student_from(weights, recipe, source, width, kind.class_scores)
    return Subject(
        student=student,
        head=kind.from_bank(recipe.head, words, teacher.logit_scale),
        words=words,
        source=source,
        device=device,
        images=lambda split: processes.once(lambda: usable(source.split(split))[0]),
        processes=processes,
    )


def student_from(folder: Path, recipe: Recipe, source: DataSource, width: int, class_scores: bool) -> Student:
    """Return the student that lies in a folder.

    Args:
        folder: with `model.safetensors` and `config.json`.
        recipe: what it is scored under; how photos are prepared for timm's weights.
        source: of the classes.
        width: how many values the student must give.
        class_scores: whether those are scores of the classes.

    Raises:
        EdgeproofError: there is no student, it is of another architecture, classes or width.
    """
    card_file = folder / CARD_FILE
    if not card_file.is_file():
        raise EdgeproofError(
            "there is no student here: config.json is missing",
            where=folder,
            fix="name a folder with model.safetensors and config.json",
        )
    card, wanted = read_json(card_file), getattr(recipe.student, "model", None)
    found = str(card.get("architecture", ""))
    if wanted is not None and found.split(".")[0] != wanted.split(".")[0]:
        raise UsageError(
            f"the weights are of '{found}', the recipe's student is '{wanted}'",
            where=card_file,
            fix=f"--set student.model={found}, or another recipe",
        )
    if "edgeproof" in card:
        student = Student.load(folder)
    else:
        changes = {"weights": str(folder.absolute()), "head": "linear", "head_init": "weights", "ridge": None}
        student = build("student", recipe.student.model_copy(update=changes), width, source.root).eval()
        student.classes = source.class_names if class_scores else ()
    if student.classes != (source.class_names if class_scores else ()) or student.embedding_dim != width:
        gives = f"scores of {len(student.classes)} classes" if student.classes else "embeddings"
        wants = "scores of the data's" if class_scores else "embeddings with"
        raise UsageError(
            f"the student gives {gives} ({student.embedding_dim} values), the recipe's head wants"
            f" {wants} {width}",
            where=card_file,
            fix="choose the recipe that these weights were trained under",
        )
    return student
