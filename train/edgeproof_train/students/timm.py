"""Any timm backbone with an embedding head."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

import edgeproof_train.architectures  # noqa: F401 - timm learns their names
from edgeproof_configs.errors import UsageError, did_you_mean
from edgeproof_configs.registry import register
from edgeproof_configs.schema import PositiveFloat, PositiveInt, StudentConfig
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.outputs import ModelOutputs
from edgeproof_train.simkd import PROJECTED, ReusedHead
from edgeproof_train.student import Student
from edgeproof_train.students.first_stages import keep_first
from edgeproof_train.students.timm_weights import StartWeights, classifier_names, start_weights
from edgeproof_train.taps import node_shapes
from edgeproof_train.weights import load_into

OURS = ("num_classes", "in_chans", "pretrained", "pretrained_cfg", "features_only", "checkpoint_path")
DEFAULT_RIDGE = 1000.0

Triple = tuple[float, float, float]


@register("student")
class TimmStudent(Student):
    """A timm backbone up to its pooled features, then a linear or two-layer map to the teacher's space."""

    class Config(StudentConfig):
        """What to build, and what it starts from.

        Attributes:
            model: a name that timm knows.
            weights: of the backbone: a .safetensors file, or a folder with `model.safetensors`; `hub` for
                timm's own; None for random ones. A `config.json` beside the file also gives the preprocessing
                and the arguments that the model was made with.
            kwargs: arguments for timm's model, such as `pad_type: same`; they win over `config.json`.
            stages: keep only so many of the network's first stages, with their weights; the map of the last
                of them is pooled. Of networks of the EfficientNet family.
            head: `linear`, or `mlp` with one hidden layer as wide as the backbone's features; `none` where
                these are as wide as the embedding and are given as they are.
            head_init: `least_squares` starts a linear head from the ridge regression of the teacher's
                embeddings on the frozen backbone's features; `weights` takes the classifier of the weights,
                which must have as many rows as the head.
            ridge: lambda of that regression, on standardised features; 1000 if not given.
            mean: of the input, in [0, 1]; from `config.json` or timm if not given. So for the four below.
            std: of the input.
            resize_size: short side in pixels before the centre crop of `image_size`.
            interpolation: how photos are resized.
        """

        kind: Literal["timm"] = "timm"
        model: str
        weights: str | None = None
        kwargs: dict[str, bool | int | float | str | list[int]] = Field(default_factory=dict)
        stages: PositiveInt | None = None
        head: Literal["linear", "mlp", "none"] = "linear"
        head_init: Literal["random", "least_squares", "weights"] = "random"
        ridge: PositiveFloat | None = None
        mean: Triple | None = None
        std: Triple | None = None
        resize_size: PositiveInt | None = None
        interpolation: Literal["bicubic", "bilinear", "nearest"] | None = None

        @model_validator(mode="after")
        def _can_be_built(self) -> TimmStudent.Config:
            if not timm.is_model(self.model):
                raise ValueError(
                    f"timm has no model '{self.model}'.{did_you_mean(self.model, timm.list_models())}"
                )
            taken = sorted(set(self.kwargs) & set(OURS))
            if taken:
                raise ValueError(f"kwargs: {', '.join(taken)} cannot be set here, the student sets it itself")
            if self.resize_size is not None and self.resize_size < self.image_size:
                raise ValueError(f"resize_size must be at least image_size ({self.image_size})")
            if self.std is not None and min(self.std) <= 0:
                raise ValueError(f"std must be above 0, got {self.std}")
            if self.head != "linear" and self.head_init == "least_squares":
                raise ValueError("head_init: least_squares gives a linear map: use head: linear")
            if self.head != "linear" and self.head_init == "weights":
                raise ValueError("head_init: weights takes a linear classifier: use head: linear")
            if self.head_init == "weights" and self.weights is None:
                raise ValueError("head_init: weights has no effect without weights")
            if self.ridge is not None and self.head_init != "least_squares":
                raise ValueError("ridge has no effect without head_init: least_squares")
            return self

    def __init__(self, config: Config, embedding_dim: int, root: Path | None = None):
        super().__init__()
        self.config = config
        self.embedding_dim = embedding_dim
        start = start_weights(config.model, config.weights, root)
        self.arguments = model_arguments(config, start.arguments)
        self.backbone = make_backbone(config, self.arguments, start)
        if config.stages is not None:
            self.backbone = keep_first(self.backbone, config.stages, config.model)
        self.preprocess = make_preprocess(config, start.preprocessing)
        width = feature_width(self.backbone, config)
        self.head = self.new_head(width)
        if config.head_init == "weights":
            self._take_classifier(start)

    def new_head(self, width: int) -> nn.Module:
        """Return the map from pooled features (B, F) to the embedding (B, D)."""
        return make_head(self.config.head, width, self.embedding_dim)

    def forward(self, image: Tensor) -> ModelOutputs:
        """Return the embedding (B, D), not normalised; with a reused head its projected map as well."""
        if isinstance(self.head, ReusedHead):
            projected = self.head.projector(self.last_map(image))
            return replace(self.outputs(self.head.scores(projected)), features={PROJECTED: projected})
        return self.outputs(self.head(self.pooled(image)))

    def last_map(self, image: Tensor) -> Tensor:
        """Return the backbone's last feature map, (B, C, H, W) for a convolutional one."""
        network: Any = self.backbone
        return network.forward_features(image)

    def reuse_head(self, head: ReusedHead, node: str) -> None:
        """Score classes from now on by a projector and the teacher's classifier (SimKD, arXiv 2203.14001).

        Args:
            head: both, the classifier frozen.
            node: whose map the projector is trained on; it must be the backbone's last one.

        Raises:
            UsageError: it is another one.
        """
        side = self.preprocess.image_size
        shapes = node_shapes(self.backbone, [node], torch.zeros(1, 3, side, side))
        self.backbone.eval()
        with torch.no_grad():
            last = tuple(self.last_map(torch.zeros(1, 3, side, side)).shape[1:])
        self.backbone.train()
        if shapes[node] != last:
            raise UsageError(
                f"simkd: the student's '{node}' is {shapes[node]}, its last map is {last}",
                where="losses",
                fix="name the student's last map before the pooling",
            )
        self.head = head

    def module(self) -> nn.Module:
        """Return the backbone."""
        return self.backbone

    def pooled(self, image: Tensor) -> Tensor:
        """Return the backbone's pooled features (B, F)."""
        return self.backbone(image)

    def backbone_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the backbone's named parameters."""
        return self.backbone.named_parameters(prefix="backbone")

    def head_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the head's named parameters."""
        return self.head.named_parameters(prefix="head")

    def card(self) -> dict[str, Any]:
        """Return timm's own description: `timm.create_model("local-dir:FOLDER")` reads a linear student."""
        preprocess = self.preprocess
        return {
            "architecture": self.config.model.split(".")[0],
            "num_classes": self.embedding_dim,
            "num_features": int(self.backbone.num_features),  # pyright: ignore[reportArgumentType]
            "model_args": self.arguments,
            "pretrained_cfg": {
                "input_size": [3, preprocess.image_size, preprocess.image_size],
                "interpolation": preprocess.interpolation,
                "crop_pct": preprocess.image_size / preprocess.resize_size,
                "crop_mode": "center",
                "mean": list(preprocess.mean),
                "std": list(preprocess.std),
                "num_classes": self.embedding_dim,
            },
            "edgeproof": {"kind": "timm", **self._head_card(), "preprocess": preprocess.to_dict()},
        }

    def _head_card(self) -> dict[str, Any]:
        if isinstance(self.head, ReusedHead):
            return {"head": "reused", "reused": self.head.card()}
        stages = {} if self.config.stages is None else {"stages": self.config.stages}
        return {"head": self.config.head, **stages}

    @classmethod
    def from_card(cls, card: dict[str, Any]) -> TimmStudent:
        """Return a student of the card's shape."""
        ours = card["edgeproof"]
        student = cls(cls.Config(**card_settings(card)), card["num_classes"])
        if ours["head"] == "reused":
            student.head = ReusedHead.from_card(ours["reused"])
        return student

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights; a linear head has the name of timm's own classifier."""
        prefix = self._head_prefix()
        head = {f"{prefix}.{name}": value for name, value in self.head.state_dict().items()}
        return {**self.backbone.state_dict(), **head}

    def load_tensors(self, tensors: dict[str, Tensor], path: Path) -> None:
        """Take weights that `tensors` returned."""
        prefix = self._head_prefix()
        names = {f"{prefix}.{name}": name for name in self.head.state_dict()}
        head = {names[name]: value for name, value in tensors.items() if name in names}
        rest = {name: value for name, value in tensors.items() if name not in names}
        load_into(self.head, head, "student head", path)
        load_into(self.backbone, rest, "student", path)

    def _take_classifier(self, start: StartWeights) -> None:
        prefix, head = self._head_prefix(), self.head
        assert isinstance(head, nn.Linear)
        tensors = {name: start.tensors().get(f"{prefix}.{name}") for name in ("weight", "bias")}
        weight, bias = tensors["weight"], tensors["bias"]
        if weight is None or bias is None or weight.shape != head.weight.shape:
            found = "no classifier" if weight is None else f"a classifier {tuple(weight.shape)}"
            raise UsageError(
                f"the weights have {found}, the student's head is {tuple(head.weight.shape)}",
                where="student.head_init: weights",
                fix="leave head_init away, or give weights that were trained on these classes",
            )
        load_into(head, {"weight": weight, "bias": bias}, "student head", start.file or start.hub)

    def _head_prefix(self) -> str:
        names = classifier_names(self.backbone)
        plain = isinstance(self.head, nn.Linear) and len(names) == 1
        return names[0] if plain else "embedding_head"


