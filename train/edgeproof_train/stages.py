"""The training side of the chain but for `curate`: teacher, embed, baseline, train. One function a stage."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import Recipe
from edgeproof_configs.stage import StageContext, StageOutcome
from edgeproof_data.object_loader import check_sampler
from edgeproof_data.objects import single_images
from edgeproof_data.sets import DataSource, ImageSet
from edgeproof_data.views import View
from edgeproof_train.curate import embedded_before
from edgeproof_train.distil import (
    PIXELS,
    distil,
    loss_context,
    new_student,
    train_on_labels,
)
from edgeproof_train.embed import embed_split, verify_cache
from edgeproof_train.outline import random_student
from edgeproof_train.run_data import RunData, bank_name, view_name
from edgeproof_train.scoring import teacher_metrics
from edgeproof_train.student import Student
from edgeproof_train.supervision import NotAsked
from edgeproof_train.task import DistillTask
from edgeproof_train.teacher import Teacher
from edgeproof_train.text import TextBank, TextSpec, make_text_bank
from edgeproof_train.verify_top_k import verify_top_k

EMBED_BATCH = 64


def teacher_stage(context: StageContext) -> StageOutcome:
    """Train the teacher in place, where the recipe says so."""
    data = RunData(context)
    folder = context.folder("teacher")
    component: Any = component_class("teacher", context.recipe.teacher.kind)

    def report(row: dict[str, Any]) -> None:
        context.run.append_metrics({"stage": "teacher", **row})

    metrics = component.train_in_place(
        context.recipe.teacher, data.given, folder, context.device, report=report
    )
    outputs = [folder / "model.safetensors", folder / "config.json"]
    shown = single_images(data.given.split("train"))
    what = ("captioned " if component.has_text else "") + ("views" if data.given.of_objects else "images")
    return StageOutcome(outputs, metrics, f"trained in place on {len(shown)} {what}")


def embed_stage(context: StageContext) -> StageOutcome:
    """Check every image, fill the teacher's embedding cache and make the text embeddings."""
    data, recipe = RunData(context), context.recipe
    folder = context.folder("embed")
    remarks = data.source.remarks()
    for remark in remarks:
        print(f"data: {remark}", file=sys.stderr, flush=True)
    if recipe.deploy.text_encoder:
        # A tokenizer that no bundle can carry is told now, not after the training.
        data.teacher.lead.text_tower()
    for name, bank in text_banks(recipe, data.teacher, data.source).items():
        bank.save(folder / name)
    others = recipe.compress is not None and recipe.compress.losses is not None
    trainings = [data, data.for_tuning()] if others else [data]
    where = {training.supply for training in trainings} if data.has_teacher else set()
    for training in trainings:
        check_losses(training)
    refuse_unknown_classes(data)
    check_sampler(data.source.split("train"), recipe.train.sampler)
    corrupt: list[tuple[str, str, str]] = []
    counts: dict[str, int] = {}
    checked: dict[str, Any] = {}
    for split in data.parts:
        images, unreadable = data.checked_split(split)
        corrupt += [(split, path, reason) for path, reason in unreadable]
        counts[split] = len(images)
        if split == "train" and "views" in where:
            checked |= embed_views(data, images, folder)
        if not where or (split in ("train", "photos") and "cache" not in where):
            continue
        teacher = data.teacher.per_view() if data.source.of_objects else data.teacher
        cache = embed_split(
            teacher,
            single_images(images),
            folder / split,
            batch_size=EMBED_BATCH,
            workers=recipe.train.workers,
            # Figures on val and test compare all class scores.
            top_k=recipe.teacher.top_k if split == "train" else None,
            known=embedded_before(context.run, split),
        )
        if split == "val":
            checked |= verify_cache(cache, teacher, single_images(images))
        elif cache.top_k is not None:
            checked["top_k"] = verify_top_k(cache, data.teacher, images)
    data.write_corrupt(corrupt)
    metrics: dict[str, Any] = {"images": counts, "corrupt": len(corrupt), "cache": checked}
    metrics |= {"dim": data.teacher.embedding_dim, "logit_scale": data.teacher.logit_scale}
    metrics |= {"teacher": data.teacher.identity(), "supply": data.supply if where else "none"}
    metrics |= {"val": teacher_metrics(data, "val")} | ({"remarks": remarks} if remarks else {})
    skipped = f", {len(corrupt)} unreadable ones left out (embed/corrupt.csv)" if corrupt else ""
    made = f", {data.teacher.embedding_dim}-d teacher embeddings" if data.has_teacher else ""
    summary = f"{counted_items(counts, data.source.item)}{made}{skipped}"
    kept = ("stage.json", "started.json")
    outputs = [
        file
        for file in folder.rglob("*")
        if file.is_file() and file.name not in kept and folder / PIXELS not in file.parents
    ]
    return StageOutcome(outputs, metrics, summary)


