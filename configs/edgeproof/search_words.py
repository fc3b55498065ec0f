"""What a search looks for: words by a text tower or by stored text embeddings, or images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeproof.data_search import Wanted
from edgeproof.teacher_choice import TeacherChoice
from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import read_json
from edgeproof_data.folders import IMAGE_SUFFIXES, list_images
from edgeproof_data.paths import some_of
from edgeproof_data.prompts import clean_name, read_labels, read_prompts
from edgeproof_data.search.collection import CARD

Texts = dict[str, list[str]]
"""What is said of each name."""


def wanted_words(prompts: Path, text: Path | None, teacher: TeacherChoice, collection: Path | None) -> Wanted:
    """Return names and unit embeddings of a file of prompts.

    Args:
        prompts: one a line, or csv `label,prompt`: the embeddings of a label's prompts are averaged.
        text: stored text embeddings in place of a text tower; with a `.json` or `.txt` of names beside it
            rows are found by name, otherwise they must be in the order of the prompts.
        teacher: whose text tower embeds them.
        collection: what is searched; it must be of the same teacher.

    Raises:
        UsageError: neither embeddings nor a teacher are given, or both.
        DataError: a name has no embedding; or words and images are not of one model.
    """
    return words_of(read_prompts(prompts), text, teacher, collection)


def words_of(texts: Texts, text: Path | None, teacher: TeacherChoice, collection: Path | None) -> Wanted:
    """Return names and unit embeddings of texts that are said of each name; otherwise as `wanted_words`."""
    if text is not None:
        if teacher.given:
            raise UsageError("--text and a teacher: which embeds the words?", fix="say one of them")
        return Wanted(tuple(texts), _stored(text, tuple(texts)))
    built = teacher.build()
    if collection is not None:
        check_same_teacher(built.identity(), collection)
    from edgeproof.text_embeddings import embed_rows

    return Wanted(tuple(texts), embed_rows(list(texts.values()), built).astype(np.float32))


def wanted_images(images: Path, teacher: TeacherChoice, collection: Path) -> Wanted:
    """Return names and unit embeddings of an image, or of a folder of images.

    Each class folder is one query, the mean of its images; images that lie in no class folder stand for
    themselves.

    Raises:
        UsageError: no teacher is given.
        DataError: there is no image, or the collection is of another teacher.
    """
    root = (images if images.is_dir() else images.parent).absolute()
    paths = list_images(root) if images.is_dir() else [images.name]
    built = teacher.build(root)
    check_same_teacher(built.identity(), collection)
    from edgeproof_data.sets import unlabelled
    from edgeproof_train.embed import embed
    from edgeproof_train.text import unit_rows

    blocks = [rows for _, rows, _ in embed(built, unlabelled(root, paths), np.arange(len(paths)), 32, 0)]
    unit = unit_rows(np.concatenate([np.asarray(rows) for rows in blocks]))
    names = [clean_name(path.split("/")[0]) if "/" in path else path for path in paths]
    distinct = list(dict.fromkeys(names))
    rows = [unit[[name == one for name in names]].mean(axis=0, dtype=np.float64) for one in distinct]
    return Wanted(tuple(distinct), unit_rows(np.stack(rows)))


def is_images(prompts: Path) -> bool:
    """Whether what is searched for are images: a folder of them, or one."""
    return prompts.is_dir() or prompts.suffix.lower() in IMAGE_SUFFIXES


def check_same_teacher(identity: dict[str, object], collection: Path) -> None:
    """Refuse to compare what two different teachers said.

    Published embeddings do not tell their teacher; of them only the width can be compared.

    Raises:
        DataError: the collection was embedded by another one.
    """
    card = collection / CARD
    if not card.is_file():
        return
    told = read_json(card)["teacher"]
    if told.get("kind") != "published" and told.get("weights_sha256") != identity.get("weights_sha256"):
        raise DataError(
            "the collection was embedded by another teacher: in its space these words mean nothing",
            where=card,
            fix="take the same teacher, or make the collection again with this one",
        )


def _stored(text: Path, names: tuple[str, ...]) -> NDArray[np.float32]:
    from edgeproof_train.arrays import read_rows
    from edgeproof_train.text import unit_rows

    matrix = read_rows(text)
    known = _names_beside(text, len(matrix))
    if known is None:
        if len(matrix) != len(names):
            raise DataError(
                f"{len(matrix)} text embeddings for {len(names)} prompts",
                where=text,
                fix=f"give names beside it ({text.with_suffix('.txt').name}), or a row for each prompt",
            )
        return unit_rows(matrix)
    row = {name: place for place, name in enumerate(known)}
    missing = [name for name in names if name not in row]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(names)} prompts have no text embedding: {some_of(missing)}",
            where=text,
            fix="take other words, or say a teacher with a text tower",
        )
    return unit_rows(matrix[[row[name] for name in names]])


def _names_beside(text: Path, count: int) -> Sequence[str] | None:
    """Return the names of the rows of an array, where a file beside it tells them."""
    card, listed = text.with_suffix(".json"), text.with_suffix(".txt")
    names: Sequence[str] | None = None
    if card.is_file():
        names = [clean_name(str(name)) for name in read_json(card).get("names", [])]
    elif listed.is_file():
        names = read_labels(listed)
    if names is not None and len(names) != count:
        raise DataError(f"{count} text embeddings, {len(names)} names beside them", where=text)
    return names
