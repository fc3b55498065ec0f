"""The specialists of a bundle: further models, each loaded when the first image reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np

from edgeproof_deploy.runtime.bundle import SPECIALISTS_FOLDER, Bundle
from edgeproof_deploy.runtime.cascade_head import AskingCascade, CascadeHead
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.labels import labels_of
from edgeproof_deploy.runtime.preprocess import Preprocess, Source, open_image
from edgeproof_deploy.runtime.session import PLANS, Session, first_line, open_engine

BATCH = 16


class Specialists:
    """What the steps of a cascade ask about images.

    Each lies in `specialists/NAME/`: `model.onnx`, `preprocess.json` and `labels.txt`, its classes in the
    order of its scores.

    Args:
        bundle: that holds them.
        head: the cascade.
        engine: what runs the student; where that is a plan of TensorRT, of which a specialist has none, ONNX
            Runtime runs the specialists.
        threads: threads within one operator; None leaves the choice to the engine.

    Raises:
        BundleError: a file is missing or damaged, or a specialist does not fit the head.
    """

    def __init__(
        self, bundle: Bundle, head: CascadeHead, engine: str = "onnxruntime", threads: int | None = None
    ):
        self._bundle = bundle
        self._engine = "onnxruntime" if engine in PLANS else engine
        self._threads = threads
        self._classes = dict(head.specialists)
        self._sessions: dict[str, Session] = {}
        self._opening = Lock()
        self._preprocess = {name: self._read(name, head) for name in self._classes}

    def _read(self, name: str, head: CascadeHead) -> Preprocess:
        """Return a specialist's preprocessing, after a look at its labels."""
        folder = f"{SPECIALISTS_FOLDER}/{name}"
        labels = labels_of(self._bundle.read(f"{folder}/labels.txt"))
        if len(labels) != self._classes[name]:
            raise BundleError(
                f"{folder}/labels.txt", f"has {len(labels)} labels, expected {self._classes[name]}"
            )
        for step in head.steps:
            if step.specialist != name or step.columns is None:
                continue
            for row, column in zip(step.rows, step.columns):
                if labels[column] != head.labels[row]:
                    here, there = labels[column][:40], head.labels[row][:40]
                    told = f"line {column + 1} is {here!r}, the head has {there!r}"
                    raise BundleError(f"{folder}/labels.txt", told)
        if f"{folder}/model.onnx" not in self._bundle.listed:
            raise BundleError(f"{folder}/model.onnx", "is not in the manifest")
        try:
            return Preprocess.from_dict(self._bundle.read_json(f"{folder}/preprocess.json"))
        except (TypeError, ValueError) as error:
            raise BundleError(f"{folder}/preprocess.json", str(error)) from error

    @property
    def opened(self) -> tuple[str, ...]:
        """The names of those that have been loaded."""
        return tuple(self._sessions)

    def scores(self, name: str, images: Sequence[Source]) -> np.ndarray:
        """Return a specialist's scores (n, classes), float32, of n images.

        Raises:
            ImageError: an image cannot be read.
            BundleError: the model is none, does not fit, or gives what is no number.
        """
        session = self._session(name)
        found = np.empty((len(images), self._classes[name]), np.float32)
        for start in range(0, len(images), BATCH):
            some = images[start : start + BATCH]
            inputs = np.stack([self._preprocess[name](open_image(image)) for image in some])
            try:
                scores = session.run({"image": inputs})["embedding"]
            except (MemoryError, BundleError, UnavailableError):
                raise
            except Exception as error:
                # Engines raise classes of their own, which have no base but Exception.
                raise BundleError(session.model, f"cannot be run: {first_line(error)}") from error
            if scores.shape != (len(some), self._classes[name]) or not np.isfinite(scores).all():
                raise BundleError(session.model, f"gives {scores.shape}, or what is no number")
            found[start : start + BATCH] = scores
        return found

    def asked_about(self, head: CascadeHead, images: Sequence[Source]) -> AskingCascade:
        """Return the cascade for some images, row n of the embeddings being of image n."""

        def ask(name: str, positions: np.ndarray) -> np.ndarray:
            return self.scores(name, [images[int(position)] for position in positions])

        return head.asking(ask).at(np.arange(len(images)))

    def _session(self, name: str) -> Session:
        with self._opening:
            return self._sessions.get(name) or self._open(name)

    def _open(self, name: str) -> Session:
        model = f"{SPECIALISTS_FOLDER}/{name}/model.onnx"
        session = open_engine(self._bundle, self._engine, self._threads, model=model)
        side, count = self._preprocess[name].image_size, self._classes[name]
        takes, gives = session.inputs.get("image", ()), session.outputs.get("embedding", ())
        if tuple(takes[1:]) != (3, side, side) or tuple(gives[1:]) != (count,):
            session.close()
            raise BundleError(
                model,
                f"takes {takes} and gives {gives}, expected 3 x {side} x {side} pixels, {count} scores",
            )
        self._sessions[name] = session
        return self._sessions[name]

    def close(self) -> None:
        """Free the models."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
