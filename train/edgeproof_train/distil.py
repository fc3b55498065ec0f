"""From a run's data to a trained student: distillation, and normal training on labels to compare it with."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeproof_configs.errors import UsageError
from edgeproof_configs.registry import build, component_class
from edgeproof_configs.schema import BaselineConfig, LossConfig, TrainConfig
from edgeproof_data.loader import TrainLoader
from edgeproof_data.object_loader import ObjectLoader
from edgeproof_data.objects import ObjectSet, single_images
from edgeproof_data.sets import ImageSet
from edgeproof_train.embeddings import pooled_features
from edgeproof_train.keeper import LOSSES_FILE
from edgeproof_train.loop import TrainResult, train
from edgeproof_train.loss import LossContext
from edgeproof_train.losses.simkd import SimKD
from edgeproof_train.run_data import PartName, RunData
from edgeproof_train.scoring import CLASSIFIER, baseline_evaluation, chosen_by, evaluation
from edgeproof_train.simkd import check_reusable
from edgeproof_train.stored_views import StoredViews
from edgeproof_train.student import Student
from edgeproof_train.students.timm import DEFAULT_RIDGE, init_least_squares
from edgeproof_train.supervision import CachedSupervision, LiveSupervision, ObjectSupervision, Supervision
from edgeproof_train.taps import node_shapes
from edgeproof_train.task import DistillTask

PIXELS = "pixels"
"""Where the embed stage's folder keeps decoded training images; made by whichever training comes first."""

SMOOTHING = 0.1
"""Of the labels of normal training, where the recipe does not say."""


@dataclass(frozen=True)
class Trained:
    """What a training stage leaves: files, figures on `val`, and a line for the terminal."""

    files: list[Path]
    metrics: dict[str, Any]
    summary: str


def distil(data: RunData) -> Trained:
    """Train the recipe's student under its teacher; the best epoch on `val` is kept."""
    recipe = data.recipe
    images = data.split("train")
    seed_everything(recipe.train.seed)
    student = new_student(data)
    if getattr(recipe.student, "head_init", "random") == "least_squares":
        start_from_least_squares(data, student, images)
    task = supervised_task(data, student, images)
    reuse_teacher_head(data, task)
    return fit(data, "train", task, recipe.train, images, evaluation(data, "val", task))


def supervised_task(data: RunData, student: Student, images: ImageSet) -> DistillTask:
    """Return the task of a student under the recipe's losses and its teacher."""
    return DistillTask(
        student,
        data.recipe.losses,
        loss_context(data, student),
        supervision(data, student, images),
        gather=data.recipe.train.gather,
    )


def train_on_labels(data: RunData) -> Trained:
    """Train the recipe's student without a teacher, with the recipe's loop and augmentation."""
    recipe = data.recipe
    assert recipe.baseline is not None
    config = baseline_config(recipe.train, recipe.baseline)
    images = data.split("train")
    seed_everything(config.seed)
    student = new_student(data)
    losses = baseline_losses(recipe.baseline, data.class_scores)
    task = DistillTask(student, losses, loss_context(data, student, ()))
    scored = evaluation if data.class_scores else baseline_evaluation
    return fit(data, "baseline", task, config, images, scored(data, "val", task))


def baseline_losses(baseline: BaselineConfig, class_scores: bool) -> Sequence[LossConfig]:
    """Return the losses of normal training: those that are given, else classification."""
    if baseline.losses is not None:
        return baseline.losses
    smoothing = SMOOTHING if baseline.label_smoothing is None else baseline.label_smoothing
    label_loss: Any = component_class("loss", "cross_entropy" if class_scores else CLASSIFIER)
    return [label_loss.Config(label_smoothing=smoothing)]


