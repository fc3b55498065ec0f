"""Pruning a trained student to 2:4 and tuning it under the recipe's losses.

What is pruned is decided once, before anything is tuned, and kept in the stage's folder: the order of the
channels depends on how far a search got in its time. A stage that was killed goes on from there. The
statistics of batch norms are estimated anew once the masks hold, and a part of the student that
`train.freeze` keeps is tuned with the rest where it has lost weights: nothing else could make up for them.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, distributed

from edgeproof_compress.apex import apex_mask, require_apex
from edgeproof_compress.calibration import calibration_images
from edgeproof_compress.channel_spaces import channel_spaces, permute_space
from edgeproof_compress.eligibility import Layer, eligibility
from edgeproof_compress.masks import (
    MASKS_FILE,
    hold,
    is_2_4,
    kept_magnitude,
    load_masks,
    mask_2_4,
    save_masks,
)
from edgeproof_compress.permutation import find_orders
from edgeproof_compress.statistics import estimate_statistics
from edgeproof_configs.compress_schema import SparsityConfig
from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_configs.files import digest_of, read_json, write_json
from edgeproof_configs.schema import Recipe
from edgeproof_data.sets import ImageSet
from edgeproof_train.distil import Trained
from edgeproof_train.fine_tune import fine_tune, tuning_config
from edgeproof_train.outline import random_student
from edgeproof_train.run_data import RunData
from edgeproof_train.scoring import evaluation
from edgeproof_train.student import Student
from edgeproof_train.weights import weights_digest

STAGE = "sparsify"
PLAN_FILE = "permutation.json"
REPORT_FILE = "sparsity.json"
STATISTICS_IMAGES = 512

Plain = dict[str, Any]


def sparsify(data: RunData) -> Trained:
    """Prune the student of the `train` stage and tune it; every process of a `torchrun` calls this.

    Raises:
        UsageError: a pattern names no layer, or nothing can be pruned.
        MissingPackageError: masks are to be apex's, which cannot be used here.
        EdgeproofError: weights that were dropped are not zero in the file that was written.
    """
    began = time.monotonic()
    recipe, folder = data.recipe, data.context.folder(STAGE)
    assert recipe.compress is not None
    config = recipe.compress.sparsity
    assert config is not None
    if config.backend == "apex":
        require_apex()
    student = Student.load(data.context.run.stage("train"))
    plan = decided(data, config, student, folder)
    masks = load_masks(folder / MASKS_FILE)
    hold(student, masks)
    estimate_statistics(student, seen_images(data), data.context.device)
    if config.epochs:
        loop = tuning_config(recipe.train, config.epochs, config.lr or recipe.train.lr)
        loop = loop.model_copy(update={"freeze": still_frozen(loop.freeze, masks)})
        tuned = fine_tune(data, STAGE, student, loop)
    else:
        files = student.save(folder) if is_first() else []
        tuned = Trained(files, {}, "")
    if not is_first():
        return tuned
    check_zeros(folder, masks)
    report = report_of(plan, tuned, config, time.monotonic() - began)
    write_json(folder / REPORT_FILE, report)
    files = [*tuned.files, folder / MASKS_FILE, folder / PLAN_FILE, folder / REPORT_FILE]
    kept = {key: value for key, value in report.items() if key != "layers"}
    return replace(tuned, files=files, metrics={**kept, **tuned.metrics}, summary=summary_of(report))


def check_sparsity(recipe: Recipe) -> None:
    """Refuse what `sparsify` would refuse, before anything is trained; random weights have the same shapes.

    Raises:
        UsageError: as `sparsify`.
        MissingPackageError: as `sparsify`.
    """
    config = recipe.compress.sparsity if recipe.compress else None
    if config is None:
        return
    if config.backend == "apex":
        require_apex()
    eligibility(random_student(recipe, any_width=True), config)


def decided(data: RunData, config: SparsityConfig, student: Student, folder: Path) -> Plain:
    """Return what is pruned, decided now or by an earlier attempt, and order the student's channels so.

    The first process decides, the others wait for it.
    """
    key = digest_of(
        {
            "student": weights_digest(student.state_dict()),
            "config": config.model_dump(exclude={"epochs", "lr"}),
        }
    )
    nodes = kept_nodes(data, student)
    if is_first() and stored_plan(folder, key) is None:
        plan = decide(data, config, copy.deepcopy(student), nodes, folder)
        write_json(folder / PLAN_FILE, {"key": key, **plan})
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
    plan = stored_plan(folder, key)
    if plan is None:
        raise EdgeproofError("what is to be pruned was not written", where=folder / PLAN_FILE)
    apply_orders(student, plan, nodes)
    return plan


def stored_plan(folder: Path, key: str) -> Plain | None:
    """Return what an earlier attempt has decided for the same student and settings, if it has."""
    file = folder / PLAN_FILE
    if not file.exists() or not (folder / MASKS_FILE).exists():
        return None
    plan: Plain = read_json(file)
    return plan if plan.get("key") == key else None


def decide(data: RunData, config: SparsityConfig, student: Student, nodes: list[str], folder: Path) -> Plain:
    """Choose layers, order of channels and masks; write the masks; return what was chosen, with figures.

    Args:
        data: of the run.
        config: of the recipe.
        student: with dense weights; changed.
        nodes: modules whose outputs keep their order.
        folder: receives the masks.
    """
    began = time.monotonic()
    layers = eligibility(student, config)
    pruned = [layer.name for layer in layers if layer.eligible]
    score = evaluation(data, "val")
    make_mask = apex_mask if config.backend == "apex" else mask_2_4

    def masks() -> dict[str, Tensor]:
        weights = {f"{name}.weight": student.get_parameter(f"{name}.weight") for name in pruned}
        return {name: make_mask(weight.detach()) for name, weight in weights.items()}

    def scored(masks: Mapping[str, Tensor]) -> dict[str, float]:
        network = copy.deepcopy(student)
        if masks:
            hold(network, masks)
            estimate_statistics(network, seen_images(data), data.context.device)
        return rounded(score(network))

    figures = {"dense": scored({})}
    kept = {"without": kept_share(student, pruned)}
    search = searched(data, config, student, pruned, nodes)
    if search["changed"]:
        figures["pruned_without_permutation"] = scored(masks())
        apply_orders(student, search, nodes)
    chosen = masks()
    figures["pruned"] = scored(chosen)
    kept["with"] = kept_share(student, pruned)
    save_masks(folder / MASKS_FILE, chosen)
    return {
        "layers": [layer.row() for layer in layers],
        "weights": counts(student, layers, chosen),
        "kept_magnitude": kept,
        **search,
        "val": figures,
        "seconds": round(time.monotonic() - began, 3),
    }


def seen_images(data: RunData) -> ImageSet:
    """Return the training images that statistics are estimated on."""
    return calibration_images(data.split("train"), STATISTICS_IMAGES, data.recipe.train.seed)


def still_frozen(names: Sequence[str], masks: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the parts among `names` in which no weight is dropped."""
    return tuple(name for name in names if not any(weight.startswith(f"{name}.") for weight in masks))


