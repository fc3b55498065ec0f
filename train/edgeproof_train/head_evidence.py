"""What the stage `head` fits a head on: shots of the training images, words, images of val and test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_data.objects import ObjectSet
from edgeproof_data.paths import some_of
from edgeproof_data.sets import ImageSet
from edgeproof_data.shots import ClassMix, draw_shots
from edgeproof_train.head_features import Features, Side
from edgeproof_train.heads.evidence import Evidence, Surroundings, evidence_of
from edgeproof_train.heads.fitted import Asked, FittedConfig, FittedKind
from edgeproof_train.run_data import PartName, RunData

Plain = dict[str, Any]


@dataclass(frozen=True)
class Labelled:
    """Some labelled images of a part of the data.

    Attributes:
        part: which.
        images: those that were drawn.
        labels: (N,) their rows in the head's words.
        told: plain data about the draw.
    """

    part: PartName
    images: ImageSet
    labels: np.ndarray
    told: Plain


@dataclass(frozen=True)
class Gathered:
    """The evidence of a run, and what a reader of the result should know of it.

    Attributes:
        evidence: what a head is fitted on.
        told: plain data: how many shots, of which draw, how many images of val, what was left out.
        shots: the draw of each part that the shots are of.
        val: that of the images on which settings are chosen; nothing where none are.
    """

    evidence: Evidence
    told: Plain = field(default_factory=dict)
    shots: tuple[Labelled, ...] = ()
    val: tuple[Labelled, ...] = ()


def gather(data: RunData, config: FittedConfig, kind: type[FittedKind], side: Side) -> Gathered:
    """Return what a kind of head may look at in a run.

    Args:
        data: of the run.
        config: of the head: how many shots and views, of which draw, and whether words help.
        kind: of the head; what it neither needs nor uses is not computed.
        side: whose embeddings.

    Raises:
        DataError: the words have no embeddings though the kind needs them, or embeddings cannot be used.
        UsageError: views are asked for that the teacher cannot give.
    """
    asked, words, features = kind.asked(config), data.words(), Features(data, side)
    given: Plain = {}
    named: tuple[str, ...] = ()
    told: Plain = {"on": side, "of": data.source.item}
    drawn: list[Labelled] = []
    chosen_on: list[Labelled] = []
    if wants_shots(config, asked):
        drawn = [draw(data, part, config.shots, config.seed) for part in config.learns_from]
        # Beside a head that learns from views the teacher's own does, too, if the teacher can look at them.
        same = config.views == 1 or side == config.fit_on or data.teacher.lead.live
        views = config.views if same else 1
        labels = np.concatenate([shots.labels for shots in drawn])
        told["shots"] = told_of(drawn, len(words.names)) | {"views": views}
        if len(labels):
            rows = [features.views(shots.part, shots.images, views) for shots in drawn if len(shots.labels)]
            given["features"] = np.concatenate(rows)
            given["labels"], given["views"] = np.repeat(labels, views), views
            named = names_of(drawn)
    seen: ImageSet | None = None
    if "val" in asked.parts:
        val = draw(data, "val", config.val_shots, config.seed)
        told["val"] = val.told
        chosen_on = [val]
        if len(val.labels):
            given["val_features"] = features.plain("val", val.images)
            given["val_labels"], seen = val.labels, val.images
    if "unlabelled" in asked.parts:
        images = data.split("test")
        given["unlabelled"] = features.plain("test", images)
        mix = ClassMix.of(data.word_labels(images), len(words.names))
        told["unlabelled"] = {"split": "test", **mix.to_dict(), "images": len(images)}
    if config.use_text and "text" in asked.parts:
        if words.matrix is None and "text" in asked.needs:
            raise DataError(
                f"head {config.kind} needs text embeddings, and the teacher gave none",
                where="head",
                fix="give head.text_embeddings: FILE.npy with head.labels: FILE.txt, or choose another head",
            )
        given["text"] = words.matrix
    told["text"] = given.get("text") is not None
    scale = config.logit_scale or data.context.metrics("embed")["logit_scale"]
    around = Surroundings(data.source.root, tuple(data.source.unseen), seen, data.context.device)
    evidence = evidence_of(words.names, logit_scale=scale, **given)
    return Gathered(replace(evidence, around=around, named=named), told, tuple(drawn), tuple(chosen_on))


def wants_shots(config: FittedConfig, asked: Asked) -> bool:
    """Whether shots are drawn: where a kind needs them, or where it can use them and a number is given."""
    return "shots" in asked.needs or ("shots" in asked.uses and config.shots is not None)


def told_of(drawn: Sequence[Labelled], classes: int) -> Plain:
    """Return the draw of one part, or what the draws of several come to, as plain data."""
    if len(drawn) == 1:
        return drawn[0].told
    both: Plain = {**drawn[0].told, "split": ", ".join(one.part for one in drawn)}
    both |= ClassMix.of(np.concatenate([one.labels for one in drawn]), classes).to_dict()
    twice = [path for one in drawn for path in one.told.get("left_out_as_test_images", ())]
    return both | ({"left_out_as_test_images": twice} if twice else {})


def names_of(drawn: Sequence[Labelled]) -> tuple[str, ...]:
    """Return the paths of everything that was drawn.

    Raises:
        DataError: one of them lies in two parts.
    """
    found = tuple(path for one in drawn for path in one.images.paths)
    twice = [path for path, count in Counter(found).items() if count > 1]
    if twice:
        parts = " and ".join(one.part for one in drawn)
        raise DataError(f"{some_of(twice)} is in {parts}", where="head.of", fix="name one of these parts")
    return found


def part_of(data: RunData, part: PartName) -> ImageSet:
    """Return the images of a part.

    Raises:
        UsageError: the data have no gallery.
    """
    if part not in data.parts:
        raise UsageError(f"the data have no {part}", where="head.of", fix="head.of: train, or test")
    return data.split(part)


def draw(data: RunData, part: PartName, count: int | None, seed: int) -> Labelled:
    """Draw some labelled images of each class, of parts other than test none of whose files is a test image.

    Args:
        data: of the run.
        part: which.
        count: images of each class; None takes all. A class that has fewer gives what it has.
        seed: of the draw.
    """
    images, twice = part_of(data, part), []
    if part != "test":
        images, twice = without_test(data, images)
    words = data.words().names
    labels = data.word_labels(images)
    at = draw_shots(images.paths, labels, count, seed)
    mix = ClassMix.of(labels[at], len(words))
    told: Plain = {"split": part, "per_class": count, "seed": seed, **mix.to_dict()}
    short = {words[row]: int(n) for row, n in enumerate(mix.counts) if count is not None and n < count}
    if short:
        told["classes_with_fewer"] = short
    if twice:
        told["left_out_as_test_images"] = twice
    return Labelled(part, images.subset(at), labels[at], told)


def without_test(data: RunData, images: ImageSet) -> tuple[ImageSet, list[str]]:
    """Return the images whose files are, byte by byte, none of test, and the paths of the others.

    Of objects every view counts.
    """
    files, test = data.context.files, data.split("test")
    known = {files.sha256(file) for i in range(len(test)) for file in files_of(test, i)}
    same = np.array(
        [any(files.sha256(file) in known for file in files_of(images, i)) for i in range(len(images))], bool
    )
    return images.subset(np.flatnonzero(~same)), [images.paths[i] for i in np.flatnonzero(same)]


def files_of(images: ImageSet, index: int) -> list[Path]:
    """Return the file of an image, or those of all views of an object."""
    if isinstance(images, ObjectSet):
        return [images.root / view for view in images.views[index]]
    return [images.file(index)]
