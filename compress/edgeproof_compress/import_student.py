"""From a checkpoint of another tool to a folder with a student, and to words about what was in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from edgeproof_compress.earlier import Earlier, apply_masks, sort_entries
from edgeproof_compress.earlier_ranges import PlacedRanges, place_ranges
from edgeproof_compress.masks import MASKS_FILE, save_masks
from edgeproof_configs.errors import UsageError, did_you_mean
from edgeproof_configs.files import sha256_of, write_json
from edgeproof_data.paths import counted, some_of
from edgeproof_data.prompts import read_labels
from edgeproof_train.foreign import read_checkpoint
from edgeproof_train.student import CARD_FILE, WEIGHTS_FILE, Student
from edgeproof_train.students.timm import TimmStudent, feature_width
from edgeproof_train.students.timm_weights import classifier_names

RANGES_FILE = "earlier_ranges.json"
REPORT_FILE = "import.json"
DEFAULT_SIZE = 224


@dataclass(frozen=True)
class Wanted:
    """What the user says of the student in a checkpoint.

    Attributes:
        model: timm's name of the network.
        image_size: side of its input in pixels; timm's for this network if None.
        embedding_dim: how many values it must give; None takes what the checkpoint has.
        classes: a file with the names of the classes that its classifier scores, one a line.
    """

    model: str
    image_size: int | None = None
    embedding_dim: int | None = None
    classes: Path | None = None


@dataclass(frozen=True)
class Imported:
    """What an import wrote.

    Attributes:
        student: in floating point, in eval mode.
        files: that were written.
        told: what was found, kept and missing, in words.
    """

    student: Student
    files: list[Path]
    told: list[str]


def import_student(checkpoint: Path, out: Path, wanted: Wanted) -> Imported:
    """Read a checkpoint and write a student: weights, card, masks, ranges, and what is told about them.

    Args:
        checkpoint: .safetensors, or a pickle that needs no code to be read.
        out: a folder without a student.
        wanted: which network it is.

    Raises:
        UsageError: there is a student already; the network is unknown or another one; the classifier does not
            fit; the pickle could run code.
        EdgeproofError: the file is cut or damaged.
        MissingPackageError: there are ranges, and the package that simulates rounding is not installed.
    """
    for name in (WEIGHTS_FILE, CARD_FILE):
        if (out / name).exists():
            raise UsageError("there is a student here, which is not overwritten", where=out / name)
    read = read_checkpoint(checkpoint)
    earlier = sort_entries(read.tensors, read.modules)
    student, told = make_student(earlier, wanted, checkpoint)
    weights, masks, of_masks = apply_masks(earlier)
    student.load_tensors(with_bias(student, weights), checkpoint)
    student.eval()
    names = layer_names(student)
    placed, of_ranges = ranges_of(student, earlier, names)
    told = [*read.told, *told, *of_masks, *of_ranges]
    if earlier.left:
        told.append(
            f"not used: {counted(len(earlier.left), 'entry', 'entries')}: {some_of(sorted(earlier.left))}"
        )
    files = student.save(out)
    if masks:
        save_masks(out / MASKS_FILE, parameter_masks(masks, names))
        files.append(out / MASKS_FILE)
    if placed and (placed.activations or placed.weights):
        write_json(out / RANGES_FILE, placed.to_dict())
        files.append(out / RANGES_FILE)
        if placed.missing:
            told.append(
                f"INT8: to calibrate them all anew, name {out} as student.weights in a recipe with"
                " compress.quantization"
            )
    source = {"file": checkpoint.name, "sha256": sha256_of(checkpoint)}
    write_json(out / REPORT_FILE, {"checkpoint": source, "model": wanted.model, "told": told})
    return Imported(student, [*files, out / REPORT_FILE], told)


def make_student(earlier: Earlier, wanted: Wanted, checkpoint: Path) -> tuple[TimmStudent, list[str]]:
    """Return a student of the wanted shape with random weights, and what there is to say about it.

    With a classifier in the file that is its head; without one it gives the features of its backbone.

    Raises:
        UsageError: timm has no such network, or the file's classifier is not what was wanted.
    """
    if not timm.is_model(wanted.model):
        near = did_you_mean(wanted.model, timm.list_models())
        raise UsageError(f"timm has no model '{wanted.model}'.{near}", where="--model")
    known = timm.get_pretrained_cfg(wanted.model)
    size = wanted.image_size or (known.input_size[-1] if known else DEFAULT_SIZE)
    backbone = timm.create_model(wanted.model, num_classes=0)
    names = classifier_names(backbone)
    weight = earlier.weights.get(f"{names[0]}.weight") if len(names) == 1 else None
    classes = class_names(wanted, weight, checkpoint)
    try:
        head = "none" if weight is None else "linear"
        config = TimmStudent.Config(model=wanted.model, image_size=size, head=head)
    except ValidationError as error:
        raise UsageError(error.errors()[0]["msg"], where="--image-size") from error
    width = feature_width(backbone, config) if weight is None else weight.shape[0]
    source = "of the backbone, there is no classifier" if weight is None else f"of '{names[0]}'"
    check_width(wanted, f"gives {width} values ({source})", width, checkpoint)
    student = TimmStudent(config, width)
    student.classes = tuple(classes)
    gives = f"scores of {len(classes)} classes" if classes else f"{width} values"
    unnamed = "" if classes or weight is None else "; no --classes, so no names of them"
    if weight is not None and f"{names[0]}.bias" not in earlier.weights:
        unnamed += "; it has no bias, zeros are put there"
    return student, [
        f"student: {wanted.model}, gives {gives} ({source}{unnamed})",
        told_of_photos(student),
    ]


def check_width(wanted: Wanted, gives: str, width: int, checkpoint: Path) -> None:
    """Refuse a checkpoint that gives another number of values than was asked for."""
    if wanted.embedding_dim not in (None, width):
        raise UsageError(
            f"--embedding-dim is {wanted.embedding_dim}, the checkpoint {gives}",
            where=checkpoint,
            fix="leave it away; a recipe with this folder as student.weights makes a head of its own",
        )


def class_names(wanted: Wanted, weight: Tensor | None, checkpoint: Path) -> list[str]:
    """Return the names of the classes that the classifier scores; none where no file of them is given.

    Raises:
        UsageError: there are more or fewer of them than the classifier scores.
    """
    if wanted.classes is None:
        return []
    classes = read_labels(wanted.classes)
    if weight is None or len(classes) != weight.shape[0]:
        has = "no classifier" if weight is None else f"a classifier of {weight.shape[0]} classes"
        raise UsageError(
            f"{wanted.classes} names {counted(len(classes), 'class', 'classes')}, the checkpoint has {has}",
            where=checkpoint,
            fix="give the file of the classes that it was trained on, or leave --classes away",
        )
    return classes


def told_of_photos(student: TimmStudent) -> str:
    """Return how photos are prepared: the checkpoint says nothing of it, so timm's is assumed."""
    p = student.preprocess
    return (
        f"photos: {p.image_size} px after resizing to {p.resize_size} ({p.interpolation}), mean"
        f" {tuple(p.mean)}, std {tuple(p.std)}; timm's for this name, change config.json if it was another"
    )