def searched(
    data: RunData, config: SparsityConfig, student: Student, pruned: list[str], nodes: list[str]
) -> Plain:
    """Return the orders of channels that keep more, and why there was no search if there was none."""
    if not config.permute:
        return {"orders": [], "changed": False, "not_searched": "permute: false"}
    try:
        spaces = channel_spaces(student, nodes)
    except UsageError as error:
        return {"orders": [], "changed": False, "not_searched": error.what}
    orders = find_orders(
        student,
        spaces,
        pruned,
        seconds=config.permute_seconds,
        seed=data.recipe.train.seed,
        device=data.context.device,
    )
    return {
        "orders": [order.row() for order in orders],
        "changed": any(order.kept > order.kept_before for order in orders),
        "not_searched": "" if orders else "no layer that is pruned reads channels whose order is free",
    }


def apply_orders(student: Student, plan: Plain, nodes: list[str]) -> None:
    """Put a student's channels into the orders of a plan; what it computes stays the same."""
    if not plan["changed"]:
        return
    spaces = {space.name: space for space in channel_spaces(student, nodes)}
    for order in plan["orders"]:
        permute_space(student, spaces[order["space"]], order["order"])


def kept_nodes(data: RunData, student: Student) -> list[str]:
    """Return the paths of modules that losses look at: these compare channel by channel."""
    network = student.module()
    prefix = next(name for name, module in student.named_modules() if module is network)
    wanted = data.for_tuning().nodes("student")
    return [f"{prefix}.{node}" if prefix else node for node in wanted]


