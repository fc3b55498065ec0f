"""Settings that would have no effect, or that cannot be met, though each is well-formed by itself.

A check takes the validated recipe and yields what is wrong; it looks at several parts of the recipe at once,
which no single part can do. A new check is one function, listed in `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import DeployConfig, Recipe
from edgeproof_configs.wording import Finding


def stored_views(recipe: Recipe) -> Iterator[Finding]:
    """`teacher.view` fits what the student will see."""
    augmented = recipe.train.augment.active
    live = getattr(component_class("teacher", recipe.teacher.kind), "live", True)
    if recipe.teacher.view == "exact" and not live and augmented:
        yield (
            ("teacher", "view"),
            "stored embeddings were computed on the plain photos, but train.augment changes what the student "
            "sees: say 'assume_invariant', or remove train.augment",
        )
    if recipe.teacher.view == "assume_invariant" and not augmented:
        yield ("teacher", "view"), "'assume_invariant' has no effect without train.augment: say 'exact'"


def needs_of_labels(recipe: Recipe) -> Iterator[Finding]:
    """Labels are there where something learns from them."""
    if getattr(recipe.data, "labels", None) != "none":
        return
    if recipe.baseline:
        yield ("baseline",), "normal training needs labels, and data.labels is 'none'"
    if recipe.train.select in ("top1", "mean_per_class"):
        yield ("train", "select"), f"'{recipe.train.select}' needs labels, and data.labels is 'none'"
    for index, loss in enumerate(recipe.losses):
        if "batch.label" in getattr(component_class("loss", loss.kind), "needs", ()):
            yield ("losses", index), f"{loss.kind} needs labels, and data.labels is 'none'"


def weights_of_losses(recipe: Recipe) -> Iterator[Finding]:
    """Something is learnt."""
    if all(loss.weight == 0 for loss in recipe.losses):
        yield ("losses",), "every loss has weight 0: nothing would be learnt"


def measured_latency(recipe: Recipe) -> Iterator[Finding]:
    """The latency gate names something that is built and measured."""
    gate = recipe.gates.latency_p90_ms
    if gate is None:
        return
    place = ("gates", "latency_p90_ms")
    if gate.engine not in recipe.deploy.engines:
        built = ", ".join(recipe.deploy.engines)
        yield (*place, "engine"), f"'{gate.engine}' is not among deploy.engines ({built})"
    if gate.batch not in recipe.deploy.batch:
        measured = ", ".join(map(str, recipe.deploy.batch))
        yield (*place, "batch"), f"batch {gate.batch} is not among deploy.batch ({measured})"


def deployed_once(recipe: Recipe) -> Iterator[Finding]:
    """Nothing is built twice, and no engine's setting is given without the engine."""
    for key in ("engines", "precisions", "batch"):
        values = getattr(recipe.deploy, key)
        if len(set(values)) != len(values):
            yield ("deploy", key), "an entry stands there twice"
    default = DeployConfig.model_fields["compute_capability"].default
    rtx = "tensorrt_rtx" in recipe.deploy.engines
    if recipe.deploy.compute_capability != default and not rtx:
        yield ("deploy", "compute_capability"), "has no effect without 'tensorrt_rtx' in deploy.engines"


CHECKS: tuple[Callable[[Recipe], Iterator[Finding]], ...] = (
    stored_views,
    needs_of_labels,
    weights_of_losses,
    measured_latency,
    deployed_once,
)


def check(recipe: Recipe) -> list[Finding]:
    """Return what every check finds."""
    return [finding for run in CHECKS for finding in run(recipe)]
