"""From image files to labels, with a bundle and an engine: all that runs on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.head import HEAD_FILE, Head, read_head
from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess, Source, open_image
from edgeproof_deploy.runtime.session import OnnxSession, Session

MODEL_FILE = "model.onnx"
PREPROCESS_FILE = "preprocess.json"
ENGINES = ("onnxruntime",)


@dataclass(frozen=True)
class Prediction:
    """The best labels of one image with their probabilities, best first."""

    path: str
    labels: list[tuple[str, float]]


class Predictor:
    """A bundle made ready: preprocessing, a session and a head whose shapes fit each other.

    Attributes:
        model: the ONNX file that runs.
    """

    def __init__(
        self,
        bundle: Bundle,
        preprocess: Preprocess,
        session: Session,
        head: Head,
        model: str = MODEL_FILE,
    ):
        self.model = model
        self.bundle = bundle
        self.preprocess = preprocess
        self.session = session
        self.head = head

    @classmethod
    def open(
        cls,
        path: str | Path,
        engine: str = "onnxruntime",
        threads: int | None = None,
        device: str = "cpu",
        model: str | None = None,
    ) -> Predictor:
        """Check a bundle and load its model.

        Args:
            path: the folder or the `.tar`.
            engine: what runs the model; this runtime has `onnxruntime`.
            threads: threads within one operator; None leaves the choice to the engine.
            device: `cpu` or `cuda`.
            model: ONNX file of the bundle; the one that its manifest recommends if None.

        Raises:
            BundleError: a file of the bundle is missing or was changed, or they do not fit each other.
            UnavailableError: the engine or the device cannot be used here.
        """
        bundle = Bundle(path)
        if engine not in ENGINES:
            raise UnavailableError(f"this runtime does not run '{engine}', it runs {', '.join(ENGINES)}")
        try:
            preprocess = Preprocess.from_dict(bundle.read_json(PREPROCESS_FILE))
        except (TypeError, ValueError) as error:
            raise BundleError(PREPROCESS_FILE, str(error)) from error
        head = read_head(bundle)
        name = model or str(bundle.manifest.get("model", MODEL_FILE))
        if name not in bundle.listed or not name.endswith(".onnx"):
            models = [file for file in sorted(bundle.listed) if file.endswith(".onnx")]
            raise BundleError(name, f"is not in the manifest, whose models are {', '.join(models) or 'none'}")
        session = OnnxSession(bundle.read(name), device=device, threads=threads, name=name)
        _check_shapes(session, preprocess, head, name)
        bundle.verify(large_plans=False)
        return cls(bundle, preprocess, session, head, name)

    def predict(
        self,
        images: Sequence[Source],
        top_k: int = 5,
        labels: Sequence[str] | None = None,
        *,
        broken: list[ImageError] | None = None,
    ) -> list[Prediction]:
        """Return the best labels of each image.

        Args:
            images: paths, bytes or opened images.
            top_k: how many labels to return an image; fewer where there are fewer.
            labels: choose between these labels of the bundle only.
            broken: where to put images that cannot be read, which are left out; None raises the first.

        Raises:
            ImageError: an image cannot be read.
            LabelError: the bundle has no embedding of a label.
        """
        head = self.head if labels is None else self.head.only(labels)
        predictions = []
        for path, embedding in self._embeddings(images, broken):
            probabilities = head.probabilities(embedding)[0]
            best = np.argsort(-probabilities, kind="stable")[:top_k]
            found = [(head.labels[row], float(probabilities[row])) for row in best]
            predictions.append(Prediction(path, found))
        return predictions

    def embed(self, images: Sequence[Source], *, broken: list[ImageError] | None = None) -> np.ndarray:
        """Return the embeddings of images as the model gives them, not normalised: float32 (N, D)."""
        rows = [embedding for _, embedding in self._embeddings(images, broken)]
        return np.concatenate(rows) if rows else np.zeros((0, self.head.dim), np.float32)

    def _embeddings(
        self, images: Sequence[Source], broken: list[ImageError] | None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each readable image's name and embedding (1, D).

        One image at a time, so that a result does not depend on the other images.
        """
        for number, source in enumerate(images):
            name = str(source) if isinstance(source, (str, Path)) else f"image {number}"
            try:
                image = open_image(source)
            except ImageError as error:
                if broken is None:
                    raise
                broken.append(error)
                continue
            yield name, self.embed_image(image, name)

    def embed_image(self, image: Image.Image, name: str = "image") -> np.ndarray:
        """Return the embedding of one RGB image as `open_image` gives it, float32 (1, D)."""
        embedding = self.session.run({"image": self.preprocess(image)[None]})["embedding"]
        if not np.isfinite(embedding).all():
            raise BundleError(self.model, f"gives NaN or infinity for {name}")
        return embedding

    def close(self) -> None:
        """Free the model."""
        self.session.close()


def _check_shapes(session: OnnxSession, preprocess: Preprocess, head: Head, model: str) -> None:
    wanted = (3, preprocess.image_size, preprocess.image_size)
    takes = session.inputs.get("image", ())
    if tuple(takes[1:]) != wanted:
        raise BundleError(model, f"takes images of shape {takes}, {PREPROCESS_FILE} makes (batch, {wanted})")
    gives = session.outputs.get("embedding", ())
    if tuple(gives[1:]) != (head.dim,):
        raise BundleError(HEAD_FILE, f"takes embeddings of {head.dim} numbers, {model} gives {gives}")