def card_settings(card: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a student that wrote a card, less its start weights."""
    ours = card["edgeproof"]
    preprocess = Preprocess.from_dict(ours["preprocess"])
    return {
        "model": card["architecture"],
        "image_size": preprocess.image_size,
        "kwargs": card["model_args"],
        "stages": ours.get("stages"),
        "head": "linear" if ours["head"] == "reused" else ours["head"],
        "mean": preprocess.mean,
        "std": preprocess.std,
        "resize_size": preprocess.resize_size,
        "interpolation": preprocess.interpolation,
    }


def model_arguments(config: TimmStudent.Config, of_weights: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of timm's model: the recipe's, else those of the weights, and its size."""
    known = timm.get_pretrained_cfg(config.model)
    size = {"img_size": config.image_size} if known and known.fixed_input_size else {}
    return {**size, **of_weights, **config.kwargs}


def make_backbone(config: TimmStudent.Config, arguments: dict[str, Any], start: StartWeights) -> nn.Module:
    """Return the backbone with its start weights.

    Raises:
        UsageError: timm does not accept the arguments.
        EdgeproofError: the weights are of another model.
    """
    try:
        backbone = timm.create_model(config.model, num_classes=0, **start.timm_options(), **arguments)
    except (TypeError, AssertionError) as error:
        raise UsageError(f"timm cannot build '{config.model}': {error}", where="student.kwargs") from error
    start.load(backbone)
    return backbone


def make_preprocess(config: TimmStudent.Config, known: dict[str, Any]) -> Preprocess:
    """Return the preprocessing: the recipe's values, else those that belong to the weights.

    Raises:
        UsageError: the weights want a kind of resizing that there is not.
    """
    try:
        return Preprocess(
            image_size=config.image_size,
            resize_size=config.resize_size or math.floor(config.image_size / known["crop_pct"]),
            interpolation=config.interpolation or known["interpolation"],
            mean=config.mean or known["mean"],
            std=config.std or known["std"],
        )
    except ValueError as error:
        raise UsageError(
            f"the preprocessing of '{config.model}' cannot be used: {error}", where="student"
        ) from error


def feature_width(backbone: nn.Module, config: TimmStudent.Config) -> int:
    """Return F by running the backbone once on an image of the student's size.

    Raises:
        UsageError: it does not run at this size, or gives something else than (1, F).
    """
    image = torch.zeros(1, 3, config.image_size, config.image_size)
    was_training = backbone.training
    try:
        with torch.no_grad():
            features = backbone.eval()(image)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"'{config.model}' does not run on {config.image_size} x {config.image_size}: {error}",
            where="student.image_size",
            fix="choose a size that its patches or strides divide, or set it in student.kwargs",
        ) from error
    backbone.train(was_training)
    if features.ndim != 2:
        raise UsageError(
            f"'{config.model}' gives {tuple(features.shape)}, expected pooled features (1, F)",
            where="student.kwargs",
        )
    return features.shape[1]


