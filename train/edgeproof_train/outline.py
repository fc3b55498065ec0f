"""The outline of a recipe before anything runs: shapes, needs of the losses, images, memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeproof_configs.registry import build, component_class
from edgeproof_configs.schema import LossConfig, Recipe, TrainConfig
from edgeproof_data.object_loader import check_sampler
from edgeproof_data.sets import SPLITS, DataSource
from edgeproof_train.loss import LossContext, check_needs, nodes_of
from edgeproof_train.student import Student
from edgeproof_train.taps import node_shapes
from edgeproof_train.task import loss_names

OUTLINE_DIM = 512
BYTES_PER_PARAMETER = {"sgd": 12, "adam": 16, "adamw": 16}


@dataclass(frozen=True)
class Outline:
    """What a dry run finds out.

    Attributes:
        item: what the splits are sets of, `image` or `object`.
        images: how many of them each split has; empty where the built-in set is still to be rendered.
        classes: number of classes, 0 if unlabelled.
        parameters: of the student, with its head.
        assumed_dim: width of the embedding taken for it, where the teacher's is only seen once it is loaded.
        curated: whether images are chosen from these before training.
        steps: optimizer steps of the training stage; 0 if the number of images is not known yet.
        memory_bytes: estimate for one training step: weights, gradients, optimizer, EMA, activations.
        losses: kinds, in order.
    """

    student: str
    item: str
    images: dict[str, int]
    classes: int
    parameters: int
    assumed_dim: int | None
    curated: bool
    steps: int
    memory_bytes: int
    losses: tuple[str, ...]

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield what to print: a name and words."""
        counts = ", ".join(f"{count} {split}" for split, count in self.images.items())
        chosen = ", of which the run chooses by words" if self.curated else ""
        yield f"{self.item}s", counts + chosen if counts else "rendered when the run starts"
        yield "classes", str(self.classes) if self.classes else f"none: the {self.item}s are unlabelled"
        width = "" if self.assumed_dim is None else f" with an embedding of {self.assumed_dim}"
        yield "student", f"{self.student}, {self.parameters / 1e6:.2f} M parameters{width}"
        yield "losses", ", ".join(self.losses)
        steps = f"at most {self.steps}" if self.curated else str(self.steps)
        yield "steps", steps if self.steps else f"known once the {self.item}s are"
        yield (
            "memory",
            f"about {self.memory_bytes / 1e6:.0f} MB for a training step, beside the framework itself",
        )


def outline(recipe: Recipe) -> Outline:
    """Build a recipe's shapes with random weights and check that its losses can be met; read no image.

    Raises:
        UsageError: the student cannot be built, a need of a loss is not met, or the sampler asks for more
            than the objects have.
        DataError: images or label files are not where the recipe says.
    """
    source: DataSource = build("data", recipe.data)
    source.prepare()
    check_sampler(source.split("train"), recipe.train.sampler)
    images: dict[str, int] = {split: len(source.split(split)) for split in SPLITS}
    names = source.class_names
    head: Any = component_class("head", recipe.head.kind)
    teacher: Any = component_class("teacher", recipe.teacher.kind)
    dim = len(names) if head.class_scores else OUTLINE_DIM
    student = random_student(recipe, dim, any_width=True)
    tuning = recipe.compress.losses if recipe.compress else None
    tuned = {f"compress.losses: {name}": need for name, need in needs_by_name(tuning or ()).items()}
    needs = needs_by_name(recipe.losses) | tuned
    side = recipe.student.image_size
    context = LossContext(
        dim,
        None if teacher.absent else dim,
        len(names),
        None if head.class_scores else lambda spec: torch.zeros(1, dim),
        class_scores=head.class_scores,
        student_features=node_shapes(
            student.module(), nodes_of(needs, "student"), torch.zeros(1, 3, side, side)
        ),
        # The teacher is not built for an outline: what it has inside is looked for when the run starts.
        teacher_features=dict.fromkeys(nodes_of(needs, "teacher"), ()),
        student_tokens=student.token_shape,
        teacher_tokens=(1, dim),
    )
    check_needs(needs, context)
    others = {"gallery": source.gallery(), "photos": source.photos()}
    images |= {part: len(found) for part, found in others.items() if found is not None}
    parameters = sum(parameter.numel() for parameter in student.parameters())
    return Outline(
        student=f"{getattr(recipe.student, 'model', recipe.student.kind)} at {recipe.student.image_size} px",
        item=source.item,
        images=images,
        classes=len(names),
        parameters=parameters,
        assumed_dim=None if head.class_scores else dim,
        curated=recipe.curate is not None,
        steps=steps_of(recipe.train, images),
        memory_bytes=training_bytes(student, recipe, parameters),
        losses=tuple(loss.kind for loss in recipe.losses),
    )


def steps_of(train: TrainConfig, images: Mapping[str, int]) -> int:
    """Return the optimizer steps of a training in one process, those on photos with them."""
    batch = train.batch_size if train.sampler is None else train.sampler.shown(train.batch_size)
    steps = max(images["train"] // batch, 1)
    if train.sampler is not None and "photos" in images:
        steps *= 1 + (train.sampler.photo_steps or 1)
    return steps * train.epochs // train.accumulate


def needs_by_name(losses: Sequence[LossConfig]) -> dict[str, tuple[str, ...]]:
    """Return what each loss needs."""
    needs: dict[str, tuple[str, ...]] = {}
    for name, loss in zip(loss_names(losses) if losses else (), losses, strict=True):
        component: Any = component_class("loss", loss.kind)
        needs[name] = component.needs_of(loss)
    return needs


def random_student(recipe: Recipe, dim: int = OUTLINE_DIM, *, any_width: bool = False) -> Student:
    """Return the recipe's student without its start weights, where only shapes are wanted.

    Args:
        recipe: says which.
        dim: width of the embedding.
        any_width: the width is made up: give a student without a head one that makes it.
    """
    config: Any = recipe.student
    without = {"weights": None, "mean": None, "std": None, "head_init": "random"}
    changes = without if hasattr(config, "weights") else {}
    if any_width and getattr(config, "head", None) == "none":
        changes |= {"head": "linear"}
    return build("student", config.model_copy(update=changes), dim)


def training_bytes(student: Student, recipe: Recipe, parameters: int) -> int:
    """Estimate the memory of a training step.

    Weights, gradients and optimizer state by parameter, EMA where it is on, and what the modules of one
    forward pass give out, times the batch's images, or views: autograd keeps those.
    """
    per_parameter = BYTES_PER_PARAMETER[recipe.train.optimizer] + (4 if recipe.train.ema else 0)
    kept = 0

    def count(module: nn.Module, given: Any, made: Any) -> None:
        nonlocal kept
        if isinstance(made, Tensor):
            kept += made.numel() * 4

    hooks = [m.register_forward_hook(count) for m in student.modules() if not list(m.children())]
    side = recipe.student.image_size
    with torch.no_grad():
        student.eval()(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    half = 0.5 if recipe.train.precision != "fp32" else 1.0
    sampler = recipe.train.sampler
    seen = recipe.train.batch_size * (sampler.views if sampler else 1)
    return int(parameters * per_parameter + kept * half * seen)
