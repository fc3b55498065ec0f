"""From images to labels, with a bundle and an engine: all that runs on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.errors import BundleError, LabelError, UnavailableError
from edgeproof_deploy.runtime.head import HEAD_FILE, Head, ZeroShotHead, check_words, head_of_rows, read_head
from edgeproof_deploy.runtime.objects import named_objects, prepared_objects
from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess, Source
from edgeproof_deploy.runtime.session import ENGINES, MODEL_FILE, Session, first_line, open_engine
from edgeproof_deploy.runtime.sources import Batch, Images, named_sources, prepared_batches

if TYPE_CHECKING:
    from edgeproof_deploy.runtime.specialists import Specialists
    from edgeproof_deploy.runtime.text_encoder import TextEncoder

__all__ = ["ENGINES", "MODEL_FILE", "PREPROCESS_FILE", "Prediction", "Predictor"]

PREPROCESS_FILE = "preprocess.json"
TEXT_MODEL = "text/encoder.onnx"


@dataclass(frozen=True)
class Prediction:
    """The best labels of one image or object with their probabilities, best first.

    Attributes:
        path: the image's path as it was given, or `image 3` for the fourth one that is no file.
        labels: (label, probability).
        views: how many views were looked at; 0 where the model looks at single images.
        nearest: (object, label, cosine) of the nearest objects of the bundle's gallery, nearest first; none
            where its head keeps no objects.
    """

    path: str
    labels: list[tuple[str, float]]
    views: int = 0
    nearest: list[tuple[str, str, float]] = field(default_factory=list)


class Predictor:
    """A bundle made ready: preprocessing, a session and a head whose shapes fit each other.

    Threads may share one: `predict` and `embed` change nothing in it, and ONNX Runtime and OpenVINO run calls
    side by side. `set_labels` and its kin take effect for calls that begin later.

    Attributes:
        model: the file that runs.
        head: from embeddings to labels.
    """

    def __init__(
        self,
        bundle: Bundle,
        preprocess: Preprocess,
        session: Session,
        head: Head,
        model: str = MODEL_FILE,
        threads: int | None = None,
        engine: str = "onnxruntime",
    ):
        self.model = model
        self.bundle = bundle
        self.preprocess = preprocess
        self.session = session
        self.head = head
        self._bundled = head
        self._threads = threads
        self._text: TextEncoder | None = None
        self._specialists = _specialists_of(bundle, head, engine, threads)

    @classmethod
    def open(
        cls,
        path: str | Path,
        engine: str = "onnxruntime",
        threads: int | None = None,
        device: str = "cpu",
        model: str | None = None,
        *,
        rebuild: bool = False,
    ) -> Predictor:
        """Check a bundle and load its model.

        Args:
            path: the folder or the `.tar`.
            engine: what runs the model, one of `ENGINES`.
            threads: threads within one operator; None leaves the choice to the engine.
            device: `cuda` with the engine `onnxruntime` is `onnxruntime_cuda`.
            model: ONNX file of the bundle; the one that its manifest recommends if None.
            rebuild: build a TensorRT plan from the ONNX file where none of the bundle fits this machine.

        Raises:
            BundleError: a file of the bundle is missing or was changed, or they do not fit each other.
            UnavailableError: the engine or the device cannot be used here.
        """
        bundle = Bundle(path)
        if device not in ("cpu", "cuda"):
            raise ValueError(f"device must be cpu or cuda, got {device!r}")
        if device == "cuda" and engine == "onnxruntime":
            engine = "onnxruntime_cuda"
        try:
            preprocess = Preprocess.from_dict(bundle.read_json(PREPROCESS_FILE))
        except (TypeError, ValueError) as error:
            raise BundleError(PREPROCESS_FILE, str(error)) from error
        head = read_head(bundle)
        session = open_engine(bundle, engine, threads, model=model, rebuild=rebuild)
        _check_shapes(session, preprocess, head)
        bundle.verify(large_plans=False)
        return cls(bundle, preprocess, session, head, session.model, threads, engine)

    @property
    def labels(self) -> tuple[str, ...]:
        """What it chooses between now."""
        return self.head.labels

    @property
    def takes_views(self) -> bool:
        """Whether the model looks at several views of an object, and not at single images."""
        return self.session.input_name == "views"

    @property
    def has_text_encoder(self) -> bool:
        """Whether the bundle carries a text tower, so that `set_labels` takes any words."""
        return TEXT_MODEL in self.bundle.listed

    def set_labels(self, labels: Sequence[str]) -> None:
        """Choose between these labels from now on.

        With a text tower in the bundle they may be any words: those that the bundle has rows for keep them,
        the others are put into the head's prompt templates and embedded, as in training. Without one, and
        for a head that was fitted on examples of its labels, they must be among the bundle's own: another
        classifier in its place would not be the one that the bundle was proved with.

        Raises:
            LabelError: a label is not known and cannot be embedded; the nearest ones are named.
            UnavailableError: there is a text tower, but onnxruntime, which runs it, is not installed.
        """
        self.head = self._choose(self._bundled, labels)

    def set_text_embeddings(self, names: Sequence[str], rows: np.ndarray) -> None:
        """Choose between labels with text embeddings of one's own from now on.

        Args:
            names: K labels, all different.
            rows: (K, D) of the text tower that the student was distilled for, of any length above 0.

        Raises:
            LabelError: they are not as many as the rows, the rows do not fit the student, or the bundle's
                head takes no other words.
        """
        self.head = head_of_rows(names, rows, self._bundled)

    def reset_labels(self) -> None:
        """Choose between the bundle's own labels again."""
        self.head = self._bundled

    def warm_up(self, batch_size: int = 1) -> None:
        """Run the model once on black images: what engines put off until the first run is then done."""
        side, views = self.preprocess.image_size, self.preprocess.views
        free = (batch_size,) if views is None else (batch_size, views)
        self.session.run({self.session.input_name: np.zeros((*free, 3, side, side), np.float32)})

    def predict(
        self,
        images: Images,
        top_k: int = 5,
        labels: Sequence[str] | None = None,
        *,
        batch_size: int = 1,
        workers: int = 0,
        broken: list[ImageError] | None = None,
    ) -> list[Prediction]:
        """Return the best labels of each image, or object, in the order in which they are given.

        Args:
            images: one or a sequence of: path of a file, path of a folder (all image files in it), bytes of a
                file, opened image, uint8 array (H, W, 3) RGB or (H, W) grey. Or an array (N, H, W, 3). Where
                the model looks at views, an object or a sequence of those: a folder with its views, a list of
                views, an array (V, H, W, 3); a single image is an object with one view. See `named_objects`.
            top_k: how many labels to return an image; fewer where there are fewer.
            labels: choose between these labels, for this call; see `set_labels`.
            batch_size: images that the model sees at once. With 1 a result does not depend on the other
                images; larger batches may change its last digits.
            workers: threads that decode and resize ahead; 0 does it in the caller's thread.
            broken: where to put images that cannot be read, which are left out; None raises the first.

        Raises:
            ImageError: an image cannot be read.
            LabelError: the bundle has no embedding of a label, and no text tower to make one.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        head = self.head if labels is None else self._choose(self.head, labels)
        predictions = []
        sources, batches = self._prepared(images, batch_size, workers, broken)
        for names, inputs in batches:
            embeddings = self._run(inputs, names)
            seen = self._seeing(head, [sources[name] for name in names] if sources else [])
            near = getattr(head, "nearest", None)
            nearest = near(embeddings, top_k) if near is not None else [[]] * len(names)
            views = inputs.shape[1] if self.takes_views else 0
            for name, shares, objects in zip(names, seen.probabilities(embeddings), nearest):
                best = np.argsort(-shares, kind="stable")[:top_k]
                found = [(head.labels[row], float(shares[row])) for row in best]
                predictions.append(Prediction(name, found, views, [tuple(one) for one in objects]))
        return predictions

    def embed(
        self,
        images: Images,
        *,
        batch_size: int = 1,
        workers: int = 0,
        broken: list[ImageError] | None = None,
    ) -> np.ndarray:
        """Return the embeddings of images as the model gives them, not normalised: float32 (N, D)."""
        _, batches = self._prepared(images, batch_size, workers, broken)
        rows = [self._run(inputs, names) for names, inputs in batches]
        return np.concatenate(rows) if rows else np.zeros((0, self.head.dim), np.float32)

    def embed_image(self, image: Image.Image, name: str = "image") -> np.ndarray:
        """Return the embedding of one RGB image as `open_image` gives it, float32 (1, D)."""
        inputs = self.preprocess(image)[None]
        return self._run(inputs[None] if self.takes_views else inputs, [name])

    def close(self) -> None:
        """Free the models."""
        self.session.close()
        if self._specialists is not None:
            self._specialists.close()
        if self._text is not None:
            self._text.session.close()
            self._text = None

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _choose(self, head: Head, labels: Sequence[str]) -> Head:
        check_words(labels)
        own = {label: row for row, label in enumerate(head.labels)}
        new = [label for label in labels if label not in own]
        if not new or not self.has_text_encoder:
            return head.only(labels)
        if not isinstance(head, ZeroShotHead):
            raise LabelError(head.closed)
        rows = dict(zip(new, self._text_encoder().embed(new)))
        both = [rows[label] if label in rows else head.weight[own[label]] for label in labels]
        return head_of_rows(labels, np.stack(both), head)

    def _seeing(self, head: Head, images: list[Source]) -> Head:
        """Return the head for some images: one that asks specialists is given them."""
        if self._specialists is None:
            return head
        from edgeproof_deploy.runtime.cascade_head import CascadeHead

        assert isinstance(head, CascadeHead)
        return self._specialists.asked_about(head, images)

    def _text_encoder(self) -> TextEncoder:
        if self._text is None:
            # Only who asks for other words waits for the tower and its tokenizer.
            from edgeproof_deploy.runtime.text_encoder import read_text_encoder

            self._text = read_text_encoder(self.bundle, self.head.dim, self._bundled.labels, self._threads)
        return self._text

    def _prepared(
        self, images: Images, batch_size: int, workers: int, broken: list[ImageError] | None
    ) -> tuple[dict[str, Source], Iterator[Batch]]:
        """Return each image by its name, none of objects; and names with inputs, a batch at a time."""
        if batch_size < 1 or workers < 0:
            raise ValueError(f"expected batch_size >= 1 and workers >= 0, got {batch_size} and {workers}")
        if self.takes_views:
            objects = named_objects(images, broken)
            return {}, prepared_objects(
                objects, self.preprocess, batch_size=batch_size, workers=workers, broken=broken
            )
        named = named_sources(images, broken)
        return dict(named), prepared_batches(
            named, self.preprocess, batch_size=batch_size, workers=workers, broken=broken
        )

    def _run(self, inputs: np.ndarray, names: Sequence[str]) -> np.ndarray:
        try:
            embeddings = self.session.run({self.session.input_name: inputs})["embedding"]
        except (MemoryError, BundleError, UnavailableError):
            raise
        except Exception as error:
            # Engines raise classes of their own, which have no base but Exception.
            raise BundleError(self.model, f"cannot be run: {first_line(error)}") from error
        finite = np.isfinite(embeddings).all(axis=1)
        if not finite.all():
            raise BundleError(self.model, f"gives NaN or infinity for {names[int(np.argmin(finite))]}")
        return embeddings


def _specialists_of(bundle: Bundle, head: Head, engine: str, threads: int | None) -> Specialists | None:
    """Return the specialists of a bundle whose head asks some; others import nothing of them."""
    if not getattr(head, "specialists", None):
        return None
    from edgeproof_deploy.runtime.cascade_head import CascadeHead
    from edgeproof_deploy.runtime.specialists import Specialists

    assert isinstance(head, CascadeHead)
    return Specialists(bundle, head, engine, threads)


def _check_shapes(session: Session, preprocess: Preprocess, head: Head) -> None:
    wanted = (3, preprocess.image_size, preprocess.image_size)
    name = session.input_name
    if (name == "views") != (preprocess.views is not None):
        said = "does not say of how many views" if name == "views" else "says that there are views"
        raise BundleError(PREPROCESS_FILE, f"{said}, and {session.model} takes '{name}'")
    if getattr(head, "specialists", None) and name == "views":
        raise BundleError(HEAD_FILE, f"asks specialists about single images, and {session.model} takes views")
    takes = session.inputs[name]
    if tuple(takes[-3:]) != wanted:
        raise BundleError(
            session.model, f"takes images of shape {takes}, {PREPROCESS_FILE} makes (batch, {wanted})"
        )
    gives = session.outputs.get("embedding", ())
    if tuple(gives[1:]) != (head.dim,):
        raise BundleError(HEAD_FILE, f"takes embeddings of {head.dim} numbers, {session.model} gives {gives}")