def baseline_config(train: TrainConfig, baseline: BaselineConfig) -> TrainConfig:
    """Return the loop's settings for normal training: the recipe's, for another number of epochs.

    A warm-up that does not fit into these takes half of them, and patience that could not end them is none.
    """
    evaluations = -(-baseline.epochs // train.eval_every)
    patience = train.patience if (train.patience or 0) <= evaluations - 2 else None
    return shortened(train, baseline.epochs, baseline.lr or train.lr, patience=patience, select=None)


def shortened(train: TrainConfig, epochs: int, lr: float, **changes: Any) -> TrainConfig:
    """Return the loop's settings for another number of epochs, with a warm-up that fits."""
    warmup = train.warmup_epochs if train.warmup_epochs < epochs else epochs / 2
    changes |= {"epochs": epochs, "lr": lr, "warmup_epochs": warmup}
    return TrainConfig.model_validate(train.model_dump() | changes)


def fit(
    data: RunData,
    stage: str,
    task: DistillTask,
    config: TrainConfig,
    images: ImageSet,
    evaluate: Any,
    folder: Path | None = None,
) -> Trained:
    """Run the loop in a stage's folder, or in the one that is given."""
    context = data.context
    folder = folder or context.folder(stage)
    folder.mkdir(parents=True, exist_ok=True)
    loader = loader_of(data, task, config, images, views=stage != "baseline")
    result: TrainResult = train(
        task,
        loader,
        config=config,
        folder=folder,
        device=context.device,
        evaluate=evaluate,
        select=config.select or chosen_by(data, task if stage == "baseline" else None),
        report=lambda row: context.run.append_metrics({"stage": stage, **row}),
        rewind=lambda step: context.run.rewind_metrics(stage, step),
        label=stage,
    )
    if task.taps is not None:
        task.taps.remove()
    best = {name: round(value, 6) for name, value in result.best.items()}
    shown = ", ".join(f"{name} {best[name]:.4f}" for name in ("top1", "map", "cosine_mean") if name in best)
    names = ("model.safetensors", "config.json", LOSSES_FILE)
    return Trained(
        [folder / name for name in names if (folder / name).exists()],
        {"best_epoch": result.best_epoch, "best": best, "last": result.last, "weights": result.weights},
        f"best epoch {result.best_epoch} of {config.epochs}: {shown} on val",
    )


def loader_of(
    data: RunData, task: DistillTask, config: TrainConfig, images: ImageSet, *, views: bool
) -> TrainLoader | ObjectLoader:
    """Return the batches of a training, in this process; of photos, too, where a teacher says what they are.

    Args:
        data: of the run.
        task: whose student sees them.
        config: the loop's settings.
        images: training images or objects.
        views: whether stored views are shown, where there are some.
    """
    shared: dict[str, Any] = {
        "batch_size": config.batch_size,
        "seed": config.seed,
        "workers": config.workers,
        "balance": config.balance,
        "rank": int(os.environ.get("RANK", "0")),
        "world": int(os.environ.get("WORLD_SIZE", "1")),
        "pixel_folder": data.context.folder("embed") / PIXELS,
    }
    preprocess = task.student.preprocess
    if isinstance(images, ObjectSet):
        if config.sampler is None:
            raise UsageError(
                "how many views of an object does a step show?",
                where="train.sampler",
                fix="set train.sampler: {views: 4}",
            )
        photos = data.split("photos") if "photos" in data.parts and task.supervision is not None else None
        return ObjectLoader(
            images, preprocess, config.augment, sampler=config.sampler, photos=photos, **shared
        )
    stored = data.recipe.teacher.stored_views if views else None
    return TrainLoader(images, preprocess, config.augment, views=stored, **shared)


def reuse_teacher_head(data: RunData, task: DistillTask) -> None:
    """Give a student that SimKD trains the loss's projector and a copy of the teacher's classifier.

    Raises:
        UsageError: the teacher's class scores cannot be had from its node, or the student has no such map.
    """
    student: Any = task.student
    for loss in task.losses.values():
        if not isinstance(loss, SimKD):
            continue
        teacher, pair = data.teacher, loss.pairs[0]
        classifier = teacher.classifier()
        assert classifier is not None
        assert teacher.preprocess is not None
        side = teacher.preprocess.image_size
        noise = torch.randn(1, 3, side, side, device=teacher.device)
        network, scores = teacher.module(), teacher.encode_logits
        check_reusable(network, pair.teacher, classifier, noise, loss.config.last_relu, scores)
        frozen = copy.deepcopy(classifier).requires_grad_(False).cpu()
        student.reuse_head(loss.reused_head(frozen), pair.student)


def seed_everything(seed: int) -> None:
    """Seed what initialises weights and drops activations. The loader draws from seeds of its own."""
    torch.manual_seed(seed)
    np.random.seed(seed)


def new_student(data: RunData) -> Student:
    """Return the recipe's student with its start weights and a head as wide as its teacher's embedding."""
    dim = data.teacher.lead.embedding_dim
    student: Student = build("student", data.recipe.student, dim, data.source.root)
    student.classes = data.source.class_names if data.class_scores else ()
    return student


def start_from_least_squares(data: RunData, student: Student, images: ImageSet) -> None:
    """Set the head to the ridge regression of the teacher's unit embeddings on the frozen features.

    Objects are taken view by view, and with them the photos, if there are some.
    """
    config: Any = data.recipe.student
    parts: list[tuple[PartName, ImageSet]] = [("train", single_images(images))]
    if data.source.of_objects and "photos" in data.parts:
        parts.append(("photos", data.split("photos")))
    features, targets = [], []
    for part, single in parts:
        workers, device = data.recipe.train.workers, data.context.device
        features.append(pooled_features(student, single, workers=workers, device=device))
        cache = data.cache(part)
        if data.source.of_objects:
            rows = StoredViews.of(cache, single).pooled(data.teacher, np.arange(len(single)))
        else:
            rows = cache.rows(cache.find(single))
        targets.append(rows[:, : student.embedding_dim])
    ridge = config.ridge or DEFAULT_RIDGE
    init_least_squares(student, np.concatenate(features), np.concatenate(targets), ridge)


def supervision(data: RunData, student: Student, images: ImageSet) -> Supervision | None:
    """Return where the teacher's outputs come from in training, as `teacher.view` allows."""
    if not data.has_teacher:
        return None
    if data.supply == "live":
        nodes = data.nodes("teacher")
        return LiveSupervision(data.teacher, student.preprocess, nodes, tokens=data.wants_tokens)
    if isinstance(images, ObjectSet):
        stored = StoredViews.of(data.cache("train"), images)
        photos = None
        if "photos" in data.parts:
            photos = StoredViews.of(data.cache("photos"), data.split("photos"))
        return ObjectSupervision(data.teacher, stored, photos, seen=data.recipe.teacher.views == "seen")
    if data.supply == "views":
        caches = data.view_caches()
        return CachedSupervision(caches, [cache.find(images) for cache in caches], data.class_scores)
    cache = data.cache("train")
    return CachedSupervision(cache, cache.find(images), data.class_scores)


def loss_context(data: RunData, student: Student, losses: Sequence[LossConfig] | None = None) -> LossContext:
    """Return what this run's losses may ask for.

    Args:
        data: of the run.
        student: the model that is trained.
        losses: those whose nodes are looked for; the recipe's if not given.
    """
    teacher, side = data.teacher, student.preprocess.image_size
    nodes, teacher_nodes = (data.nodes("student"), data.nodes("teacher")) if losses is None else ((), ())
    shapes = node_shapes(student.module(), nodes, torch.zeros(1, 3, side, side)) if nodes else {}
    teacher_shapes: dict[str, tuple[int, ...]] = {}
    if teacher_nodes:
        wanted = teacher.preprocess.image_size if teacher.preprocess else side
        image = torch.zeros(1, 3, wanted, wanted, device=teacher.device)
        teacher_shapes = node_shapes(teacher.module(), teacher_nodes, image)
    return LossContext(
        student_dim=student.embedding_dim,
        teacher_dim=teacher.embedding_dim if data.has_teacher else None,
        num_classes=len(data.source.class_names),
        text=None if data.class_scores and not data.has_own_words else data.text_rows,
        class_to_text=torch.from_numpy(data.word_of_class()),
        class_scores=data.class_scores,
        student_features=shapes,
        teacher_features=teacher_shapes,
        teacher_head=teacher.classifier(),
        parts=teacher.parts,
        part_weights=teacher.part_weights,
        student_tokens=student.token_shape,
        teacher_tokens=teacher.token_shape,
    )
