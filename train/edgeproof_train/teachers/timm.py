"""Any image model of timm (github.com/huggingface/pytorch-image-models), its pooled features as embedding.

Weights are safetensors only: timm's own by name from the hub, or a local file or folder. A `config.json`
beside a local file (timm's and the hub's layout) says how images are preprocessed and how the model was made.
The classifier of the weights, if they have one, gives logits; the embedding is what stands before it, unless
the recipe names another part of the network.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import timm
import torch
from pydantic import Field, field_validator, model_validator
from safetensors.torch import save
from timm.data.config import resolve_model_data_config
from timm.models import PretrainedCfg
from torch import Tensor, nn

import edgeproof_train.architectures  # noqa: F401 - timm learns their names
from edgeproof_configs import schema
from edgeproof_configs.errors import DataError, UsageError, did_you_mean
from edgeproof_configs.files import digest_of, read_json, write_bytes, write_json
from edgeproof_configs.registry import register
from edgeproof_data.objects import ObjectSet, evenly, single_images
from edgeproof_data.paths import resolve_path
from edgeproof_data.sets import DataSource, ImageSet
from edgeproof_train.embed_reader import read_batches
from edgeproof_train.frozen_feature import (
    FeatureKind,
    FrozenFeature,
    Reduction,
    collected,
    principal_axes,
    rows_within,
)
from edgeproof_train.hub import hub_file
from edgeproof_train.preprocessing import PreprocessOverride, square_side, teacher_preprocess
from edgeproof_train.teacher import Report, Teacher, TeacherPlaces, frozen, trained_folder
from edgeproof_train.weights import load_into, read_weights, weights_digest
from edgeproof_train.whitening import whitened

KEY = "teacher.weights"
HUB = "hub"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "config.json"
TOLD = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")
PCA_IMAGES, PCA_BATCH, PCA_BYTES = 4096, 32, 1 << 30
"""Principal axes are fitted on so many images, evenly chosen; fewer where features are wide."""
OURS = ("model_name", "pretrained", "num_classes", "in_chans")


@register("teacher")
class TimmTeacher(Teacher):
    """A frozen timm model in float32. It has no text tower: labels need stored text embeddings or a head."""

    class Config(schema.TeacherConfig):
        """What to build.

        Attributes:
            model: a name that timm knows.
            weights: `hub` for timm's own, a .safetensors file, or a folder with `model.safetensors`.
            kwargs: arguments for timm's model; they win over those in `config.json`.
            preprocess: in place of what `config.json` or timm say.
            feature: which part of the network is the embedding: what stands before the classifier, or the
                class token, the mean of all patches or all of them in one row, each behind the last norm; or
                what is pooled from before it.
            pca: reduce the embedding to so many principal axes, fitted on the training images, and on the
                photos that serve only to distil, if there are some.
            whiten: make these axes count alike, from 0, where their variance alone is taken out, to below 1:
                the share of what objects of one class differ in, which needs classes with two objects.
            projection: reduce it to so many random directions, always the same.
        """

        kind: Literal["timm"] = "timm"
        model: str
        weights: str = HUB
        kwargs: dict[str, bool | int | float | str] = Field(default_factory=dict)
        preprocess: PreprocessOverride = PreprocessOverride()
        feature: FeatureKind = "pooled"
        pca: schema.PositiveInt | None = None
        whiten: Annotated[float, Field(ge=0, lt=1)] | None = None
        projection: schema.PositiveInt | None = None

        @model_validator(mode="after")
        def _width_is_given(self) -> TimmTeacher.Config:
            if self.pca and self.projection:
                raise ValueError("pca and projection both say how wide the embedding is: set one of them")
            if self.whiten is not None and not self.pca:
                raise ValueError("whiten has no effect without pca, whose axes it scales")
            if self.feature == "flattened" and not (self.pca or self.projection):
                raise ValueError(
                    "feature: flattened is as wide as all places together: set pca or projection"
                )
            return self

        @field_validator("model")
        @classmethod
        def _is_known(cls, model: str) -> str:
            if not timm.is_model(model):
                raise ValueError(f"timm has no model '{model}'.{did_you_mean(model, timm.list_models())}")
            return model

        @field_validator("kwargs")
        @classmethod
        def _are_free(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
            taken = sorted(set(kwargs) & {*OURS, "pretrained_cfg", "pretrained_cfg_overlay", "features_only"})
            if taken:
                raise ValueError(f"{', '.join(taken)} cannot be set here, the teacher sets it itself")
            return kwargs

    fitting: ClassVar[bool] = False

    def __init__(self, config: Config, places: TeacherPlaces):
        super().__init__(config, places)
        path = find_weights(config.model, config.weights, places.data_root)
        told, arguments = card_of(path, config.model) if config.weights != HUB else ({}, {})
        self.arguments = {**arguments, **config.kwargs}
        model: Any = frozen(load_model(config.model, path, told, self.arguments), self.device)
        self.model = model
        self.num_classes = int(model.num_classes)
        data = resolve_model_data_config(model)
        side = square_side(tuple(data["input_size"])[1:], config.model)
        side = int(self.arguments.get("img_size", side))
        found = {
            "image_size": side,
            "resize_size": math.floor(side / data["crop_pct"]),
            **{key: data[key] for key in ("interpolation", "mean", "std")},
            "resize_mode": {"center": "shortest"}.get(data["crop_mode"], data["crop_mode"]),
        }
        self.preprocess = teacher_preprocess(found, config.preprocess, config.model)
        self.feature = FrozenFeature(model, config.feature)
        width, local = self.feature.shapes(self.preprocess.image_size, self.device)
        self.reduction = self._reduction(width)
        self.embedding_dim = int(width if self.reduction is None else self.reduction.directions.shape[1])
        if local is not None and local[1] == width and self.reduction is None:
            self.token_shape = (1 + local[0], width)

    def _reduction(self, width: int) -> Reduction | None:
        """Return what makes the feature narrow: drawn, or read from where `train_in_place` wrote it."""
        if self.config.projection:
            made = Reduction.random(width, self.config.projection)
        elif self.config.pca and not self.fitting:
            folder = trained_folder(self.config.kind, self.places)
            made = Reduction.of(read_weights(folder / WEIGHTS_FILE, "teacher.pca"))
        else:
            return None
        return frozen(made, self.device)

    def _identity(self) -> dict[str, Any]:
        own = {
            "model": self.config.model,
            "arguments_sha256": digest_of(self.arguments),
            "weights_sha256": weights_digest(self.model.state_dict()),
        }
        if self.config.feature != "pooled":
            own["feature"] = self.config.feature
        if self.reduction is not None:
            own["reduction_sha256"] = weights_digest(self.reduction.state_dict())
        return own

    @classmethod
    def train_in_place(
        cls, config: Config, source: DataSource, folder: Path, device: str, report: Report | None = None
    ) -> dict[str, Any]:
        """Fit the principal axes on training images and photos, and write them.

        Returns:
            `images` that were looked at, and how many of them are `photos`; `axes`, the share of the variance
            that they keep, and `whiten`.

        Raises:
            UsageError: there are too few images, or no class has two of them or objects to whiten by.
            DataError: an image cannot be read.
        """
        del report
        assert config.pca is not None
        teacher = TimmTeacherBeforeFit(config, TeacherPlaces(source.root, folder, device))
        assert teacher.preprocess is not None
        given = source.split("train")
        images, photos = single_images(given), source.photos()
        total = len(images) + (0 if photos is None else len(photos))
        count = rows_within(teacher.embedding_dim, total, PCA_BYTES)
        own, others = shares_of(len(images), total - len(images), min(count, PCA_IMAGES))
        parts = [(images, own)]
        if photos is not None:
            parts.append((photos, others))
        read = (read_batches(*part, teacher.preprocess, PCA_BATCH, workers=0) for part in parts)
        features = collected((batch.image for batches in read for batch in batches), teacher.encode_image)
        reduction, kept = principal_axes(features, config.pca)
        figures: dict[str, Any] = {"images": len(features), "photos": len(features) - len(own)}
        figures |= {"axes": config.pca, "kept_variance": round(kept, 6)}
        if config.whiten is not None:
            labels, owners = groups_of(given, own, len(features))
            reduction = whitened(reduction, features, labels, owners, config.whiten)
            figures["whiten"] = config.whiten
        write_bytes(folder / WEIGHTS_FILE, save(dict(reduction.state_dict())))
        write_json(folder / CARD_FILE, {"pca": figures, "feature": config.feature})
        return figures

    def module(self) -> nn.Module:
        """Return the network."""
        return self.model

    def classifier(self) -> nn.Linear | None:
        """Return the network's own classifier, if it is one linear layer."""
        found = self.model.get_classifier()
        reads_it = self.config.feature == "pooled" and self.reduction is None
        return found if self.num_classes and reads_it and isinstance(found, nn.Linear) else None

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        features = self.feature(image_BCHW)
        return features if self.reduction is None else self.reduction(features)

    def _encode_tokens(self, image_BCHW: Tensor) -> Tensor:
        pooled, seen = self.feature.run(image_BCHW)
        return torch.cat([self.feature.of(pooled, seen)[:, None], self.feature.local(seen)], dim=1)

    def _encode_logits(self, image_BCHW: Tensor) -> Tensor:
        return self.model(image_BCHW)


