"""Settings of a fitted head that would have no effect, or that nothing can meet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import Recipe
from edgeproof_configs.wording import Finding


def fitted_head(recipe: Recipe) -> Iterator[Finding]:
    """What a head is fitted on is there, and each of its settings does something."""
    kind: Any = component_class("head", recipe.head.kind)
    if not hasattr(kind, "asked"):
        return
    config: Any = recipe.head
    asked = kind.asked(config)
    parts, used = asked.needs, asked.parts
    if not config.use_text and "text" in parts:
        yield ("head", "use_text"), f"{config.kind} knows classes by their words: it cannot do without"
    if not config.use_text and "text" not in used:
        yield ("head", "use_text"), f"has no effect: {config.kind} looks at no words"
    if "shots" in parts and getattr(recipe.data, "labels", None) == "none":
        yield ("head",), f"{config.kind} needs labelled images, and data.labels is 'none'"
    yield from drawn(config, used, parts)
    if config.fit_on == "teacher":
        yield from on_teacher(recipe, config)


def drawn(config: Any, used: frozenset[str], needed: frozenset[str]) -> Iterator[Finding]:
    """Shots and validation images are drawn where they are asked for."""
    if "shots" not in used and config.shots is not None:
        yield ("head", "shots"), f"has no effect: {config.kind} learns from no labelled images"
    if config.views > 1 and not ("shots" in needed or ("shots" in used and config.shots is not None)):
        yield ("head", "views"), "has no effect without shots"
    if "val" not in used and config.val_shots is not None:
        yield ("head", "val_shots"), f"has no effect: {config.kind} chooses nothing on val"


def on_teacher(recipe: Recipe, config: Any) -> Iterator[Finding]:
    """The teacher is there, and can look at the views that are asked for."""
    teacher: Any = component_class("teacher", recipe.teacher.kind)
    if getattr(teacher, "absent", False):
        yield ("head", "fit_on"), "'teacher' needs a teacher, and teacher.kind is 'none'"
    elif config.views > 1 and not teacher.is_live(recipe.teacher):
        yield (
            ("head", "views"),
            "the teacher has stored embeddings of the plain photos only: set it to 1, or fit_on: student",
        )
