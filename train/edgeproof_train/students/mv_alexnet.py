"""The multi-view AlexNet as a student: its tokens are those of a vision transformer in number and width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import PositiveInt, StudentConfig
from edgeproof_data.paths import resolve_path
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.architectures.mv_alexnet import WIDTH, MultiViewAlexNet
from edgeproof_train.outputs import ABSENT, ModelOutputs
from edgeproof_train.preprocessing import PositiveTriple, Triple
from edgeproof_train.student import Student
from edgeproof_train.weights import load_into, read_weights

KEY = "student.weights"
SMALLEST = 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@register("student")
class MultiViewAlexNetStudent(Student):
    """Tokens (B, 1 + P, D): the object's, which is its embedding, and one for each place of its pooled map.

    At 224 pixels P is 49, as of a transformer with patches of 32 pixels. One linear layer takes all tokens
    from 256 values to D; nothing follows it, for the tokens to be learnt have negative values too.
    """

    class Config(StudentConfig):
        """What it starts from, and how many tokens it gives.

        Attributes:
            weights: a .safetensors file with `features.0.weight` and so on, as torchvision names AlexNet's;
                a file that has all layers gives all. None starts from random ones.
            grid: P is its square, such as 16 for a DINOv2 teacher with patches of 14 pixels; unless told it
                is what a stride of 2 leaves, 7 at 224 pixels.
            compat: compute as the earlier system did, for its weights alone: local tokens that mix places
                with channels, and a ReLU at the end.
            mean: of the input, in [0, 1]; ImageNet's if not given. So for `std`.
            std: of the input.
            resize_size: short side in pixels before the centre crop of `image_size`, which it is unless told.
            interpolation: how photos are resized.
        """

        kind: Literal["mv_alexnet"] = "mv_alexnet"
        image_size: Annotated[int, Field(ge=SMALLEST, le=1024)]
        weights: str | None = None
        grid: PositiveInt | None = None
        compat: bool = False
        mean: Triple | None = None
        std: PositiveTriple | None = None
        resize_size: PositiveInt | None = None
        interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"

    input_name = "views"

    def __init__(self, config: Config, embedding_dim: int, root: Path | None = None):
        super().__init__()
        self.config = config
        self.embedding_dim = embedding_dim
        side = config.image_size
        self.preprocess = preprocess_of(config)
        self.network = MultiViewAlexNet(side, config.grid, config.compat)
        self.head = nn.Linear(WIDTH, embedding_dim)
        self.token_shape = (1 + self.network.places, embedding_dim)
        if config.weights is not None:
            self._start_from(resolve_path(config.weights, root))

    def forward(self, image: Tensor) -> ModelOutputs:
        """Return the outputs for views (B, V, 3, H, W); images (B, 3, H, W) are objects with one view."""
        whole, local = self.network(image)
        embedding, places = self._ended(self.head(whole)), self._ended(self.head(local))
        tokens = torch.cat([embedding[:, None], places], dim=1)
        return ModelOutputs(embedding, embedding if self.classes else ABSENT, tokens=tokens)

    def pooled(self, image: Tensor) -> Tensor:
        """Return the object's global feature (B, 256)."""
        return self.network(image)[0]

    def module(self) -> nn.Module:
        """Return the network up to the features."""
        return self.network

    def backbone_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the convolutions' named parameters."""
        return self.network.features.named_parameters(prefix="network.features")

    def head_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the named parameters of the layers that AlexNet's own weights do not have."""
        for name, parameter in self.named_parameters():
            if not name.startswith("network.features."):
                yield name, parameter

    def card(self) -> dict[str, Any]:
        """Return the settings."""
        settings = self.config.model_dump(include={"kind", "image_size", "grid", "compat"})
        own = {**settings, "preprocess": self.preprocess.to_dict()}
        return {"architecture": "mv_alexnet", "num_classes": self.embedding_dim, "edgeproof": own}

    @classmethod
    def from_card(cls, card: dict[str, Any]) -> MultiViewAlexNetStudent:
        """Return a student of the card's shape."""
        ours = card["edgeproof"]
        seen = {key: value for key, value in ours["preprocess"].items() if key in cls.Config.model_fields}
        settings = {key: ours[key] for key in ("image_size", "grid", "compat")}
        return cls(cls.Config.model_validate({**seen, **settings}), card["num_classes"])

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights."""
        return {**self.network.state_dict(), **self.head.state_dict(prefix="head.")}

    def load_tensors(self, tensors: dict[str, Tensor], path: Path) -> None:
        """Take weights that `tensors` returned."""
        head = {k.removeprefix("head."): v for k, v in tensors.items() if k.startswith("head.")}
        load_into(self.network, {k: v for k, v in tensors.items() if not k.startswith("head.")}, KEY, path)
        load_into(self.head, head, KEY, path)

    def _ended(self, tokens: Tensor) -> Tensor:
        return F.relu(tokens) if self.config.compat else tokens

    def _start_from(self, path: Path) -> None:
        """Take all layers of a file, or AlexNet's convolutions where it has no more that fit."""
        state, own = read_weights(path, KEY), self.tensors()
        convolutions = {name: value for name, value in own.items() if name.startswith("features.")}
        found = by_shape(state, own)
        if found is None:
            found = own | (by_shape(state, convolutions) or missing(path))
        self.load_tensors(found, path)


def preprocess_of(config: MultiViewAlexNetStudent.Config) -> Preprocess:
    """Return the preprocessing that a student's settings say.

    Raises:
        UsageError: they make no sense together.
    """
    side = config.image_size
    seen = (config.interpolation, config.mean or MEAN, config.std or STD)
    try:
        return Preprocess(side, config.resize_size or side, *seen)
    except ValueError as error:
        raise UsageError(f"the preprocessing cannot be used: {error}", where="student") from error


def by_shape(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the tensors of a file by our names; None where a layer has none, or more than one.

    A tensor is that of its name, whatever stands before it, or else the only one left with its shape. What
    other tools call the layers behind AlexNet's convolutions is not fixed, and their shapes all differ.
    """
    left = dict(state)
    found: dict[str, Tensor] = {}
    weights = [name for name in own if name.endswith(".weight")]
    for name in sorted(weights, key=lambda name: not any(has_name(other, name) for other in left)):
        fitting = [other for other in left if left[other].shape == own[name].shape]
        named = [other for other in fitting if has_name(other, name)] or fitting
        if len(named) != 1:
            return None
        stem, bias = named[0].removesuffix("weight"), name.removesuffix("weight") + "bias"
        if f"{stem}bias" not in left:
            return None
        found[name], found[bias] = left.pop(named[0]), left.pop(f"{stem}bias")
    return found


def has_name(name: str, ours: str) -> bool:
    """Whether a tensor's name is one of ours, alone or behind other words."""
    return f".{name}".endswith(f".{ours}")


def missing(path: Path) -> dict[str, Tensor]:
    """Refuse a file without AlexNet's convolutions.

    Raises:
        UsageError: always.
    """
    raise UsageError(
        f"{KEY}: the file has not the convolutions of AlexNet (features.0.weight to features.10.weight)",
        where=path,
        fix="give torchvision's AlexNet, or the earlier student, as .safetensors",
    )
