"""The head of a run, as everything that scores uses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import HeadConfig
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.gallery_head import GalleryHead
from edgeproof_deploy.runtime.head import HEAD_FILE, LABELS_FILE, Head, parse_head
from edgeproof_train.cascade_run import on_images
from edgeproof_train.heads.fitted import FittedKind
from edgeproof_train.run_data import RunData

TEACHER_FOLDER = "teacher"
"""Where the stage `head` keeps the head that it fitted on the teacher's own embeddings."""


@dataclass(frozen=True)
class Heads:
    """The fitted heads of a run; both None where its head is not fitted.

    Attributes:
        student: that is shipped.
        teacher: of the same kind, fitted on the teacher's embeddings of the same images, so that the two
            models are compared each with its own; None where the shipped one serves both.
    """

    student: Head | None = None
    teacher: Head | None = None

    def on(self, data: RunData, images: ImageSet) -> Heads:
        """Return heads that can decide about some images, in their order; see `bound`."""
        return Heads(*bound([self.student, self.teacher], data, images))


def bound(heads: Sequence[Any], data: RunData, images: ImageSet) -> list[Any]:
    """Return heads that can decide about some images, in their order.

    One that asks specialists is given the images. An object that lies in a head's gallery does not find
    itself there. Every other head is as it was.
    """
    without_own = [
        head.without_own(images.paths) if isinstance(head, GalleryHead) else head for head in heads
    ]
    return on_images(without_own, data, images)


def is_fitted(config: HeadConfig) -> bool:
    """Whether a recipe's head is fitted on features, and not made of words alone."""
    return issubclass(component_class("head", config.kind), FittedKind)


def heads_of_run(data: RunData) -> Heads:
    """Return the fitted heads of a run.

    Raises:
        UsageError: the stage `head` has not finished.
        EdgeproofError: a file is damaged.
    """
    if not is_fitted(data.recipe.head):
        return Heads()
    run = data.context.run
    folder = run.stage("head")
    if not (folder / HEAD_FILE).is_file():
        raise UsageError(
            f"the head of this run, {data.recipe.head.kind}, has not been fitted",
            where=run.path,
            fix="edgeproof head RECIPE",
        )
    own = folder / TEACHER_FOLDER
    return Heads(load_head(folder), load_head(own) if (own / HEAD_FILE).is_file() else None)


def head_of_run(data: RunData) -> Any:
    """Return the run's head, whose `logits` turn embeddings (N, D) into class scores (N, K)."""
    fitted = heads_of_run(data).student
    if fitted is not None:
        return fitted
    recipe = data.recipe
    kind: Any = component_class("head", recipe.head.kind)
    return kind.from_bank(recipe.head, data.words(), data.context.metrics("embed")["logit_scale"])


def load_head(folder: Path) -> Head:
    """Read `head.safetensors` and `labels.txt` as the device does.

    Raises:
        EdgeproofError: a file is missing or damaged.
    """
    try:
        return parse_head((folder / HEAD_FILE).read_bytes(), (folder / LABELS_FILE).read_bytes())
    except (BundleError, OSError) as error:
        raise EdgeproofError(
            f"the head cannot be read: {error}", where=folder, fix="run `head` again"
        ) from error
