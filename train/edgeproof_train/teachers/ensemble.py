"""Several teachers as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, SerializeAsAny, model_validator
from torch import Tensor, nn

from edgeproof_configs import schema
from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import digest_of
from edgeproof_configs.registry import build, component_class, register
from edgeproof_data.sets import ImageSet
from edgeproof_train.embed_reader import read_batches
from edgeproof_train.supervision import renormalise
from edgeproof_train.teacher import Teacher, TeacherPlaces

NO_MEMBERS = ("none", "contrastive", "ensemble")
READ_AT_ONCE = 32


@register("teacher")
class EnsembleTeacher(Teacher):
    """Its embedding is that of all members side by side, each of unit length times the root of its weight.

    The cosine of two such embeddings is the weighted mean of the members' cosines. The student lives in the
    `first` member's space, with whose text tower its head is made, and `multi_teacher` maps it to the others
    (arXiv 2312.06709); or in the space of `all`, where it gives all parts itself and any loss on embeddings
    serves. In the space of class scores the members' *probabilities* are averaged, and their logarithm is
    handed out (arXiv 2311.17049).

    Live members look at one picture, prepared for the one with the most pixels and resized for the others.
    Where some members have only stored embeddings, the others look at the plain photos, each in its own way.
    """

    class Config(schema.TeacherConfig):
        """Who, with what weight, and where the student lives.

        Attributes:
            members: teachers of any kinds, without `view`, `stored_views` and `top_k`, which are set here.
            weights: of the members, with a sum of 1; equal unless told.
            space: whose text tower speaks for the student: the first member's, or all of them.
        """

        kind: Literal["ensemble"] = "ensemble"
        members: Annotated[
            tuple[SerializeAsAny[schema.TeacherConfig], ...],
            schema.Components("teacher"),
            Field(min_length=2),
        ]
        weights: tuple[schema.PositiveFloat, ...] | None = None
        space: Literal["first", "all"] = "first"

        @model_validator(mode="after")
        def _members_are_plain(self) -> EnsembleTeacher.Config:
            for number, member in enumerate(self.members):
                if member.kind in NO_MEMBERS:
                    raise ValueError(
                        f"members.{number}: a teacher of kind '{member.kind}' cannot be a member"
                    )
                if getattr(member, "pca", None):
                    raise ValueError(f"members.{number}.pca: a member cannot be fitted: use projection")
                base = schema.TeacherConfig(kind=member.kind)
                moved = [key for key in type(base).model_fields if getattr(member, key) != getattr(base, key)]
                if moved:
                    raise ValueError(f"members.{number}.{moved[0]}: set teacher.{moved[0]}, for all members")
            return self

        @model_validator(mode="after")
        def _weights_fit(self) -> EnsembleTeacher.Config:
            schema.check_shares(self.weights, len(self.members))
            return self

        @property
        def shares(self) -> tuple[float, ...]:
            """The weight of each member."""
            return self.weights or (1 / len(self.members),) * len(self.members)

    def __init__(self, config: Config, places: TeacherPlaces):
        super().__init__(config, places)
        self.members: tuple[Teacher, ...] = tuple(build("teacher", each, places) for each in config.members)
        self.weights = config.shares
        self.parts = tuple(member.embedding_dim for member in self.members)
        self.part_weights = self.weights
        self.embedding_dim = sum(self.parts)
        self.live = all(member.live for member in self.members)
        if self.live:
            known = [member.preprocess for member in self.members if member.preprocess is not None]
            self.preprocess = max(known, key=lambda preprocess: preprocess.image_size)
        first = config.space == "first"
        self.has_text = self.members[0].has_text if first else all(m.has_text for m in self.members)
        scales = [member.logit_scale for member in self.members]
        self.logit_scale = scales[0] if first else float(np.dot(self.weights, scales))

    @classmethod
    def is_live(cls, config: Config) -> bool:
        """Return whether all members can look at images."""
        classes: list[type[Teacher]] = [component_class("teacher", one.kind) for one in config.members]
        return all(one.is_live(member) for one, member in zip(classes, config.members, strict=True))

    @classmethod
    def can_ship_text(cls, config: Config) -> bool:
        """Return whether the member in whose space the student lives may have a text tower to ship."""
        first = config.members[0]
        component: type[Teacher] = component_class("teacher", first.kind)
        return config.space == "first" and component.can_ship_text(first)

    @property
    def lead(self) -> Teacher:
        """The first member, unless the student lives in the space of all or in that of class scores."""
        return self.members[0] if self.config.space == "first" and not self.class_scores else self

    def give_class_scores(self, classes: Sequence[str]) -> None:
        """Hand out the logarithm of the members' mean probabilities from now on.

        Raises:
            UsageError: a member has no classifier, or one for other classes.
        """
        for member in self.members:
            member.give_class_scores(classes)
        self.num_classes, self.parts, self.part_weights = len(classes), (), ()
        super().give_class_scores(classes)

    def classifier(self) -> nn.Linear | None:
        """Return the first member's classifier, where the student lives in its space."""
        return None if self.lead is self else self.lead.classifier()

    def stored_reader(self, images: ImageSet) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function that reads the stored embeddings of some images, and computes the live ones.

        Raises:
            DataError: some images have no stored embedding, or cannot be read.
        """
        readers = [
            live_reader(member, images) if member.live else member.stored_reader(images)
            for member in self.members
        ]

        def read(indices: np.ndarray) -> np.ndarray:
            return self._joined([torch.from_numpy(reader(indices)) for reader in readers]).numpy()

        return read

    def per_view(self) -> Teacher:
        """Return this teacher.

        Raises:
            UsageError: a member was trained to pool views itself, which the others do not.
        """
        for number, member in enumerate(self.members):
            if member.per_view() is not member:
                raise UsageError(
                    f"teacher.members.{number} pools the views of an object in its own way",
                    where="teacher.members",
                    fix="let it be the teacher alone, or name members that look at single images",
                )
        return self

    def _identity(self) -> dict[str, Any]:
        members = {str(number): identity_of(member) for number, member in enumerate(self.members)}
        lead = {} if self.lead is self else {"lead_dim": self.parts[0]}
        own = {"weights": list(self.weights), **lead, "members": members}
        return {**own, "weights_sha256": digest_of(members)}

    def _joined(self, embeddings: Sequence[Tensor]) -> Tensor:
        """Return (B, sum of the members' widths) of the members' embeddings, of any length."""
        units = [nn.functional.normalize(part.float(), dim=-1, eps=1e-12) for part in embeddings]
        scaled = [math.sqrt(weight) * unit for weight, unit in zip(self.weights, units, strict=True)]
        return torch.cat([part.to(self.device) for part in scaled], dim=-1)

    def _views(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return the images as each member wants them."""
        seen = self.preprocess
        assert seen is not None
        wanted = [member.preprocess or seen for member in self.members]
        return [image_BCHW if one == seen else renormalise(image_BCHW.float(), seen, one) for one in wanted]

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        views = self._views(image_BCHW)
        return self._joined([one.encode_image(view) for one, view in zip(self.members, views, strict=True)])

    def _encode_logits(self, image_BCHW: Tensor) -> Tensor:
        logs = [
            member.encode_logits(view).log_softmax(dim=1) + math.log(weight)
            for member, view, weight in zip(self.members, self._views(image_BCHW), self.weights, strict=True)
        ]
        return torch.stack(logs).logsumexp(dim=0)

    def _encode_text(self, texts: list[str]) -> Tensor:
        if self.lead is not self:
            return self.lead.encode_text(texts)
        return self._joined([member.encode_text(texts) for member in self.members])


def live_reader(teacher: Teacher, images: ImageSet) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that computes the embeddings (n, D), float32, of the images at some positions."""
    preprocess = teacher.preprocess
    assert preprocess is not None

    def read(indices: np.ndarray) -> np.ndarray:
        batches = read_batches(images, indices, preprocess, READ_AT_ONCE, workers=0)
        return np.concatenate([teacher.encode_image(batch.image).cpu().numpy() for batch in batches])

    return read


def identity_of(member: Teacher) -> dict[str, Any]:
    """Return what a member is, and how it prepares its images, of which a cache knows only the ensemble's."""
    seen = {} if member.preprocess is None else {"preprocess": member.preprocess.to_dict()}
    return {**member.identity(), **seen}