def make_head(kind: str, width: int, embedding_dim: int) -> nn.Module:
    """Return the map from pooled features (B, F) to the embedding (B, D).

    Raises:
        UsageError: there is to be none, and F is not D.
    """
    if kind == "none":
        if width != embedding_dim:
            raise UsageError(
                f"the backbone gives {width} features, the embedding has {embedding_dim} values",
                where="student.head: none",
                fix="set student.head: linear",
            )
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(width, embedding_dim)
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, embedding_dim))


def init_least_squares(
    student: Student, features: np.ndarray, targets: np.ndarray, ridge: float = DEFAULT_RIDGE
) -> None:
    """Set a linear head to the ridge regression of targets on standardised features.

    `W = (Z'Z + ridge I)^-1 Z' (Y - mean(Y))` with Z the features minus mean, divided by deviation, in
    float64; mean and deviation are then folded into weight and bias.

    Args:
        student: its `head` is an `nn.Linear`.
        features: (N, F), what `student.pooled` gives in eval mode.
        targets: (N, D), the teacher's embeddings.
        ridge: lambda, above 0.
    """
    head = student.head
    if not isinstance(head, nn.Linear):
        raise ValueError(f"least squares need a linear head, got {type(head).__name__}")
    if features.shape != (len(targets), head.in_features) or targets.shape[1] != head.out_features:
        raise ValueError(
            f"expected features (N, {head.in_features}) and targets (N, {head.out_features}),"
            f" got {features.shape} and {targets.shape}"
        )
    x, y = features.astype(np.float64), targets.astype(np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    # A channel that never changes says nothing; dividing by 1 gives it the weight 0.
    deviation[deviation < 1e-6] = 1.0
    z = (x - mean) / deviation
    centre = y.mean(axis=0)
    solved = np.linalg.solve(z.T @ z + ridge * np.eye(z.shape[1]), z.T @ (y - centre))
    weight = solved / deviation[:, None]
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight.T))
        head.bias.copy_(torch.from_numpy(centre - mean @ weight))
