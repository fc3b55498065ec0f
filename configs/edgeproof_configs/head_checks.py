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
    if config.half and is_matrix(config):
        yield ("head", "half"), f"is for the keys of a cache, and {config.kind} keeps none: leave it out"
    if config.fit_on == "teacher":
        yield from on_teacher(recipe, config)


def templates_have_an_effect(recipe: Recipe) -> Iterator[Finding]:
    """Templates make sentences of labels: stored rows and labels with sentences of their own need none."""
    head: Any = recipe.head
    if getattr(head, "templates", "plain") == "plain":
        return
    if head.text_embeddings is not None:
        yield ("head", "templates"), "has no effect beside text_embeddings: remove one of them"
    elif head.labels is not None and head.labels.lower().endswith(".csv"):
        yield ("head", "templates"), "has no effect beside labels in csv, which have their own prompts"


def is_matrix(config: Any) -> bool:
    """Whether a head is a row of numbers for each label, whatever it is fitted on, or several such heads."""
    members = getattr(config, "members", None)
    if members:
        return all(is_matrix(member) for member in members)
    return bool(getattr(component_class("head", config.kind), "is_matrix", False))


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
