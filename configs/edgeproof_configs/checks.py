"""Settings that would have no effect, or that cannot be met, though each is well-formed by itself.

A check takes the validated recipe and yields what is wrong; it looks at several parts of the recipe at once,
which no single part can do. A new check is one function, listed in `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from edgeproof_configs.head_checks import fitted_head, templates_have_an_effect
from edgeproof_configs.object_checks import baseline, objects
from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import DeployConfig, LossConfig, Recipe
from edgeproof_configs.wording import Finding


def stored_views(recipe: Recipe) -> Iterator[Finding]:
    """`teacher.view` fits what the student will see."""
    augmented = recipe.train.augment.active
    teacher: Any = component_class("teacher", recipe.teacher.kind)
    live = teacher.is_live(recipe.teacher)
    if getattr(teacher, "absent", False):
        return
    if recipe.teacher.view == "assume_invariant" and (in_class_scores(recipe) or needs_maps(recipe)):
        yield (
            ("teacher", "view"),
            "'assume_invariant' is for pooled embeddings: class scores and feature maps change with the "
            "view; say 'exact', and teacher.stored_views for scores that are to be stored",
        )
        return
    yield from replayed_views(recipe, live)
    if recipe.train.mix is not None and not (live and recipe.teacher.view == "exact"):
        yield (
            ("train", "mix"),
            "no stored output belongs to a mixed image: the teacher has to look at it (a live teacher, "
            "view: exact)",
        )
    if recipe.teacher.view == "exact" and not live and augmented:
        yield (
            ("teacher", "view"),
            "stored embeddings were computed on the plain photos, but train.augment changes what the student "
            "sees: say 'assume_invariant', or remove train.augment",
        )
    if recipe.teacher.view == "assume_invariant" and not augmented:
        yield ("teacher", "view"), "'assume_invariant' has no effect without train.augment: say 'exact'"


def replayed_views(recipe: Recipe, live: bool) -> Iterator[Finding]:
    """Stored random views are made, seen and all that a loss looks at."""
    count, place = recipe.teacher.stored_views, ("teacher", "stored_views")
    if count is None:
        return
    if recipe.teacher.view == "assume_invariant" or not recipe.train.augment.active:
        yield place, "has an effect only with view: exact and train.augment"
    elif not live:
        yield place, "random views need a teacher that can look at them, and this one has stored outputs only"
    elif needs_maps(recipe):
        yield place, "feature maps are not stored: remove it, and the teacher looks at every view itself"
    elif recipe.train.mix is not None:
        yield place, "mixed images are new each time: remove train.mix or this"
    elif count > recipe.train.epochs:
        yield place, f"{count} views, but {recipe.train.epochs} epochs: one view is seen an epoch"


def stored_top_k(recipe: Recipe) -> Iterator[Finding]:
    """Only the largest class probabilities are stored where something is, and where they are enough."""
    place, train = ("teacher", "top_k"), recipe.train
    if recipe.teacher.top_k is None:
        return
    absent = getattr(component_class("teacher", recipe.teacher.kind), "absent", False)
    if absent or not in_class_scores(recipe):
        yield place, "has an effect only on a teacher's class scores: set head: {kind: classifier}"
        return
    if (train.augment.active and not recipe.teacher.stored_views) or train.mix or needs_maps(recipe):
        yield (
            place,
            "has no effect: nothing is stored here, the teacher looks at every view itself. Add"
            " teacher.stored_views, or remove it",
        )
    for index, loss in enumerate(recipe.losses):
        component: Any = component_class("loss", loss.kind)
        wanted = any(need.startswith("teacher.") for need in needs_of(loss))
        reason = component.why_not_top_k(loss) if wanted else ""
        if reason:
            yield ("losses", index), f"{loss.kind} cannot learn from the {place[1]} probabilities: {reason}"


def needs_of_labels(recipe: Recipe) -> Iterator[Finding]:
    """Labels are there where something learns from them."""
    if getattr(recipe.data, "labels", None) != "none":
        return
    if recipe.baseline:
        yield ("baseline",), "normal training needs labels, and data.labels is 'none'"
    if recipe.train.balance == "classes":
        yield ("train", "balance"), "'classes' needs labels, and data.labels is 'none'"
    if recipe.train.select in ("top1", "mean_per_class", "map"):
        yield ("train", "select"), f"'{recipe.train.select}' needs labels, and data.labels is 'none'"
    for index, loss in enumerate(recipe.losses):
        if "batch.label" in needs_of(loss):
            yield (
                ("losses", index),
                f"{loss.kind} needs labels, and data.labels is 'none': remove it, or label the images",
            )


def curation(recipe: Recipe) -> Iterator[Finding]:
    """Images are chosen by words, and as images."""
    if recipe.curate is None:
        return
    data: Any = component_class("data", recipe.data.kind)
    teacher: Any = component_class("teacher", recipe.teacher.kind)
    if getattr(data, "of_objects", False):
        yield ("curate",), "chooses among images, and the data are objects with several views: remove it"
    if in_class_scores(recipe):
        yield (
            ("curate",),
            "chooses by the words of the head, and a classifier has none: set head: {kind: zero_shot}",
        )
    if getattr(teacher, "absent", False):
        yield ("curate",), "the teacher says what fits the words, and teacher.kind is 'none'"
    labelled = getattr(recipe.data, "labels", "folders") != "none"
    if labelled and "train" not in getattr(recipe.data, "unlabelled", ("train",)):
        yield (
            ("curate",),
            "chooses among images without labels: set data.labels: none, or data.unlabelled: [train, val]",
        )


def class_scores(recipe: Recipe) -> Iterator[Finding]:
    """What works on class scores only is asked for where there are some, and the other way round."""
    if in_class_scores(recipe):
        if getattr(recipe.data, "labels", None) == "none":
            yield ("head",), "a classifier scores the classes of the data, and data.labels is 'none'"
        if getattr(recipe.student, "head_init", "random") == "least_squares":
            yield ("student", "head_init"), "'least_squares' fits embeddings, not class scores"
        if getattr(recipe.teacher, "space", "first") != "first":
            yield ("teacher", "space"), "has no effect on class scores, which all members share: remove it"
        if recipe.teacher.kind == "none" and getattr(recipe.teacher, "embedding_dim", None) is not None:
            yield ("teacher", "embedding_dim"), "has no effect on class scores: remove it"
        return
    absent = getattr(component_class("teacher", recipe.teacher.kind), "absent", False)
    if absent and getattr(recipe.teacher, "embedding_dim", None) is None:
        yield (
            ("teacher",),
            "without a teacher only class scores can be learnt (set head: {kind: classifier}), or an"
            " embedding, by triplets for example (set teacher.embedding_dim)",
        )
    for index, loss in enumerate(recipe.losses):
        wanted = [need for need in needs_of(loss) if need.endswith((".logits", "student.second"))]
        if wanted:
            yield (
                ("losses", index),
                f"{loss.kind} works on class scores: set head: {{kind: classifier}}, or use other losses",
            )


def without_teacher(recipe: Recipe) -> Iterator[Finding]:
    """No loss looks at a teacher that is not there."""
    if not getattr(component_class("teacher", recipe.teacher.kind), "absent", False):
        return
    for index, loss in enumerate(recipe.losses):
        if any(need.startswith("teacher.") for need in needs_of(loss)):
            yield ("losses", index), f"{loss.kind} needs a teacher, and teacher.kind is 'none'"
    if recipe.baseline is not None:
        yield ("baseline",), "without a teacher the student itself is trained on labels: remove it"


def dropout_of_second_pass(recipe: Recipe) -> Iterator[Finding]:
    """Two passes over the same images differ only where something is dropped at random."""
    arguments = getattr(recipe.student, "kwargs", {})
    dropped = any(
        value for key, value in arguments.items() if key.endswith("drop_rate") or "drop_path" in key
    )
    for index, loss in enumerate(recipe.losses):
        if "student.second" in needs_of(loss) and not dropped:
            yield (
                ("losses", index),
                f"{loss.kind} compares two equal passes: set student.kwargs: {{drop_rate: 0.2}}",
            )


def head_is_trained(recipe: Recipe) -> Iterator[Finding]:
    """The student's head learns something: losses on maps alone end before it."""
    kinds = {loss.kind for loss in recipe.losses}
    needs = [need for loss in recipe.losses if loss.weight for need in needs_of(loss)]
    reached = {"student.embedding", "student.logits", "student.tokens"}
    if needs and "simkd" not in kinds and not reached & set(needs):
        yield (
            ("losses",),
            f"{', '.join(sorted(kinds))} train the backbone only: add a loss on the student's output",
        )


