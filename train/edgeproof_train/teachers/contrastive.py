"""A small CLIP, trained in place on captioned images: a teacher that needs no download."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import timm
import torch
from pydantic import Field, field_validator
from safetensors.torch import save
from torch import Tensor

from edgeproof_configs import schema
from edgeproof_configs.errors import DataError, did_you_mean
from edgeproof_configs.files import digest_of, read_json, write_bytes, write_json
from edgeproof_configs.progress import progress
from edgeproof_configs.registry import register
from edgeproof_configs.schema import AugmentConfig, Fraction, PositiveFloat, PositiveInt
from edgeproof_data.check import usable
from edgeproof_data.loader import TrainLoader
from edgeproof_data.objects import ObjectSet, single_images
from edgeproof_data.sets import DataSource
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.captions import CaptionBank
from edgeproof_train.dual_tower import PADDING, DualTower, Vocabulary, contrastive_loss
from edgeproof_train.optim import learning_rate_scale
from edgeproof_train.teacher import Report, TeacherPlaces, TrainedTeacher, frozen
from edgeproof_train.text_tower import TextTower
from edgeproof_train.weights import load_into, read_weights, weights_digest

WEIGHTS_FILE, CARD_FILE = "model.safetensors", "config.json"
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
"""The same for all three colours, so that exchanging colours commutes with normalising."""


@register("teacher")
class ContrastiveTeacher(TrainedTeacher):
    """A timm image tower and a text transformer, trained with CLIP's loss on the run's own captions.

    A share of each batch, `recolour`, is seen with its colour channels in another order, together with a
    caption that names no colour. That teaches shapes by themselves, so that pairs of colour and shape which
    never occurred are still recognised.
    """

    class Config(schema.TeacherConfig):
        """Towers and training.

        Attributes:
            model: image tower, a name that timm knows.
            kwargs: arguments for it.
            image_size: side of the input in pixels.
            embedding_dim: width of the common space.
            text_width: of the text transformer.
            text_layers: of the text transformer.
            context_length: longest caption in tokens.
            epochs: passes over the training images.
            warmup_epochs: of rising learning rate.
            recolour: share of a batch that is seen in exchanged colours; 0 for captions without colours.
            colours: the words that a caption of a recoloured image must not have.
            augment: random changes of an image.
            workers: threads that prepare images.
            seed: of weights, order, captions and augmentation.
        """

        kind: Literal["contrastive"] = "contrastive"
        model: str = "resnet10t"
        kwargs: dict[str, bool | int | float | str | list[int]] = Field(default_factory=dict)
        image_size: Annotated[int, Field(ge=16, le=512)]
        embedding_dim: PositiveInt = 128
        text_width: Annotated[int, Field(ge=32, multiple_of=32)] = 128
        text_layers: PositiveInt = 2
        context_length: Annotated[int, Field(ge=4, le=77)] = 16
        epochs: PositiveInt
        batch_size: Annotated[int, Field(ge=2)] = 128
        lr: PositiveFloat = 2e-3
        weight_decay: Annotated[float, Field(ge=0)] = 0.05
        warmup_epochs: Annotated[float, Field(ge=0)] = 2.0
        recolour: Fraction = 0.0
        colours: tuple[str, ...] = ()
        augment: AugmentConfig = AugmentConfig()
        workers: Annotated[int, Field(ge=0)] = 0
        seed: int = 0

        @field_validator("model")
        @classmethod
        def _is_known(cls, model: str) -> str:
            if not timm.is_model(model):
                raise ValueError(f"timm has no model '{model}'.{did_you_mean(model, timm.list_models())}")
            return model

        def preprocess(self) -> Preprocess:
            """Return the way from photo to input."""
            return Preprocess(self.image_size, self.image_size, "bicubic", MEAN, STD)

    ships_text = True

    def __init__(self, config: Config, places: TeacherPlaces):
        super().__init__(config, places)
        card = read_json(self.folder / CARD_FILE)
        self.vocabulary = Vocabulary(card["vocabulary"], config.context_length)
        path = self.folder / WEIGHTS_FILE
        model = make_model(config, self.vocabulary)
        load_into(model, read_weights(path, "teacher"), "teacher", path)
        self.model = frozen(model, self.device)
        self.embedding_dim = config.embedding_dim
        self.preprocess = config.preprocess()
        self.logit_scale = self.model.logit_scale.item()

    def _identity(self) -> dict[str, Any]:
        towers = {"model": self.config.model, "image_size": self.config.image_size}
        return towers | {"weights_sha256": weights_digest(self.model.state_dict())}

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        return self.model.image(image_BCHW)

    def text_tower(self) -> TextTower:
        """Return the text tower, whose tokenizer knows the words of the captions only."""
        words = self.vocabulary
        return TextTower(
            self.model.text, words.merges, "open_clip", words.context_length, PADDING, words.known
        )

    def _encode_text(self, texts: list[str]) -> Tensor:
        return self.model.text(self.vocabulary(texts).to(self.device))

    @classmethod
    def train_in_place(
        cls, config: Config, source: DataSource, folder: Path, device: str, report: Report | None = None
    ) -> dict[str, Any]:
        """Train on the captioned training images and write `model.safetensors` and `config.json`.

        Raises:
            DataError: the images have no captions.
        """
        images, _ = usable(single_images(source.split("train")))
        captions = read_captions(source, images.paths)
        torch.manual_seed(config.seed)
        vocabulary = Vocabulary.of(captions.texts, config.context_length)
        model = make_model(config, vocabulary).to(device)
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        loader = TrainLoader(
            images,
            config.preprocess(),
            config.augment,
            batch_size=min(config.batch_size, len(images)),
            seed=config.seed,
            workers=config.workers,
            pixel_folder=folder / "pixels",
        )
        figures = fit(model, loader, captions, vocabulary(captions.texts), config, device, report)
        state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        card = {"config": config.model_dump(mode="json"), "vocabulary": vocabulary.known}
        write_json(folder / CARD_FILE, card | {"captions_sha256": digest_of(captions.texts)})
        write_bytes(folder / WEIGHTS_FILE, save(state))
        return figures


def make_model(config: ContrastiveTeacher.Config, vocabulary: Vocabulary) -> DualTower:
    """Return the towers with random weights."""
    return DualTower(
        model=config.model,
        kwargs=config.kwargs,
        embedding_dim=config.embedding_dim,
        vocabulary=len(vocabulary.known),
        context_length=config.context_length,
        text_width=config.text_width,
        text_layers=config.text_layers,
    )


def read_captions(source: DataSource, paths: Sequence[str]) -> CaptionBank:
    """Return the captions of the training images.

    Raises:
        DataError: there are none.
    """
    found = source.captions("train")
    if found is None:
        raise DataError(
            "a teacher that is trained in place reads captions, and these data have none",
            where=source.root,
            fix="give data.captions: a csv with the columns path and caption, or another teacher",
        )
    images = source.split("train")
    if isinstance(images, ObjectSet):
        # What is true of an object is true of each of its views.
        found = [own for own, views in zip(found, images.views, strict=True) for _ in views]
    by_path = dict(zip(single_images(images).paths, found, strict=True))
    return CaptionBank.of([by_path[path] for path in paths])


def fit(
    model: DualTower,
    loader: TrainLoader,
    captions: CaptionBank,
    tokens: Tensor,
    config: ContrastiveTeacher.Config,
    device: str,
    report: Report | None,
) -> dict[str, Any]:
    """Train the towers and return the last epoch's figures.

    Args:
        model: both towers.
        loader: batches of training images.
        captions: which captions are true of which image.
        tokens: int64 (captions, L).
        config: the recipe's `teacher`.
        device: `cpu` or `cuda`.
        report: receives a row an epoch.
    """
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98))
    draw = torch.Generator().manual_seed(config.seed)
    steps = loader.steps_per_epoch
    warmup = round(config.warmup_epochs * steps)
    free = captions.without(config.colours)
    row: dict[str, Any] = {}
    model.train()
    with progress("teacher", steps * config.epochs, "steps") as shown:
        for epoch in range(config.epochs):
            began, total, count = time.perf_counter(), 0.0, 0
            for batch in loader.epoch(epoch):
                scale = learning_rate_scale(shown.done, steps * config.epochs, warmup, 0.001)
                for group in optimizer.param_groups:
                    group["lr"] = config.lr * scale
                loss = batch_loss(model, batch, captions, free, tokens, config.recolour, draw, device)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                total, count = total + loss.item(), count + len(batch["index"])
                shown.advance(1, f"loss {loss.item():.3f}")
            seconds = time.perf_counter() - began
            row = {"event": "epoch", "epoch": epoch + 1, "step": shown.done, "loss": total / steps}
            if report is not None:
                report(row | {"seconds": seconds, "images_per_second": count / seconds})
    return {"loss": row["loss"], "epochs": config.epochs, "logit_scale": model.logit_scale.item()}


def batch_loss(
    model: DualTower,
    batch: Any,
    captions: CaptionBank,
    free: Tensor,
    tokens: Tensor,
    recolour: float,
    draw: torch.Generator,
    device: str,
) -> Tensor:
    """Return the loss of a batch; its first part is seen in exchanged colours, with captions without."""
    image, index = batch["image"], batch["index"]
    first = int(recolour * len(index))
    if first:
        order = torch.rand(first, 3, generator=draw).argsort(dim=1)[:, :, None, None]
        image[:first] = image[:first].gather(1, order.expand(-1, -1, *image.shape[2:]))
    allowed = captions.member[index].clone()
    allowed[:first] &= free
    chosen = torch.multinomial(allowed.float(), 1, generator=draw)[:, 0]
    texts, place = chosen.unique(return_inverse=True)
    image_BD = model.image(image.to(device, memory_format=torch.channels_last))
    text_BD = model.text(tokens[texts].to(device))[place.to(device)]
    match_BB = captions.member[index][:, chosen].to(device)
    loss = image_BD.new_zeros(())
    for part in (slice(0, first), slice(first, len(index))):
        if len(index[part]):
            share = len(index[part]) / len(index)
            loss = loss + share * contrastive_loss(
                image_BD[part], text_BD[part], match_BB[part, part], model.logit_scale
            )
    return loss
