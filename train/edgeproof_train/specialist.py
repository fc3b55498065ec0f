"""A network that was trained to tell some of the labels apart, asked about single images."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np

from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import read_json, sha256_of
from edgeproof_configs.run import RunDir, require_run
from edgeproof_data.paths import resolve_path
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.runtime.cascade_step import NAME
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.embeddings import embed_images
from edgeproof_train.student import CARD_FILE, WEIGHTS_FILE, Student

MODEL_FILE = "model.onnx"


@dataclass(frozen=True)
class Specialist:
    """The student of a finished run whose head is `classifier`.

    Attributes:
        name: what it is called in the bundle.
        run: the run.
        classes: names of its classes, in the order of its scores.
    """

    name: str
    run: RunDir
    classes: tuple[str, ...]

    @classmethod
    def read(cls, path: str, root: Path | None = None) -> Specialist:
        """Read a run.

        Args:
            path: of the run; relative to `root`, or to the working directory.
            root: of the data.

        Raises:
            DataError: there is nothing there.
            UsageError: it is no run, has not been exported, or its student scores no classes.
        """
        run = require_run(resolve_path(path, root))
        missing = [stage for stage in ("train", "export") if run.record(stage) is None]
        if missing:
            raise UsageError(
                f"the specialist has not finished its stage `{missing[0]}`",
                where=run.path,
                fix=f"edgeproof {missing[-1]} RECIPE --run {run.path}",
            )
        card = read_json(run.stage("train") / CARD_FILE)
        classes = tuple(card["edgeproof"].get("classes", ()))
        if not classes:
            raise UsageError(
                "a specialist scores classes itself, and this student gives embeddings",
                where=run.path,
                fix="train it with head: {kind: classifier}",
            )
        return cls(name_of(path), run, classes)

    @cached_property
    def student(self) -> Student:
        """The network, loaded when it is first asked."""
        return Student.load(self.run.stage("train"))

    @cached_property
    def parameters(self) -> int:
        """How many parameters it has."""
        return sum(parameter.numel() for parameter in self.student.parameters())

    @property
    def preprocess(self) -> Preprocess:
        """From an image to its input."""
        return Preprocess.from_dict(read_json(self.run.stage("train") / CARD_FILE)["edgeproof"]["preprocess"])

    @property
    def model(self) -> Path:
        """The ONNX file that is shipped."""
        return self.run.stage("export") / MODEL_FILE

    def described(self) -> dict[str, object]:
        """Return what it is, as plain data."""
        weights = self.run.stage("train") / WEIGHTS_FILE
        return {
            "classes": len(self.classes),
            "parameters": self.parameters,
            "weights_sha256": sha256_of(weights),
            "onnx_sha256": sha256_of(self.model),
            "onnx_bytes": self.model.stat().st_size,
        }


def name_of(path: str) -> str:
    """Return what a specialist is called: the last part of its run's path.

    Raises:
        UsageError: that is no name for a folder of a bundle.
    """
    name = PurePath(path).name
    if not NAME.fullmatch(name):
        raise UsageError(
            f"a specialist is called by its run's folder, and '{name}' is not of letters, digits, . _ -",
            where=path,
            fix="rename the folder",
        )
    return name


class Consultation:
    """Asks specialists about the images of one set, about each at most once, and remembers what they said.

    Args:
        images: N images.
        specialists: by name.
        device: where they run.
        label: name of the work on the progress line.

    Attributes:
        seconds: that each took, reading and preparing its images included.
        asked: how many images each looked at.
    """

    def __init__(
        self, images: ImageSet, specialists: Mapping[str, Specialist], device: str, label: str = "specialist"
    ):
        self.images = images
        self.specialists = specialists
        self.seconds = dict.fromkeys(specialists, 0.0)
        self.asked = dict.fromkeys(specialists, 0)
        self._device, self._label = device, label
        self._known: dict[str, np.ndarray] = {}
        self._scores: dict[str, np.ndarray] = {}

    def __call__(self, name: str, positions: np.ndarray) -> np.ndarray:
        """Return the scores (n, classes) float32 of the images at some positions."""
        specialist = self.specialists[name]
        if name not in self._known:
            self._known[name] = np.zeros(len(self.images), bool)
            self._scores[name] = np.zeros((len(self.images), len(specialist.classes)), np.float32)
        known, scores = self._known[name], self._scores[name]
        new = np.unique(positions[~known[positions]])
        if len(new):
            student = specialist.student
            began = time.perf_counter()
            label = f"{self._label} {name}"
            scores[new] = embed_images(student, self.images.subset(new), device=self._device, label=label)
            self.seconds[name] += time.perf_counter() - began
            self.asked[name] += len(new)
            known[new] = True
        return scores[positions]