def mixed_labels(recipe: Recipe) -> Iterator[Finding]:
    """A loss that takes one label an image is not used on mixed images."""
    if recipe.train.mix is None:
        return
    for index, loss in enumerate(recipe.losses):
        if getattr(component_class("loss", loss.kind), "one_label", False):
            yield (
                ("losses", index),
                f"{loss.kind} needs one label an image, and train.mix mixes two: remove one of them",
            )


def eased_in(recipe: Recipe) -> Iterator[Finding]:
    """No term is still warming up when training ends; nothing is gathered that no loss compares."""
    for index, loss in enumerate(recipe.losses):
        if loss.warmup_epochs >= recipe.train.epochs:
            yield (
                ("losses", index, "warmup_epochs"),
                f"must be below train.epochs ({recipe.train.epochs}), got {loss.warmup_epochs}",
            )
    compares = any(
        getattr(component_class("loss", loss.kind), "depends_on_batch", False) for loss in recipe.losses
    )
    if recipe.train.gather and not compares:
        yield ("train", "gather"), "has no effect: no loss compares the images of a batch with each other"


def in_class_scores(recipe: Recipe) -> bool:
    """Return whether student and teacher meet in the space of class scores."""
    return getattr(component_class("head", recipe.head.kind), "class_scores", False)


