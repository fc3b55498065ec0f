"""What every part of a recipe is built on, and the bases of the components' configs.

The configs of components stand beside the components and subclass these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """Base of every part of a recipe: frozen, and a key that is not declared is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())


@dataclass(frozen=True)
class Components:
    """Marks a list in a component's config that holds components too, or one, told apart by its own `kind`.

    `members: Annotated[tuple[SerializeAsAny[TeacherConfig], ...], Components("teacher")]`. What the config
    itself checks may look at those settings of an entry that its base class has.
    """

    group: str


@dataclass(frozen=True)
class Parts:
    """Marks a list in a component's config whose entries are of one shape and hold components themselves."""


Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


def check_shares(weights: Sequence[float] | None, members: int) -> None:
    """Refuse weights of members that are not one for each, with a sum of 1; None leaves them open.

    Raises:
        ValueError: there are more or fewer, or their sum is another.
    """
    if weights is None:
        return
    if len(weights) != members:
        raise ValueError(f"{len(weights)} weights for {members} members")
    if not math.isclose(sum(weights), 1, abs_tol=1e-6):
        raise ValueError(f"weights must have a sum of 1, got {sum(weights):g}")


class DataConfig(Config):
    """Base of the data kinds: where images and labels come from."""

    kind: str


class TeacherConfig(Config):
    """Base of the teacher kinds. `view` says for which view of a photo a stored output is used.

    `stored_views` makes that many random views of each training photo once, stores the teacher's output for
    each, and shows the student one of them an epoch, in turn (arXiv 2303.08983).

    `top_k` stores only so many of the largest class probabilities of each training image, in place of all
    class scores, and spreads the rest of the probability evenly over the other classes (arXiv 2207.10666).

    Of objects with several views the student's target is pooled over views by `view_pooling`, each view's
    embedding as a unit vector: over `all` views that an object has, or over those `seen` by the student in
    that step.
    """

    kind: str
    view: Literal["exact", "assume_invariant"] = "exact"
    stored_views: PositiveInt | None = None
    top_k: PositiveInt | None = None
    view_pooling: Literal["mean", "max"] = "mean"
    views: Literal["all", "seen"] = "all"


class LossConfig(Config):
    """Base of the loss kinds: one weighted term, whose weight rises linearly over `warmup_epochs`."""

    kind: str
    weight: Annotated[float, Field(ge=0)] = 1.0
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0


class HeadConfig(Config):
    """Base of the head kinds: a classifier on frozen embeddings."""

    kind: str


class StudentConfig(Config):
    """Base of the student kinds. `image_size` is the side of the square input in pixels."""

    kind: str = "timm"
    image_size: Annotated[int, Field(ge=16, le=1024)]