def kept_share(student: Student, pruned: list[str]) -> float:
    """Return what share of the magnitude of the pruned layers their masks keep."""
    weights = [student.get_parameter(f"{name}.weight") for name in pruned]
    total = sum(float(weight.detach().double().abs().sum()) for weight in weights)
    return round(sum(kept_magnitude(weight) for weight in weights) / total, 6) if total else 1.0


def counts(student: Student, layers: list[Layer], masks: Mapping[str, Tensor]) -> Plain:
    """Return how many weights there are, in pruned layers, and dropped."""
    everything = sum(parameter.numel() for parameter in student.parameters())
    pruned = sum(layer.parameters for layer in layers if layer.eligible)
    dropped = sum(int((~mask).sum()) for mask in masks.values())
    return {"all": everything, "pruned_layers": pruned, "dropped": dropped, "share": dropped / everything}


def check_zeros(folder: Path, masks: Mapping[str, Tensor]) -> None:
    """Read the student that was written and count.

    Raises:
        EdgeproofError: a weight that a mask drops is not zero.
    """
    student = Student.load(folder)
    for name, mask in masks.items():
        weight = student.get_parameter(name).detach()
        left = int((weight[~mask] != 0).sum())
        if left or not is_2_4(weight):
            raise EdgeproofError(
                f"{name} is not 2:4: {left} of {int((~mask).sum())} dropped weights are not zero",
                where=folder,
                fix="redo the stage with --from sparsify; if it happens again, report it",
            )


def report_of(plan: Plain, tuned: Trained, config: SparsityConfig, seconds: float) -> Plain:
    """Return the contents of `sparsity.json`: what was pruned, what it keeps, and what it costs on `val`."""
    found = {key: value for key, value in plan.items() if key not in ("key", "changed", "seconds", "orders")}
    searched = [{key: value for key, value in row.items() if key != "order"} for row in plan["orders"]]
    if tuned.metrics:
        found["val"] = plan["val"] | {"tuned": tuned.metrics["best"]}
    return {
        "pattern": config.pattern,
        "backend": config.backend,
        "epochs": config.epochs,
        **found,
        "permutation": searched,
        "seconds": {"deciding": plan["seconds"], "all": round(seconds, 3)},
    }


def summary_of(report: Plain) -> str:
    """Return a line for the terminal."""
    layers = report["layers"]
    pruned = sum(layer["eligible"] for layer in layers)
    name = next(name for name in ("top1", "map", "cosine_mean") if name in report["val"]["dense"])
    figures = ", ".join(
        f"{word} {report['val'][word][name]:.4f}"
        for word in ("dense", "pruned", "tuned")
        if word in report["val"]
    )
    share = report["weights"]["share"]
    return (
        f"2:4 in {pruned} of {len(layers)} layers, {share:.1%} of all weights zero; {name} on val: {figures}"
    )


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Return figures with six digits."""
    return {name: round(float(value), 6) for name, value in figures.items()}


def is_first() -> bool:
    """Whether this is the process that decides and writes."""
    return os.environ.get("RANK", "0") == "0"
