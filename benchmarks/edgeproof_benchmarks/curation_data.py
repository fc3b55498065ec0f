"""How images without labels were chosen, as the report reads it.

`curation` of `result.json` are the figures of the stage `curate`;

`report/curation.json`: [{"word", "images": [{"path", "thumbnail": base64 of a small JPEG}]}]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeproof_benchmarks.example_data import picture
from edgeproof_data.curated import TABLE
from edgeproof_data.sets import SPLITS
from edgeproof_data.split_table import read_rows
from edgeproof_data.splitting import hash_order
from edgeproof_deploy.examples import thumbnail
from edgeproof_train.run_data import RunData

PICTURED_WORDS, PICTURES_EACH = 12, 6


@dataclass(frozen=True)
class Curation:
    """What was looked at, what stayed and why not.

    Attributes:
        figures: of the stage.
        pictures: of the words with the most training images: path and small JPEG.
    """

    figures: Mapping[str, Any]
    pictures: tuple[tuple[str, tuple[tuple[str, bytes], ...]], ...] = ()


def pictured(data: RunData) -> list[dict[str, Any]]:
    """Return some training images of the words that have most, drawn by a hash of their paths."""
    paths: dict[str, list[str]] = defaultdict(list)
    for path, part, word in read_rows(data.context.run.stage("curate") / TABLE, SPLITS, "image"):
        if part == "train":
            paths[word].append(path)
    images = data.split("train")
    place = {path: index for index, path in enumerate(images.paths)}
    most = sorted(paths, key=lambda word: (-len(paths[word]), word))[:PICTURED_WORDS]
    found: list[dict[str, Any]] = []
    for word in most:
        readable = [path for path in paths[word] if path in place]
        drawn = [readable[number] for number in hash_order(readable, 0)[:PICTURES_EACH].tolist()]
        shown = [{"path": path, "thumbnail": thumbnail(images.file(place[path]))} for path in drawn]
        found.append({"word": word, "images": shown})
    return found


def read_curation(figures: Mapping[str, Any], pictures: Sequence[Mapping[str, Any]]) -> Curation:
    """Read the figures and the pictures."""
    return Curation(
        figures,
        tuple(
            (
                str(row["word"]),
                tuple(
                    (str(one["path"]), picture(one["thumbnail"], f"the picture of {one['path']}"))
                    for one in row["images"]
                ),
            )
            for row in pictures
        ),
    )
