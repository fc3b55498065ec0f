"""What the stages of a run share: its images, its teacher, its text embeddings, and where they lie."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from torch import Tensor, from_numpy

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import digest_of, write_text
from edgeproof_configs.registry import build, component_class
from edgeproof_configs.schema import LossConfig, Recipe
from edgeproof_configs.stage import StageContext
from edgeproof_data.cache import EmbeddingCache
from edgeproof_data.check import usable
from edgeproof_data.sets import DataSource, ImageSet, SplitName
from edgeproof_train.loss import nodes_of
from edgeproof_train.teacher import Supply, Teacher, TeacherPlaces, supply
from edgeproof_train.text import TextBank, TextSpec

HEAD_WORDS = "text_head"


@dataclass(frozen=True)
class RunData:
    """The data side of a run, read lazily."""

    context: StageContext

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return self.context.recipe

    @cached_property
    def source(self) -> DataSource:
        """The recipe's data, made ready."""
        source: DataSource = build("data", self.recipe.data)
        source.prepare()
        return source

    @property
    def class_scores(self) -> bool:
        """Whether student and teacher meet in the space of class scores."""
        head: Any = component_class("head", self.recipe.head.kind)
        return head.class_scores

    @property
    def scored_by_words(self) -> bool:
        """Whether embeddings can be scored before a head is fitted: by words, or as class scores."""
        return self.class_scores or self.words().matrix is not None

    @property
    def has_teacher(self) -> bool:
        """Whether there is a teacher to learn from; without one the student learns from labels."""
        component: Any = component_class("teacher", self.recipe.teacher.kind)
        return not component.absent

    @cached_property
    def teacher(self) -> Teacher:
        """The recipe's teacher, frozen, on the run's device."""
        places = TeacherPlaces(self.source.root, self.context.run.stage("teacher"), self.context.device)
        teacher: Teacher = build("teacher", self.recipe.teacher, places)
        if self.class_scores:
            teacher.give_class_scores(self.source.class_names)
        return teacher

    @property
    def supply(self) -> Supply:
        """Where training gets the teacher's outputs from."""
        train, teacher = self.recipe.train, self.teacher
        changing = train.augment.active or train.mix is not None
        config = self.recipe.teacher
        maps = bool(self.nodes("teacher"))
        return supply(config.view, changing, teacher.live, maps=maps, stored_views=bool(config.stored_views))

    def nodes(self, side: Literal["student", "teacher"]) -> tuple[str, ...]:
        """Return the nodes of the student's or the teacher's network that the recipe's losses name."""
        needs: dict[str, Any] = {}
        for index, config in enumerate(self.recipe.losses):
            component: Any = component_class("loss", config.kind)
            needs[str(index)] = component.needs_of(config)
        return nodes_of(needs, side)

    def under(self, losses: Sequence[LossConfig]) -> RunData:
        """Return the same data for a training with other losses; what has been read is not read again."""
        recipe = self.recipe.model_copy(update={"losses": list(losses)})
        other = RunData(replace(self.context, recipe=recipe))
        other.__dict__.update(
            {key: self.__dict__[key] for key in ("source", "teacher") if key in self.__dict__}
        )
        return other

    def for_tuning(self) -> RunData:
        """Return the same data for fine-tuning what is compressed: under `compress.losses`, if given.

        The recipe's own losses go on at their full weight: they have warmed up.
        """
        compress = self.recipe.compress
        if compress is not None and compress.losses is not None:
            return self.under(compress.losses)
        return self.under([loss.model_copy(update={"warmup_epochs": 0.0}) for loss in self.recipe.losses])

    @property
    def has_own_words(self) -> bool:
        """Whether a loss brings words of its own, beside the head's."""
        return any(getattr(loss, "text_spec", lambda: None)() is not None for loss in self.recipe.losses)

    def checked_split(self, name: SplitName) -> tuple[ImageSet, list[tuple[str, str]]]:
        """Decode every image of a split; return the readable ones, and (path, reason) of the others.

        Raises:
            DataError: none can be read.
        """
        images, corrupt = usable(self.source.split(name))
        if not len(images):
            raise DataError(f"the {name} part has no image that can be read", where=self.source.root)
        return images, [(path, reason) for path, reason in corrupt]

    def split(self, name: SplitName) -> ImageSet:
        """Return a split without the images that the embed stage found unreadable."""
        images = self.source.split(name)
        bad = {row["path"] for row in self.corrupt() if row["split"] == name}
        if not bad:
            return images
        return images.subset(
            np.array([i for i, path in enumerate(images.paths) if path not in bad], np.int64)
        )

    def corrupt(self) -> list[dict[str, str]]:
        """Return the unreadable images as rows of `split`, `path`, `reason`."""
        with (self.context.run.stage("embed") / "corrupt.csv").open(encoding="utf-8", newline="") as handle:
            return list(csv.DictReader(handle))

    def write_corrupt(self, rows: list[tuple[str, str, str]]) -> None:
        """List the unreadable images: (split, path, reason)."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("split", "path", "reason"), *rows])
        write_text(self.context.run.stage("embed") / "corrupt.csv", text.getvalue())

    def cache(self, name: SplitName) -> EmbeddingCache:
        """Return the teacher's embeddings of a split."""
        return EmbeddingCache.open(self.context.run.stage("embed") / name)

    def view_caches(self) -> list[EmbeddingCache]:
        """Return the teacher's embeddings of each stored view of the training images."""
        count = self.recipe.teacher.stored_views or 0
        return [EmbeddingCache.open(self.context.run.stage("embed") / view_name(n)) for n in range(count)]

    def teacher_rows(self, name: SplitName, images: ImageSet) -> np.ndarray:
        """Return the teacher's embeddings (N, D), float32, not normalised, in the order of the images.

        Of several teachers it is the part of the one in whose space the student lives.

        Raises:
            ValueError: there is no teacher.
        """
        if not self.has_teacher:
            raise ValueError("there is no teacher")
        cache = self.cache(name)
        return cache.rows(cache.find(images), raw=True)[:, : cache.key.teacher.get("lead_dim")]

    def words(self, spec: TextSpec | None = None) -> TextBank:
        """Return the text embeddings of a loss's own words, or of the head's.

        In the space of class scores the head's words are the classes, and have none.
        """
        if spec is None and self.class_scores:
            return TextBank(self.source.class_names, None)
        return TextBank.load(self.context.run.stage("embed") / bank_name(spec))

    def text_rows(self, spec: TextSpec | None = None) -> Tensor:
        """Return the unit rows (K, D) of a loss's own words, or of the head's.

        Raises:
            UsageError: there are none.
        """
        matrix = self.words(spec).matrix
        if matrix is None:
            raise UsageError(
                "the labels of the head have no text embeddings, and a loss asks for them",
                where="losses",
                fix="give the loss words of its own (labels, text_embeddings), the head text_embeddings, or"
                " remove the loss",
            )
        return from_numpy(matrix)

    def word_of_class(self) -> np.ndarray:
        """Return for each class of the data its row in the head's words, int64, -1 where it has none."""
        return self.words().rows_of(self.source.class_names)

    def word_labels(self, images: ImageSet) -> np.ndarray:
        """Return for each image the row of its class in the head's words, int64, -1 where there is none."""
        rows = np.append(self.word_of_class(), -1)
        return rows[images.labels]


def view_name(number: int) -> str:
    """Return the folder name of a stored view's embeddings in the embed stage."""
    return f"train_view_{number:03d}"


def bank_name(spec: TextSpec | None) -> str:
    """Return the file name, without its ending, of the text embeddings of some words in the embed stage."""
    return HEAD_WORDS if spec is None else f"text_{digest_of(spec.model_dump())[:12]}"
