"""Words as unit vectors: the text side of a zero-shot head and of text-space losses.

For each label every template makes a prompt, the teacher's text tower embeds it, and the label's row is the
mean of the normalised embeddings, normalised again (CLIP, arXiv 2103.00020). Or the rows come from a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import model_validator
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from edgeproof_configs.errors import DataError, EdgeproofError, UsageError
from edgeproof_configs.files import digest_of, read_json, sha256_of, write_bytes, write_json
from edgeproof_configs.schema import Config
from edgeproof_data.paths import resolve_path, some_of
from edgeproof_data.prompts import clean_name, prompts_for, read_prompts, read_templates
from edgeproof_data.sets import DataSource
from edgeproof_train.arrays import read_rows
from edgeproof_train.teacher import Teacher, check_widths

PROMPTS_AT_ONCE = 256

Prompts = tuple[tuple[str, ...], ...]
Rows = tuple[np.ndarray, Prompts, dict[str, Any]]


class TextSpec(Config):
    """Which words, and where their embeddings come from.

    Attributes:
        labels: a file with one label a line, or csv `label,prompt` with the sentences that stand for each
            label; without it the data's class names are taken.
        templates: a set of prompt templates by name, or a file with one a line; for the teacher's text tower.
        text_embeddings: a .npy file (K, D) with a row for each label, in place of the text tower.
    """

    labels: str | None = None
    templates: str = "plain"
    text_embeddings: str | None = None

    @model_validator(mode="after")
    def _templates_have_an_effect(self) -> TextSpec:
        if self.text_embeddings and self.templates != "plain":
            raise ValueError("templates has no effect beside text_embeddings: remove one of them")
        if self.labels and self.labels.lower().endswith(".csv") and self.templates != "plain":
            raise ValueError("templates has no effect beside labels in csv, which have their own prompts")
        return self


@dataclass(frozen=True)
class TextBank:
    """Labels as unit vectors.

    Attributes:
        names: K labels, all different.
        matrix: (K, D) float32, unit rows; None where the labels have none: in the space of class scores each
            is an axis, and a head that is fitted on images alone needs no words.
        prompts: the texts behind each row; empty where the rows come from a file.
        source: what the rows depend on (teacher or file, templates, labels), with digests.
    """

    names: tuple[str, ...]
    matrix: np.ndarray | None
    prompts: Prompts = ()
    source: dict[str, Any] = field(default_factory=dict)

    def rows_of(self, names: Sequence[str]) -> np.ndarray:
        """Return the row of each name, int64, -1 where the bank has no such label."""
        row = {clean_name(name): index for index, name in enumerate(self.names)}
        return np.array([row.get(clean_name(name), -1) for name in names], dtype=np.int64)

    def save(self, path: Path) -> None:
        """Write `<path>.safetensors`, where there are embeddings, and `<path>.json`."""
        tensors = path.with_name(f"{path.name}.safetensors")
        if self.matrix is None:
            tensors.unlink(missing_ok=True)
        else:
            write_bytes(tensors, save({"text": self.matrix}))
        described = {"names": self.names, "prompts": self.prompts, "source": self.source}
        described |= {"rows": 0} if self.matrix is None else {}
        write_json(path.with_name(f"{path.name}.json"), described)

    @classmethod
    def load(cls, path: Path) -> TextBank:
        """Read what `save` wrote.

        Raises:
            EdgeproofError: a file is missing, cut, or not of the other.
        """
        tensors, described = path.with_name(f"{path.name}.safetensors"), path.with_name(f"{path.name}.json")
        plain = read_json(described) if described.exists() else {}
        for file in (described, *(() if plain.get("rows") == 0 else (tensors,))):
            if not file.exists():
                raise EdgeproofError(
                    "text embeddings are missing", where=file, fix="run the stage `embed` again"
                )
        if plain.get("rows") == 0:
            return cls(tuple(plain["names"]), None, (), plain["source"])
        try:
            matrix = load_file(tensors)["text"]
        except SafetensorError as error:
            raise EdgeproofError(
                f"cut or damaged: {error}", where=tensors, fix="run the stage `embed` again"
            ) from error
        if len(matrix) != len(plain["names"]):
            raise EdgeproofError(
                f"{len(plain['names'])} labels, {len(matrix)} rows",
                where=path,
                fix="run the stage `embed` again",
            )
        prompts = tuple(tuple(row) for row in plain["prompts"])
        return cls(tuple(plain["names"]), matrix, prompts, plain["source"])


def make_text_bank(spec: TextSpec, teacher: Teacher, source: DataSource) -> TextBank:
    """Return the text embeddings of a recipe's labels.

    Raises:
        UsageError: there is neither a text tower nor a file.
        DataError: labels are missing, repeated, or not as many as the file's rows; or the widths of text and
            image embeddings differ.
    """
    teacher, names = teacher.lead, label_names(spec, source)
    place = spec.labels or "class names of the data"
    if spec.text_embeddings is not None:
        matrix, prompts, made_from = _stored_rows(spec.text_embeddings, names, teacher, source.root)
    else:
        templates = read_templates(spec.templates, source.root)
        texts = [tuple(prompts_for(name, templates)) for name in names]
        if spec.labels is not None and spec.labels.lower().endswith(".csv"):
            texts = [tuple(row) for row in read_prompts(resolve_path(spec.labels, source.root)).values()]
            templates = []
        matrix, prompts, made_from = _encoded_rows(tuple(texts), templates, teacher, place)
    check_widths(matrix.shape[1], teacher.embedding_dim, spec.text_embeddings)
    return TextBank(names, matrix, prompts, {**made_from, "labels": place, "labels_sha256": digest_of(names)})


def check_words(spec: TextSpec, source: DataSource, where: str) -> None:
    """Refuse words that `make_text_bank` would refuse, as far as that shows without a teacher.

    Args:
        spec: which words.
        source: the data that may name them, under whose root files lie.
        where: the part of the recipe that has them.

    Raises:
        UsageError: there is no such template set, nor such a file.
        DataError: a file is missing or cannot be read; labels are missing, repeated, or not as many as rows.
    """
    names = label_names(spec, source)
    if spec.text_embeddings is not None:
        _rows_for(spec.text_embeddings, names, source.root)
        return
    try:
        read_templates(spec.templates, source.root)
    except DataError as error:
        raise UsageError(error.what, where=f"{where}.templates", fix=error.fix) from error


def stored_width(spec: TextSpec, root: Path) -> int | None:
    """Return how many values a stored text embedding has; None where none are stored."""
    if spec.text_embeddings is None:
        return None
    return int(read_rows(resolve_path(spec.text_embeddings, root)).shape[1])


def label_names(spec: TextSpec, source: DataSource) -> tuple[str, ...]:
    """Return the labels: the lines of the file that the recipe names, or the data's class names.

    Raises:
        DataError: there are none, or one is there twice.
    """
    if spec.labels is not None:
        place = resolve_path(spec.labels, source.root)
        names = tuple(read_prompts(place))
    else:
        place = source.root
        names = tuple(clean_name(name) for name in source.class_names)
    if not names:
        raise DataError(
            "there are no labels: the data have no class names",
            where=place,
            fix="give a file with one label a line: head.labels: labels.txt",
        )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"{len(repeated)} labels are there more than once: {some_of(repeated)}",
            where=place,
            fix="give each class its own words, such as 'crane bird' and 'construction crane'",
        )
    return names


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Return the rows divided by their length, float32; the norm is taken in float64."""
    wide = matrix.astype(np.float64)
    return (wide / np.linalg.norm(wide, axis=-1, keepdims=True)).astype(np.float32)


