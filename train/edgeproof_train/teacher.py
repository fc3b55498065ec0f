"""The teacher: a frozen model, or stored outputs of one, that a student learns from.

A teacher is no `nn.Module`. A task that holds one therefore never finds its weights among its own parameters,
buffers, checkpoints or gradients.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from edgeproof_configs.errors import DataError, EdgeproofError, UsageError
from edgeproof_configs.schema import TeacherConfig
from edgeproof_data.sets import DataSource, ImageSet
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.text_tower import TextTower

M = TypeVar("M", bound=nn.Module)
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TeacherPlaces:
    """Where a teacher may look.

    Attributes:
        data_root: relative paths of the recipe are looked up here first.
        stage_folder: the run's `teacher` folder, for kinds that are trained in place.
        device: where live teachers run, `cpu` or `cuda`.
    """

    data_root: Path | None = None
    stage_folder: Path | None = None
    device: str = "cpu"


class Teacher(ABC):
    """Base of the teacher kinds. Register one with `@register("teacher")`; nothing else needs to know of it.

    A live kind sets `embedding_dim` and `preprocess` in its constructor and implements `_encode_image`, and
    `_encode_text` where it has a text tower. A kind without a model sets `live = False` and implements
    `stored_reader`.

    Attributes:
        live: whether it can look at new images; otherwise it only knows stored outputs.
        absent: whether there is no teacher at all, and the student learns from labels alone.
        has_text: whether `encode_text` works.
        ships_text: whether `text_tower` may work, for which the kind has to have a text tower.
        embedding_dim: D.
        num_classes: K of its own classifier; 0 where it has none.
        classes: names of those classes, where it knows them.
        class_scores: whether what it hands out as embeddings are the scores of its classifier.
        logit_scale: what cosines are multiplied by before a softmax (CLIP's exp(log-scale)).
        preprocess: from photo to this teacher's input, with its own size, mean, std; None if not live.
        parts: widths of several teachers' embeddings that stand side by side in its own; otherwise empty.
        part_weights: how much each of these counts, with a sum of 1.
        token_shape: (1 + P, D) of what `encode_tokens` gives for an image; None where it gives none.
    """

    Config: ClassVar[type[TeacherConfig]]
    live: bool = True
    absent: ClassVar[bool] = False
    has_text: bool = False
    ships_text: ClassVar[bool] = False
    embedding_dim: int
    num_classes: int = 0
    classes: tuple[str, ...] = ()
    class_scores: bool = False
    logit_scale: float = 100.0
    preprocess: Preprocess | None = None
    parts: tuple[int, ...] = ()
    part_weights: tuple[float, ...] = ()
    token_shape: tuple[int, int] | None = None

    def __init__(self, config: Any, places: TeacherPlaces):
        self.config = config
        self.places = places
        self.device = device_of(places.device)
        self._known_identity: dict[str, Any] | None = None

    @classmethod
    def is_live(cls, config: Any) -> bool:
        """Return whether a teacher with these settings can look at new images."""
        del config
        return cls.live

    @property
    def lead(self) -> Teacher:
        """Whose space the student lives in, and whose words it is asked for: this teacher's own.

        Of several teachers it may be the first one; its embedding then is the first part of theirs.
        """
        return self

    def identity(self) -> dict[str, Any]:
        """Return what this teacher is, as plain data with the sha256 of its weights: a cache's key."""
        if self._known_identity is None:
            output = {"output": "class scores"} if self.class_scores else {}
            self._known_identity = {"kind": self.config.kind, **output, **self._identity()}
        return dict(self._known_identity)

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """Return JSON-able data, beside the kind, that changes whenever the teacher's outputs would."""

    def give_class_scores(self, classes: Sequence[str]) -> None:
        """Hand out the scores of its classifier as embeddings from now on.

        Args:
            classes: of the data, in the order of their labels.

        Raises:
            UsageError: it has no classifier, or one for other classes; or for fewer than `top_k`.
        """
        fix = "train a teacher on these classes, or leave out head: {kind: classifier}"
        if not self.num_classes:
            raise UsageError(
                f"a teacher of kind '{self.config.kind}' has no classifier here", where="teacher", fix=fix
            )
        if self.num_classes != len(classes):
            raise UsageError(
                f"the teacher tells {self.num_classes} classes apart, the data have {len(classes)}",
                where="teacher",
                fix=fix,
            )
        if self.classes and self.classes != tuple(classes):
            own, wanted = next(pair for pair in zip(self.classes, classes) if pair[0] != pair[1])
            raise UsageError(
                f"the teacher's classes are not those of the data: '{own}' stands where they have '{wanted}'",
                where="teacher",
                fix=fix,
            )
        if (self.config.top_k or 0) > self.num_classes:
            raise UsageError(
                f"the {self.config.top_k} largest of {self.num_classes} class probabilities",
                where="teacher.top_k",
                fix=f"set it to {self.num_classes} or less, or remove it to store all class scores",
            )
        self.class_scores = True
        self.embedding_dim = self.num_classes

    def module(self) -> nn.Module:
        """Return the network whose nodes feature losses may name.

        Raises:
            UsageError: this teacher has none.
        """
        raise UsageError(
            f"a teacher of kind '{self.config.kind}' has no feature maps for losses that name nodes",
            where="teacher.kind",
        )

    def classifier(self) -> nn.Linear | None:
        """Return the linear layer from its embedding to its class scores; None where it has none."""
        return None

    def encode_image(self, image_BCHW: Tensor) -> Tensor:
        """Return embeddings (B, D), float32, not normalised, without gradient, or class scores (B, K).

        Args:
            image_BCHW: images normalised with `preprocess`, on any device.
        """
        if self.class_scores:
            return self.encode_logits(image_BCHW)
        with torch.no_grad():
            return self._encode_image(image_BCHW.to(self.device, non_blocking=True)).float()

    def per_view(self) -> Teacher:
        """Return the teacher whose embeddings are stored for single views, as `pool_views` takes them.

        It is this one, unless it was trained to pool views itself: then what it pools is stored.
        """
        return self

    def pool_views(self, views_BVD: Tensor) -> Tensor:
        """Return the embeddings (B, D) of objects of which V views have these.

        It is the mean, or in each dimension the largest value, of the views' unit vectors, as
        `teacher.view_pooling` says.
        """
        units = nn.functional.normalize(views_BVD.float(), dim=-1, eps=1e-12)
        return units.amax(dim=1) if self.config.view_pooling == "max" else units.mean(dim=1)

    def check_tokens(self) -> None:
        """Refuse a teacher without tokens.

        Raises:
            UsageError: this is one.
        """
        if self.token_shape is None:
            raise UsageError(
                f"a teacher of kind '{self.config.kind}' gives no tokens here, and a loss asks for them",
                where="losses",
                fix=self.without_tokens(),
            )

    def without_tokens(self) -> str:
        """Return what to do where a loss wants tokens and this teacher gives none."""
        return (
            "choose a teacher of kind open_clip or timm that is a vision transformer, or a loss on embeddings"
        )

    def encode_tokens(self, image_BCHW: Tensor) -> Tensor:
        """Return tokens (B, 1 + P, D), float32, without gradient: the embedding, then one for each patch.

        Raises:
            UsageError: this teacher gives none.
        """
        self.check_tokens()
        with torch.no_grad():
            return self._encode_tokens(image_BCHW.to(self.device, non_blocking=True)).float()

    def object_tokens(self, views_BVCHW: Tensor) -> Tensor:
        """Return tokens (B, 1 + P, D) of objects, float32, without gradient: each pooled as an embedding is.

        Raises:
            UsageError: this teacher gives none.
        """
        objects, count = views_BVCHW.shape[:2]
        tokens = self.encode_tokens(views_BVCHW.flatten(0, 1)).unflatten(0, (objects, count))
        pooled = self.pool_views(tokens.transpose(1, 2).flatten(0, 1))
        return pooled.unflatten(0, (objects, -1))

    def encode_logits(self, image_BCHW: Tensor) -> Tensor:
        """Return the scores (B, K) of its own classifier, float32, without gradient.

        Raises:
            UsageError: this teacher has no classifier.
        """
        if not self.num_classes:
            raise UsageError(f"a teacher of kind '{self.config.kind}' has no classifier here")
        with torch.no_grad():
            return self._encode_logits(image_BCHW.to(self.device, non_blocking=True)).float()

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return text embeddings (N, D), float32, not normalised, without gradient.

        Raises:
            UsageError: this teacher has no text tower.
        """
        if not self.has_text:
            raise UsageError(
                f"a teacher of kind '{self.config.kind}' has no text tower here",
                fix="give stored text embeddings: head.text_embeddings: FILE.npy with head.labels: FILE.txt",
            )
        with torch.no_grad():
            return self._encode_text(list(texts)).float()

    @classmethod
    def can_ship_text(cls, config: Any) -> bool:
        """Return whether a teacher with these settings may have a text tower to ship."""
        del config
        return cls.ships_text

    def text_tower(self) -> TextTower:
        """Return the text tower by itself, for a bundle that takes new words.

        Raises:
            UsageError: there is none, or its tokenizer is of another kind than CLIP's.
        """
        raise UsageError(
            f"a teacher of kind '{self.config.kind}' has no text tower that a bundle can carry",
            where="deploy.text_encoder",
            fix="set it to false",
        )

    def stored(self, images: ImageSet) -> np.ndarray:
        """Return stored embeddings (N, D), float32, in the order of the images.

        Raises:
            DataError: some of the images have none.
            ValueError: this teacher is live and stores nothing.
        """
        return self.stored_reader(images)(np.arange(len(images)))

    def stored_reader(self, images: ImageSet) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function that reads the embeddings (n, D), float32, of the images at some positions.

        That every image has one is checked here, before any is read.

        Raises:
            DataError: some of the images have none.
            ValueError: this teacher is live and stores nothing.
        """
        raise ValueError(f"a teacher of kind '{self.config.kind}' is live: call encode_image")

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        raise ValueError(f"a teacher of kind '{self.config.kind}' is not live: call stored_reader")

    def _encode_logits(self, image_BCHW: Tensor) -> Tensor:
        raise NotImplementedError

    def _encode_tokens(self, image_BCHW: Tensor) -> Tensor:
        raise NotImplementedError

    def _encode_text(self, texts: list[str]) -> Tensor:
        raise NotImplementedError


class TrainedTeacher(Teacher):
    """Base of the kinds that a run trains for itself, on its own captioned images, before it distils.

    `train_in_place` leaves `model.safetensors` and `config.json` in the folder of the `teacher` stage; the
    constructor reads them from `places.stage_folder`.
    """

    has_text = True

    def __init__(self, config: Any, places: TeacherPlaces):
        super().__init__(config, places)
        self.folder: Path = trained_folder(config.kind, places)

    @classmethod
    @abstractmethod
    def train_in_place(
        cls, config: Any, source: DataSource, folder: Path, device: str, report: Report | None = None
    ) -> dict[str, Any]:
        """Train on `source.split("train")` with its captions and return figures.

        Args:
            config: this kind's `Config`.
            source: images and captions; `val` chooses the best epoch.
            folder: where `model.safetensors` and `config.json` are written atomically, when all is done.
            device: `cpu` or `cuda`.
            report: receives one row of figures an epoch.
        """


def trained_folder(kind: str, places: TeacherPlaces) -> Path:
    """Return the folder of the `teacher` stage, which has what was trained there.

    Raises:
        EdgeproofError: it has not.
    """
    folder = places.stage_folder
    if folder is None or not (folder / "model.safetensors").exists():
        raise EdgeproofError(
            f"the teacher of kind '{kind}' has not been trained yet",
            where=folder,
            fix="run `edgeproof ship RECIPE`, or the stage `teacher`, first",
        )
    return folder


def device_of(name: str) -> torch.device:
    """Return the device of this process: under `torchrun` each one has a GPU of its own."""
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if name == "cuda" else torch.device(name)
    )


def frozen(model: M, device: torch.device) -> M:
    """Return the model in eval mode, float32, on the device, with no parameter asking for a gradient."""
    return model.eval().requires_grad_(False).to(device=device, dtype=torch.float32)


def check_widths(text_dim: int, image_dim: int, where: object = None) -> None:
    """Refuse text and image embeddings that cannot lie in one space.

    Raises:
        DataError: the widths differ.
    """
    if text_dim != image_dim:
        raise DataError(
            f"text embeddings have {text_dim} values, the teacher's image embeddings have {image_dim}:"
            " they are not of one model",
            where=where,
            fix="give text embeddings of the model that made the image embeddings",
        )