def counted_items(counts: Mapping[str, int], item: str) -> str:
    """Return how many images or objects the parts have in all; photos beside objects are told apart.

    Args:
        counts: by part.
        item: what all parts but `photos` are sets of.
    """
    photos = counts.get("photos", 0)
    said = f"{sum(counts.values()) - photos} {item}s"
    return f"{said} and {photos} photos" if photos else said


def embed_views(data: RunData, images: ImageSet, folder: Path) -> dict[str, Any]:
    """Store the teacher's outputs for each view of the training images that the recipe asks for.

    Returns:
        How well the first view agrees with the teacher, where only its largest probabilities are stored.
    """
    train, count = data.recipe.train, data.recipe.teacher.stored_views or 0
    preprocess, checked = new_student(data).preprocess, {}
    for number in range(count):
        view = View(images, preprocess, train.augment, number, train.workers)
        cache = embed_split(
            data.teacher,
            images,
            folder / view_name(number),
            batch_size=EMBED_BATCH,
            workers=train.workers,
            view=view,
            top_k=data.recipe.teacher.top_k,
        )
        if not number and cache.top_k is not None:
            checked["top_k"] = verify_top_k(cache, data.teacher, images, view)
    return checked


def text_banks(recipe: Recipe, teacher: Teacher, source: DataSource) -> dict[str, TextBank]:
    """Return the text embeddings of the head, and of every loss that brings its own words, by file name."""
    head: Any = component_class("head", recipe.head.kind)
    banks: dict[str, TextBank] = {}
    if not head.class_scores:
        banks[bank_name(None)] = head.make_bank(recipe.head, teacher, source)
    tuning = recipe.compress.losses if recipe.compress else None
    for loss in [*recipe.losses, *(tuning or ())]:
        spec: TextSpec | None = getattr(loss, "text_spec", lambda: None)()
        if spec is not None:
            banks[bank_name(spec)] = make_text_bank(spec, teacher, source)
    return banks


def check_losses(data: RunData) -> None:
    """Build every loss on shapes alone, so that what cannot work is refused before any image is read.

    Raises:
        UsageError: a need is not met, a node does not exist, or shapes do not fit.
    """
    student = random_student(data.recipe, data.teacher.lead.embedding_dim)
    if data.has_teacher and data.wants_tokens:
        data.teacher.check_tokens()
    asked = NotAsked(data.teacher.embedding_dim) if data.has_teacher else None
    DistillTask(student, data.recipe.losses, loss_context(data, student), asked)
    check_views_are_taken(data, student)


def check_views_are_taken(data: RunData, student: Student) -> None:
    """Refuse a student of single images where the data are objects.

    Raises:
        UsageError: it is one.
    """
    if data.source.of_objects and student.input_name != "views":
        raise UsageError(
            f"a student of kind '{data.recipe.student.kind}' sees one image at a time, and the data are"
            " objects with several views",
            where="student.kind",
            fix="set student.kind: multi_view",
        )


def refuse_unknown_classes(data: RunData) -> None:
    """Refuse labels that no class of the data is among: nothing could be scored.

    Raises:
        DataError: data and head have no class in common.
    """
    names = data.source.class_names
    if names and (data.word_of_class() < 0).all():
        words = data.words().names
        raise DataError(
            f"none of the {len(names)} classes of the data ({names[0]}, …) is among the {len(words)} labels"
            f" of the head ({words[0]}, …)",
            where="head.labels",
            fix="give the label list of these data, or data.labels: none if they are not labelled",
        )


def baseline_stage(context: StageContext) -> StageOutcome:
    """Train the same student on labels alone, as the row that distillation has to beat."""
    found = train_on_labels(RunData(context))
    return StageOutcome(found.files, found.metrics, found.summary)


def train_stage(context: StageContext) -> StageOutcome:
    """Distil the teacher into the student."""
    found = distil(RunData(context))
    return StageOutcome(found.files, found.metrics, found.summary)
