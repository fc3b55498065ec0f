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
from edgeproof_data.curated import TABLE, Curated
from edgeproof_data.objects import ObjectSet
from edgeproof_data.readable import readable, without
from edgeproof_data.sets import SPLITS, DataSource, ImageSet, SplitName
from edgeproof_train.loss import nodes_of
from edgeproof_train.stored_views import StoredViews
from edgeproof_train.supply import Supply, supply
from edgeproof_train.teacher import Teacher, TeacherPlaces
from edgeproof_train.text import TextBank, TextSpec

HEAD_WORDS = "text_head"
PartName = SplitName | Literal["gallery", "photos"]
"""A split; the objects that queries search, if they have a part of their own; photos only to distil."""


@dataclass(frozen=True)
class RunData:
    """The data side of a run, read lazily."""

    context: StageContext

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return self.context.recipe

    @cached_property
    def given(self) -> DataSource:
        """The recipe's data, made ready, before any of them are chosen."""
        source: DataSource = build("data", self.recipe.data)
        source.prepare()
        return source

    @cached_property
    def source(self) -> DataSource:
        """The recipe's data: those that were chosen, where the recipe curates them."""
        if self.recipe.curate is None:
            return self.given
        return Curated(self.given, self.context.run.stage("curate") / TABLE)

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
        places = TeacherPlaces(self.given.root, self.context.run.stage("teacher"), self.context.device)
        teacher: Teacher = build("teacher", self.recipe.teacher, places)
        if self.class_scores:
            teacher.give_class_scores(self.given.class_names)
        return teacher

    @property
    def supply(self) -> Supply:
        """Where training gets the teacher's outputs from."""
        train, teacher = self.recipe.train, self.teacher
        changing = train.augment.active or train.mix is not None
        config = self.recipe.teacher
        maps = bool(self.nodes("teacher")) or self.wants_tokens
        return supply(config.view, changing, teacher.live, maps=maps, stored_views=bool(config.stored_views))

    def nodes(self, side: Literal["student", "teacher"]) -> tuple[str, ...]:
        """Return the nodes of the student's or the teacher's network that the recipe's losses name."""
        return nodes_of(self._needs(), side)

    @property
    def wants_tokens(self) -> bool:
        """Whether a loss looks at the teacher's tokens."""
        return any("teacher.tokens" in needs for needs in self._needs().values())

    def _needs(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for index, config in enumerate(self.recipe.losses):
            component: Any = component_class("loss", config.kind)
            found[str(index)] = component.needs_of(config)
        return found

    def under(self, losses: Sequence[LossConfig]) -> RunData:
        """Return the same data for a training with other losses; what has been read is not read again."""
        recipe = self.recipe.model_copy(update={"losses": list(losses)})
        other = RunData(replace(self.context, recipe=recipe))
        other.__dict__.update(
            {key: self.__dict__[key] for key in ("given", "source", "teacher") if key in self.__dict__}
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

    @property
    def parts(self) -> tuple[PartName, ...]:
        """The parts of the data: the splits, and those others that they have."""
        found: list[PartName] = [*SPLITS]
        if self.source.gallery() is not None:
            found.append("gallery")
        if self.source.photos() is not None:
            found.append("photos")
        return tuple(found)

    def checked_split(self, name: PartName) -> tuple[ImageSet, list[tuple[str, str]]]:
        """Decode every image of a part; return the readable ones, and (path, reason) of the others.

        Of objects every view is read; one that has fewer left than are shown is left out, too.

        Raises:
            DataError: none can be read.
        """
        images, corrupt = readable(self._as_given(name))
        if not len(images):
            raise DataError(f"the {name} part has no image that can be read", where=self.source.root)
        return images, corrupt

    def split(self, name: PartName) -> ImageSet:
        """Return a part without the images, or views of objects, that the embed stage found unreadable.

        Raises:
            ValueError: the data have no such part.
        """
        bad = {row["path"] for row in self.corrupt() if row["split"] == name}
        return without(self._as_given(name), bad)[0]

    def _as_given(self, name: PartName) -> ImageSet:
        if name in ("train", "val", "test"):
            return self.source.split(name)
        found = self.source.gallery() if name == "gallery" else self.source.photos()
        if found is None:
            raise ValueError(f"these data have no {name}")
        return found

    def corrupt(self) -> list[dict[str, str]]:
        """Return the unreadable images as rows of `split`, `path`, `reason`."""
        with (self.context.run.stage("embed") / "corrupt.csv").open(encoding="utf-8", newline="") as handle:
            return list(csv.DictReader(handle))

    def write_corrupt(self, rows: list[tuple[str, str, str]]) -> None:
        """List the unreadable images: (split, path, reason)."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("split", "path", "reason"), *rows])
        write_text(self.context.run.stage("embed") / "corrupt.csv", text.getvalue())

    def cache(self, name: PartName) -> EmbeddingCache:
        """Return the teacher's embeddings of a part; of objects those of each view."""
        return EmbeddingCache.open(self.context.run.stage("embed") / name)

    def view_caches(self) -> list[EmbeddingCache]:
        """Return the teacher's embeddings of each stored view of the training images."""
        count = self.recipe.teacher.stored_views or 0
        return [EmbeddingCache.open(self.context.run.stage("embed") / view_name(n)) for n in range(count)]

    def teacher_rows(self, name: PartName, images: ImageSet) -> np.ndarray:
        """Return the teacher's embeddings (N, D), float32, not normalised, in the order of the images.

        Of several teachers it is the part of the one in whose space the student lives. An object's is pooled
        over all its views.

        Raises:
            ValueError: there is no teacher.
        """
        if not self.has_teacher:
            raise ValueError("there is no teacher")
        cache = self.cache(name)
        lead = slice(cache.key.teacher.get("lead_dim"))
        if isinstance(images, ObjectSet):
            stored = StoredViews.of(cache, images)
            return stored.pooled(self.teacher, np.arange(len(images)))[:, lead]
        return cache.rows(cache.find(images), raw=True)[:, lead]

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