def _stored_rows(value: str, names: tuple[str, ...], teacher: Teacher, root: Path) -> Rows:
    path, rows = _rows_for(value, names, root)
    _check_origin(path, teacher)
    return unit_rows(rows), (), {"text_embeddings": value, "sha256": sha256_of(path)}


def _rows_for(value: str, names: tuple[str, ...], root: Path) -> tuple[Path, np.ndarray]:
    path = resolve_path(value, root)
    rows = read_rows(path)
    if len(rows) != len(names):
        raise DataError(
            f"{len(rows)} text embeddings for {len(names)} labels",
            where=path,
            fix="give the label file that belongs to it: head.labels, one line for each row",
        )
    return path, rows


def _check_origin(path: Path, teacher: Teacher) -> None:
    """Refuse rows of another model of the same width, where a `.json` beside the file tells whose they are.

    Raises:
        DataError: they are of other weights than the teacher that looks at the images.
    """
    card = path.with_suffix(".json")
    if not teacher.live or not card.is_file():
        return
    told = read_json(card).get("teacher", {}).get("weights_sha256")
    if told is not None and told != teacher.identity().get("weights_sha256"):
        raise DataError(
            "these text embeddings were made by another teacher: in its space they would mean nothing",
            where=card,
            fix="make them with this one: edgeproof text PROMPTS OUT.npy --recipe RECIPE",
        )


def _encoded_rows(prompts: Prompts, templates: list[str], teacher: Teacher, place: str) -> Rows:
    if not teacher.has_text:
        raise UsageError(
            f"a teacher of kind '{teacher.config.kind}' has no text tower to embed {len(prompts)} labels",
            where=place,
            fix="give stored ones: head.text_embeddings: FILE.npy (a row a label) and head.labels: FILE.txt",
        )
    flat = [prompt for row in prompts for prompt in row]
    encoded = [
        teacher.encode_text(flat[start : start + PROMPTS_AT_ONCE]).cpu().numpy()
        for start in range(0, len(flat), PROMPTS_AT_ONCE)
    ]
    unit = unit_rows(np.concatenate(encoded))
    ends = np.cumsum([len(row) for row in prompts])
    means = [rows.mean(axis=0, dtype=np.float64) for rows in np.split(unit, ends[:-1])]
    return unit_rows(np.stack(means)), prompts, {"teacher": teacher.identity(), "templates": templates}
