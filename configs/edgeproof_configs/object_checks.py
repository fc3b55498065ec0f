"""Settings about objects with several views that would have no effect, or that cannot be met."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import Recipe
from edgeproof_configs.wording import Finding


def objects(recipe: Recipe) -> Iterator[Finding]:
    """What is said about views is said of objects, and objects have all that they need."""
    data: Any = component_class("data", recipe.data.kind)
    if getattr(data, "of_objects", False):
        yield from of_objects(recipe)
        yield from targets_of_objects(recipe)
        yield from specialists_on_objects(recipe)
        return
    said = f"data of kind '{recipe.data.kind}' have single images, no objects with views: remove it"
    if recipe.train.sampler is not None:
        yield ("train", "sampler"), said
    if recipe.deploy.views is not None:
        yield ("deploy", "views"), said
    if recipe.gates.map_drop is not None:
        yield ("gates", "map_drop"), said
    for key, plain in (("view_pooling", "mean"), ("views", "all")):
        if getattr(recipe.teacher, key) != plain:
            yield ("teacher", key), said


def of_objects(recipe: Recipe) -> Iterator[Finding]:
    """The student takes views, a step has some, and photos teach it something."""
    student: Any = component_class("student", recipe.student.kind)
    if getattr(student, "input_name", "image") != "views":
        yield (
            ("student", "kind"),
            f"'{recipe.student.kind}' sees one image at a time, and the data are objects with several views:"
            " set student.kind: multi_view",
        )
    sampler, photos = recipe.train.sampler, getattr(recipe.data, "photos", None)
    if sampler is None:
        yield ("train",), "how many views of an object does a step show? Set train.sampler: {views: 4}"
    elif sampler.photo_steps is not None and photos is None:
        yield ("train", "sampler", "photo_steps"), "has no effect without data.photos"
    if sampler is not None and sampler.balanced and getattr(recipe.data, "labels", None) == "none":
        yield ("train", "sampler", "classes"), "classes need labels, and data.labels is 'none'"
    losses = [*recipe.losses, *((recipe.compress.losses if recipe.compress else None) or ())]
    if getattr(recipe.student, "tokens", False) and not any("student.tokens" in needs(one) for one in losses):
        yield ("student", "tokens"), "has no effect: no loss looks at the student's tokens; remove it"
    if recipe.train.mix is not None:
        yield ("train", "mix"), "mixes single images, and the data are objects with several views: remove it"
    if photos is not None and not any(asks_teacher(loss) for loss in recipe.losses):
        yield ("data", "photos"), "have no labels, and no loss looks at a teacher: they would teach nothing"


def targets_of_objects(recipe: Recipe) -> Iterator[Finding]:
    """A target pooled over views can be had."""
    teacher, kind = recipe.teacher, component_class("teacher", recipe.teacher.kind)
    if getattr(kind, "absent", False):
        return
    for key in ("stored_views", "top_k"):
        if getattr(teacher, key) is not None:
            yield ("teacher", key), "is not for objects: each view's embedding is stored anyway; remove it"
    tokens = any("teacher.tokens" in needs(loss) for loss in recipe.losses)
    looks = tokens or (recipe.train.augment.active and teacher.view == "exact")
    if looks and teacher.views == "all":
        reason = "a loss wants its tokens" if tokens else "train.augment makes new ones each time"
        yield (
            ("teacher", "views"),
            f"the teacher looks at the views itself ({reason}), so only at those of the step: say 'seen'"
            + ("" if tokens else ", or teacher.view: assume_invariant"),
        )


def specialists_on_objects(recipe: Recipe) -> Iterator[Finding]:
    """A cascade asks no specialist about views: each looks at one image, and nothing pools what it says."""
    for index, step in enumerate(getattr(recipe.head, "steps", ())):
        if getattr(step, "specialist", None) is not None:
            yield (
                ("head", "steps", index, "specialist"),
                "a specialist looks at single images, and the data are objects with several views: make the"
                " step one with a head, which reads the embedding of all views",
            )


def baseline(recipe: Recipe) -> Iterator[Finding]:
    """The losses of normal training look at no teacher, and something is learnt."""
    found = recipe.baseline
    if found is None or found.losses is None:
        return
    for index, loss in enumerate(found.losses):
        place = ("baseline", "losses", index)
        if asks_teacher(loss):
            yield place, f"{loss.kind} looks at the teacher, and the baseline is training without one"
        if loss.warmup_epochs >= found.epochs:
            yield (*place, "warmup_epochs"), f"must be below baseline.epochs ({found.epochs})"
    if all(loss.weight == 0 for loss in found.losses):
        yield ("baseline", "losses"), "every loss has weight 0: nothing would be learnt"


def needs(loss: Any) -> tuple[str, ...]:
    """Return what a loss needs."""
    component: Any = component_class("loss", loss.kind)
    return component.needs_of(loss)


def asks_teacher(loss: Any) -> bool:
    """Return whether a loss looks at the teacher."""
    return any(need.startswith("teacher.") for need in needs(loss))
