"""Writes the rendered data set: class folders, captions, labels. One spec gives the same bytes every time."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from edgeproof_configs.files import explain_os_errors, write_json, write_text
from edgeproof_data.solids.captions import captions_of
from edgeproof_data.solids.render import render
from edgeproof_data.solids.scene import draw_solid, draw_view
from edgeproof_data.solids.spec import MATERIALS, PAIRS, SPLITS, VERSION, Pair, SolidsSpec, pairs_in

OBJECTS_PER_TASK = 4


@dataclass(frozen=True)
class ObjectId:
    """One object of the data set; `number` is unique within its class."""

    split: str
    pair: Pair
    number: int

    @property
    def material(self) -> str:
        """The materials take turns, so that every class of three objects has seen them all."""
        return MATERIALS[(self.number + PAIRS.index(self.pair)) % len(MATERIALS)]

    def paths(self, spec: SolidsSpec) -> list[str]:
        """Return the paths of its views, relative to the data set's folder."""
        folder = f"{self.split}/{self.pair.folder}"
        return [f"{folder}/obj{self.number:03d}_v{view:02d}.png" for view in range(spec.views_in(self.split))]


def objects_of(spec: SolidsSpec) -> Iterator[ObjectId]:
    """Yield every object of the data set, in the order of the captions file."""
    for split in SPLITS:
        for pair in pairs_in(split):
            for number in spec.objects_in(split):
                yield ObjectId(split, pair, number)


def render_solids(
    spec: SolidsSpec,
    root: Path,
    progress: Callable[[int, int], None] | None = None,
    processes: int | None = None,
) -> None:
    """Render a data set into a folder.

    Writes `{train,val,test}/<colour>_<shape>/obj<number>_v<view>.png`, `labels.txt` (the 64 class names in
    label order), `unseen.txt` (those that only `test` has), `captions.csv` (`path,caption`, several rows an
    image) and `solids.json` (the spec and the counts).

    Args:
        spec: what to render.
        root: folder to write into; created if it is not there.
        progress: called with the number of images done and of all images.
        processes: how many render at once; by default one a core. More than one are started afresh (spawned),
            so a script that calls this needs the usual `if __name__ == "__main__":`.

    Raises:
        EdgeproofError: the folder cannot be written or the disk is full.
    """
    objects = list(objects_of(spec))
    with explain_os_errors(root):
        for folder in {f"{item.split}/{item.pair.folder}" for item in objects}:
            (root / folder).mkdir(parents=True, exist_ok=True)
    tasks = [objects[at : at + OBJECTS_PER_TASK] for at in range(0, len(objects), OBJECTS_PER_TASK)]
    done, total = 0, sum(spec.count(split) for split in SPLITS)
    for images in _render_all(spec, root, tasks, processes or len(os.sched_getaffinity(0))):
        done += images
        if progress:
            progress(done, total)
    _write_tables(spec, root, objects)


def _render_all(spec: SolidsSpec, root: Path, tasks: list[list[ObjectId]], processes: int) -> Iterator[int]:
    """Yield the number of images of each finished task."""
    if processes == 1:
        yield from (_render_objects(spec, root, task) for task in tasks)
        return
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        pending = [pool.submit(_render_objects, spec, root, task) for task in tasks]
        yield from (future.result() for future in as_completed(pending))
    finally:
        pool.shutdown(cancel_futures=True)


def _render_objects(spec: SolidsSpec, root: Path, objects: list[ObjectId]) -> int:
    """Render and write all views of some objects; each has a random stream of its own."""
    written = 0
    for item in objects:
        place = (SPLITS.index(item.split), PAIRS.index(item.pair), item.number)
        random = np.random.default_rng([spec.seed, *place])
        solid = draw_solid(item.pair, item.material, random)
        for path in item.paths(spec):
            image = Image.fromarray(render(solid, draw_view(spec.tilt_degrees, random), spec.image_size))
            with explain_os_errors(root / path):
                image.save(root / path, format="PNG", compress_level=3)
            written += 1
    return written


def _write_tables(spec: SolidsSpec, root: Path, objects: list[ObjectId]) -> None:
    """Write what stands beside the images."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("path", "caption"))
    for item in objects:
        captions = captions_of(item.pair, item.material)
        writer.writerows((path, caption) for path in item.paths(spec) for caption in captions)
    write_text(root / "captions.csv", table.getvalue())
    write_text(root / "labels.txt", "".join(f"{pair.name}\n" for pair in PAIRS))
    write_text(root / "unseen.txt", "".join(f"{pair.name}\n" for pair in PAIRS if pair.held_out))
    counts = {split: spec.count(split) for split in SPLITS}
    write_json(
        root / "solids.json",
        {"version": VERSION, "digest": spec.digest(), "spec": asdict(spec), "images": counts},
    )