class TimmTeacherBeforeFit(TimmTeacher):
    """The same teacher, giving the features that principal axes are fitted to."""

    fitting = True


def shares_of(images: int, photos: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which training images and which photos axes are fitted on: evenly over both.

    However many photos there are, training images have an eighth of the places, or all that they need of it:
    only they tell what objects of a class have in common.
    """
    most = min(most, images + photos)
    chosen = evenly(images + photos, most)
    own, others = chosen[chosen < images], chosen[chosen >= images] - images
    least = min(images, most // 8)
    if len(own) < least:
        return evenly(images, least), evenly(photos, most - least)
    return own, others


def groups_of(given: ImageSet, rows: np.ndarray, count: int) -> tuple[Tensor, Tensor]:
    """Return the label and the object of some of a part's single images, filled up to `count` by -1.

    An image that is not one of an object's views is an object.
    """
    owners = np.arange(len(given))
    if isinstance(given, ObjectSet):
        owners = np.repeat(owners, [len(files) for files in given.views])
    filled = np.full((2, count), -1, np.int64)
    filled[:, : len(rows)] = given.labels[owners][rows], owners[rows]
    labels, objects = torch.from_numpy(filled)
    return labels, objects


def find_weights(model: str, weights: str, root: Path | None) -> Path:
    """Return the weights file that a recipe names.

    Raises:
        EdgeproofError: there is none, or the hub cannot be reached.
    """
    if weights == HUB:
        known = timm.get_pretrained_cfg(model) or PretrainedCfg()
        if not known.hf_hub_id:
            raise UsageError(
                f"timm has no weights of '{model}' on the hub", where=KEY, fix="name a local file"
            )
        published = Path(known.hf_hub_filename or WEIGHTS_FILE).with_suffix(".safetensors").name
        return hub_file(known.hf_hub_id, [published.replace("open_clip_pytorch_", "open_clip_")], KEY)
    path = resolve_path(weights, root)
    path = path / WEIGHTS_FILE if path.is_dir() else path
    if not path.exists():
        raise DataError(f"{KEY}: the folder has no {WEIGHTS_FILE}", where=path.parent)
    return path


def card_of(weights: Path, model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the `config.json` beside a file says: preprocessing, and arguments of the model.

    Raises:
        UsageError: it is of another architecture.
    """
    card = weights.parent / CARD_FILE
    if not card.is_file():
        return {}, {}
    plain = read_json(card)
    architecture = str(plain.get("architecture", model)).split(".")[0]
    if architecture != model.split(".")[0]:
        raise UsageError(
            f"{KEY}: the weights are of '{architecture}', the recipe's teacher is '{model}'",
            where=card,
            fix=f"set teacher.model: {architecture}",
        )
    settings = {**plain, **plain.get("pretrained_cfg", {})}
    arguments = plain.get("model_args") or plain.get("create_model_kwargs") or {}
    return (
        {key: settings[key] for key in TOLD if key in settings},
        {key: value for key, value in arguments.items() if key not in OURS},
    )


def load_model(name: str, weights: Path, told: dict[str, Any], arguments: dict[str, Any]) -> nn.Module:
    """Return a timm model with the classifier of its weights, all tensors loaded.

    Raises:
        EdgeproofError: the file is no safetensors, or is cut.
        UsageError: it is of another model, or timm does not accept the arguments.
    """
    state = read_weights(weights, KEY)
    classes = count_classes(name, state)
    overlay = {**told, "state_dict": dict(state), "num_classes": classes}
    try:
        model = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes, **arguments
        )
    except (TypeError, AssertionError) as error:
        raise UsageError(f"timm cannot build '{name}': {error}", where="teacher.kwargs") from error
    except (RuntimeError, KeyError) as error:
        load_into(timm.create_model(name, num_classes=classes, **arguments), state, KEY, weights)
        raise UsageError(f"{KEY}: the weights are not of '{name}'", where=weights) from error
    settings: Any = model.pretrained_cfg
    settings.pop("state_dict", None)
    return model


def count_classes(name: str, state: dict[str, Tensor]) -> int:
    """Return how many classes the weights of a timm model tell apart; 0 if they have no classifier."""
    known = timm.get_pretrained_cfg(name) or PretrainedCfg()
    names = known.classifier or ()
    rows = [
        len(state[f"{part}.weight"])
        for part in ((names,) if isinstance(names, str) else names)
        if f"{part}.weight" in state
    ]
    return rows[0] - (known.label_offset or 0) if rows else 0