def needs_of(loss: LossConfig) -> tuple[str, ...]:
    """Return what a loss needs."""
    component: Any = component_class("loss", loss.kind)
    return component.needs_of(loss)


def needs_maps(recipe: Recipe) -> bool:
    """Return whether a loss looks at the teacher's feature maps, or tokens, which are not stored either."""
    wanted = [need for loss in recipe.losses for need in needs_of(loss)]
    return any("teacher.features[" in need or need == "teacher.tokens" for need in wanted)


def weights_of_losses(recipe: Recipe) -> Iterator[Finding]:
    """Something is learnt."""
    if all(loss.weight == 0 for loss in recipe.losses):
        yield ("losses",), "every loss has weight 0: nothing would be learnt"


def tuning_losses(recipe: Recipe) -> Iterator[Finding]:
    """The losses under which a compressed student is tuned can work, and there is such tuning."""
    compress = recipe.compress
    if compress is None:
        return
    epochs = [part.epochs for part in (compress.sparsity, compress.quantization) if part and part.epochs]
    tunes = bool(epochs) or (compress.quantization is not None and compress.quantization.method == "qat")
    losses, place = compress.losses, ("compress", "losses")
    if tunes and any(loss.kind == "simkd" for loss in losses or recipe.losses):
        yield (
            place if losses else ("compress",),
            "simkd ends with training: its projector is a part of the student by then; give compress.losses"
            " other ones, such as [{kind: soft_target}]",
        )
    if losses is None:
        return
    if not tunes:
        yield place, "have no effect: nothing is trained (sparsity.epochs: 0, no quantization.method: qat)"
    for index, loss in enumerate(losses):
        if epochs and loss.warmup_epochs >= min(epochs):
            yield (
                (*place, index, "warmup_epochs"),
                f"must be below the epochs of fine-tuning ({min(epochs)}), got {loss.warmup_epochs}",
            )
    known = {finding for run in CHECKS_OF_LOSSES for finding in run(recipe)}
    other = recipe.model_copy(update={"losses": list(losses)})
    for path, message in (finding for run in CHECKS_OF_LOSSES for finding in run(other)):
        if path[0] == "losses":
            yield ("compress", *path), message
        elif (path, message) not in known:
            yield path, message


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
    for key in ("engines", "engines_if_here", "precisions", "batch", "views", "compute_capability"):
        values = getattr(recipe.deploy, key)
        if values is not None and not isinstance(values, str) and len(set(values)) != len(values):
            yield ("deploy", key), "an entry stands there twice"
    default = DeployConfig.model_fields["compute_capability"].default
    rtx = "tensorrt_rtx" in (*recipe.deploy.engines, *recipe.deploy.engines_if_here)
    if recipe.deploy.compute_capability != default and not rtx:
        yield ("deploy", "compute_capability"), "has no effect without 'tensorrt_rtx' in deploy.engines"
    both = sorted({*recipe.deploy.engines} & {*recipe.deploy.engines_if_here})
    if both:
        yield ("deploy", "engines_if_here"), f"{', '.join(both)} is among deploy.engines, and built anyway"
    tensorrt = "tensorrt" in (*recipe.deploy.engines, *recipe.deploy.engines_if_here)
    settings = recipe.deploy.tensorrt.model_dump(exclude_defaults=True)
    for key in settings:
        if key in ("version_compatible", "hardware_compatible") and not tensorrt:
            yield ("deploy", "tensorrt", key), "has no effect without 'tensorrt' in deploy.engines"
        elif not rtx and not tensorrt:
            yield (
                ("deploy", "tensorrt", key),
                "has no effect without 'tensorrt' or 'tensorrt_rtx' in deploy.engines",
            )


def shipped_text(recipe: Recipe) -> Iterator[Finding]:
    """A text tower is shipped only where the teacher has one and the student knows words."""
    place = ("deploy", "text_encoder")
    if not recipe.deploy.text_encoder:
        return
    teacher: Any = component_class("teacher", recipe.teacher.kind)
    if in_class_scores(recipe):
        yield place, "has no effect: the student scores classes, not words; remove it"
    elif not teacher.can_ship_text(recipe.teacher):
        yield place, f"a teacher of kind '{recipe.teacher.kind}' has no text tower to ship: remove it"


CHECKS_OF_LOSSES: tuple[Callable[[Recipe], Iterator[Finding]], ...] = (
    stored_views,
    stored_top_k,
    needs_of_labels,
    class_scores,
    without_teacher,
    dropout_of_second_pass,
    head_is_trained,
    mixed_labels,
    weights_of_losses,
)
CHECKS = (
    *CHECKS_OF_LOSSES,
    eased_in,
    tuning_losses,
    measured_latency,
    deployed_once,
    shipped_text,
    curation,
    fitted_head,
    templates_have_an_effect,
    objects,
    baseline,
)


def check(recipe: Recipe) -> list[Finding]:
    """Return what every check finds."""
    return [finding for run in CHECKS for finding in run(recipe)]