def with_bias(student: TimmStudent, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with a bias of zeros where the classifier has none."""
    if not isinstance(student.head, nn.Linear):
        return weights
    name = f"{classifier_names(student.backbone)[0]}.bias"
    return {name: torch.zeros(student.head.out_features), **weights}


def layer_names(student: TimmStudent) -> dict[str, str]:
    """Return for each layer of the student its name in the checkpoint."""
    classifier = classifier_names(student.backbone)
    found = {}
    for name, module in student.named_modules():
        if name == "head" and isinstance(module, nn.Linear):
            found[name] = classifier[0]
        elif name.startswith("backbone."):
            found[name] = name.removeprefix("backbone.")
    return found


def parameter_masks(masks: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Return masks by the names of the student's parameters."""
    ours = {theirs: name for name, theirs in names.items()}
    split = {name: name.rpartition(".") for name in masks}
    return {f"{ours[layer]}.{parameter}": masks[name] for name, (layer, _, parameter) in split.items()}


def ranges_of(
    student: TimmStudent, earlier: Earlier, names: dict[str, str]
) -> tuple[PlacedRanges | None, list[str]]:
    """Return the ranges by our names, if there are any, and what there is to say about quantisation."""
    total, ranged = len(earlier.quantizers), earlier.ranged()
    if not total:
        return None, ["INT8: there are no ranges in the file, and it names no quantisers"]
    if not ranged:
        return None, [
            f"INT8: never calibrated: {counted(total, 'quantiser')} and not one range; whatever scales an"
            " export of it had came from the input that it was traced with"
        ]
    told = [f"INT8: {ranged} of {counted(total, 'quantiser')} have a range"]
    try:
        placed = place_ranges(student, earlier, names)
    except UsageError as error:
        return None, [*told, f"INT8: the ranges are not kept: {error.what}"]
    return placed, [*told, *placed.told]
