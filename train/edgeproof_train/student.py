"""The student: the small trainable model, with everything that is needed to run it again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import save
from torch import Tensor, nn

from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.files import read_json, write_bytes, write_json
from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import StudentConfig
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.outputs import ModelOutputs
from edgeproof_train.weights import read_weights

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "config.json"


class Student(nn.Module, ABC):
    """Base of the student kinds, made by `Kind(config, embedding_dim, root)`.

    Attributes:
        embedding_dim: D, the width of the teacher's space.
        classes: names of the K classes that it scores, where the space is that of class scores; then its
            embedding is its logits.
        preprocess: from photo to input, the same in evaluation, export and on the device.
        input_name: `image`; or `views` of a student that looks at several views of an object at once.
        training_only: parts that losses need and an export leaves out.
        token_shape: (1 + P, D) of the tokens that it gives beside its embedding; None where it gives none.
        pools_late: whether it encodes each view of an object by itself and pools the features, so that
            `encode_views` and `pool_views` may be called apart.
    """

    Config: ClassVar[type[StudentConfig]]
    embedding_dim: int
    preprocess: Preprocess
    classes: tuple[str, ...] = ()
    input_name: str = "image"
    training_only: tuple[str, ...] = ()
    token_shape: tuple[int, int] | None = None
    pools_late: bool = False

    @abstractmethod
    def forward(self, image: Tensor) -> ModelOutputs:
        """Return the outputs for images (B, 3, H, W) that `preprocess` has normalised.

        The embedding (B, D) is raw, not normalised. A student of `views` takes (B, V, 3, H, W), with any V.
        """

    @abstractmethod
    def pooled(self, image: Tensor) -> Tensor:
        """Return what the embedding head sees, (B, F)."""

    def encode_views(self, image: Tensor) -> Tensor:
        """Return the features (N, F) of single views (N, 3, H, W), as `pool_views` takes them.

        Raises:
            ValueError: this student does not pool late.
        """
        raise ValueError(f"a student of kind '{type(self).__name__}' does not encode views one by one")

    def pool_views(self, features_BVF: Tensor) -> ModelOutputs:
        """Return the outputs for objects of which each view's features are known; their tokens are left out.

        `student(views)` and `pool_views(encode_views(views.flatten(0, 1)).unflatten(0, (B, V)))` give the
        same embedding.

        Raises:
            ValueError: this student does not pool late.
        """
        raise ValueError(f"a student of kind '{type(self).__name__}' does not encode views one by one")

    @abstractmethod
    def module(self) -> nn.Module:
        """Return the network whose nodes feature losses may name."""

    def outputs(self, embedding: Tensor) -> ModelOutputs:
        """Return the outputs of an embedding (B, D), which is also the logits where classes are scored."""
        return ModelOutputs(embedding, embedding) if self.classes else ModelOutputs(embedding)

    @abstractmethod
    def backbone_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the named parameters that may start from other people's weights."""

    @abstractmethod
    def head_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the named parameters of the embedding head."""

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """Return the contents of `config.json`: architecture, preprocessing, and `edgeproof.kind`."""

    @classmethod
    @abstractmethod
    def from_card(cls, card: dict[str, Any]) -> Student:
        """Return a student of the same shape as the one that wrote this card, with random weights."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return all weights and buffers by the names that `model.safetensors` gives them."""

    @abstractmethod
    def load_tensors(self, tensors: dict[str, Tensor], path: Path) -> None:
        """Take weights that `tensors` returned; `path` is for the error if they do not fit."""

    def save(self, folder: Path) -> list[Path]:
        """Write `model.safetensors` and `config.json`, each atomically, and return their paths."""
        weights, card = folder / WEIGHTS_FILE, folder / CARD_FILE
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.tensors().items()}
        write_bytes(weights, save(tensors))
        described = self.card()
        if self.classes:
            described["edgeproof"]["classes"] = list(self.classes)
        write_json(card, described)
        return [weights, card]

    @staticmethod
    def load(folder: Path) -> Student:
        """Read what `save` wrote, whatever its kind, on the CPU and in eval mode.

        Raises:
            EdgeproofError: a file is missing, cut, or not written by edgeproof, or the student is in INT8.
        """
        path = folder / CARD_FILE
        if not path.exists():
            raise EdgeproofError("there is no student here: config.json is missing", where=folder)
        card = read_json(path)
        if "edgeproof" not in card:
            raise EdgeproofError("this config.json is not of a student that edgeproof wrote", where=path)
        if "quantization" in card["edgeproof"]:
            raise EdgeproofError(
                "this student computes in INT8, for export only",
                where=folder,
                fix="name the folder of the one that it was made of, such as RUN/train",
            )
        kind: Any = component_class("student", card["edgeproof"]["kind"])
        student: Student = kind.from_card(card)
        student.classes = tuple(card["edgeproof"].get("classes", ()))
        student.load_tensors(read_weights(folder / WEIGHTS_FILE, "student"), folder / WEIGHTS_FILE)
        return student.eval()
