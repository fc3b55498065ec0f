"""The stage `curate`: images without labels, chosen by the words of the head.

The teacher embeds every image and every word. An image stays for the word that fits it best if it fits well
enough, and if no word of a wider vocabulary fits it better; what is broken, too small, or there twice is
taken out. The embeddings are kept: the stage `embed` takes over those of the images that stay.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import write_text
from edgeproof_configs.registry import component_class
from edgeproof_configs.run import RunDir
from edgeproof_configs.schema import CurateConfig
from edgeproof_configs.stage import StageContext, StageOutcome
from edgeproof_data.alike import Vectors
from edgeproof_data.check import usable
from edgeproof_data.cleaning.cleaning import Removed, removed_table
from edgeproof_data.cleaning.curation import Fitting, Leading, cosines_of, evened_out, said, sieved, told_of
from edgeproof_data.curated import TABLE
from edgeproof_data.near import check_near
from edgeproof_data.paths import counted, some_of
from edgeproof_data.sets import SPLITS, ImageSet, SplitName
from edgeproof_data.split_table import Entry, write_split
from edgeproof_train.embed import embed_split
from edgeproof_train.run_data import RunData
from edgeproof_train.text import TextBank, TextSpec, make_text_bank

REMOVED = "removed.csv"
UNREADABLE = "unreadable"
EMBED_BATCH = 64


def embedded_before(run: RunDir, split: str) -> Path:
    """Return where this stage keeps the teacher's embeddings of a part before anything is chosen."""
    return run.stage("curate") / split


def curate_stage(context: StageContext) -> StageOutcome:
    """Embed all images, choose those that fit the words, and write the table of them.

    Raises:
        UsageError: the training images have labels: there is nothing to choose.
        DataError: nothing is left for a part.
    """
    data, config, folder = RunData(context), context.recipe.curate, context.folder("curate")
    assert config is not None
    given = {part: data.given.split(part) for part in SPLITS}
    refuse_labelled(given["train"])
    if config.near:
        check_near()
    words, others = words_of(data, config)
    images: dict[SplitName, ImageSet] = {}
    caches: dict[SplitName, Vectors] = {}
    removed: list[Removed] = []
    for part in SPLITS:
        images[part], corrupt = usable(given[part])
        removed += [Removed(Entry(path, part, ""), UNREADABLE, reason) for path, reason in corrupt]
        if not len(images[part]):
            raise DataError(f"the {part} part has no image that can be read", where=data.given.root)
        cache = embed_split(
            data.teacher,
            images[part],
            embedded_before(context.run, part),
            batch_size=EMBED_BATCH,
            workers=context.recipe.train.workers,
        )
        lead = cache.key.teacher.get("lead_dim")
        caches[part] = cache if lead is None else Leading(cache, lead)
    if int(os.environ.get("RANK", "0")):
        return StageOutcome([])
    assert words.matrix is not None
    assert others.matrix is not None
    queries = np.concatenate([words.matrix, others.matrix])
    found = Fitting.of(images, caches, words.names, others.names, queries, config)
    cleaned, twins = sieved(found, config)
    kept, over, capped = evened_out(found, cleaned, config)
    for part in SPLITS:
        if not any(one.part == part for one in kept):
            cosine = cosines_of(found)
            raise DataError(
                f"no image is left for {part}: {counted(found.searched[part], 'image')} searched for"
                f" {counted(len(words.names), 'word')}; cosines with the best word are {cosine['p5']:.2f} to"
                f" {cosine['p95']:.2f} (5 to 95 %)",
                where=data.given.root,
                fix="lower curate.floor or curate.margin, give other words, or more images",
            )
    write_split(folder / TABLE, kept)
    write_text(folder / REMOVED, removed_table([*removed, *found.unfit, *twins, *over]))
    metrics = told_of(found, words.names, kept, twins, capped, unreadable=len(removed))
    empty = metrics["empty_words"]
    if empty:
        line = f"data: {counted(len(empty), 'word')} without a training image: {some_of(empty)}"
        print(line, file=sys.stderr, flush=True)
    return StageOutcome([folder / TABLE, folder / REMOVED], metrics, said(metrics))


def refuse_labelled(train: ImageSet) -> None:
    """Refuse to choose among images that somebody has labelled.

    Raises:
        UsageError: some have a label.
    """
    if (train.labels >= 0).any():
        raise UsageError(
            "curate chooses among images without labels, and the training images have some",
            where="curate",
            fix="set data.labels: none, or data.unlabelled: [train, val]; or remove curate",
        )


def words_of(data: RunData, config: CurateConfig) -> tuple[TextBank, TextBank]:
    """Return the words of the head, and those of the vocabulary that are not among them.

    Raises:
        UsageError: the head has no words.
    """
    head = data.recipe.head
    component: Any = component_class("head", head.kind)
    words: TextBank = component.make_bank(head, data.teacher, data.given)
    if words.matrix is None:
        raise UsageError(f"a head of kind '{head.kind}' has no words to choose by", where="curate")
    if config.vocabulary is None:
        return words, TextBank((), words.matrix[:0])
    in_csv = config.vocabulary.lower().endswith(".csv")
    plain = config.vocabulary_embeddings is not None or in_csv
    templates = "plain" if plain else getattr(head, "templates", "plain")
    spec = TextSpec(
        labels=config.vocabulary, templates=templates, text_embeddings=config.vocabulary_embeddings
    )
    wider = make_text_bank(spec, data.teacher, data.given)
    assert wider.matrix is not None
    new = np.flatnonzero(words.rows_of(wider.names) < 0)
    return words, TextBank(tuple(wider.names[row] for row in new), wider.matrix[new])
