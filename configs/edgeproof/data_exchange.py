"""`data export` and `data import`: data sets as tables and shards, and one manifest of what others write."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import write_text
from edgeproof_data.exchange.columnar import SUFFIXES, FloatName, write_table
from edgeproof_data.exchange.manifest import Columns, Manifest, Row, read_manifest
from edgeproof_data.exchange.parts import Part, parts_of_source
from edgeproof_data.exchange.shards import write_shards
from edgeproof_data.paths import counted
from edgeproof_data.sets import NO_LABEL, SPLITS, ImageSet


def export(
    source: str,
    out: Path,
    *,
    overrides: list[str],
    shards: int | None,
    part: str | None,
    dtype: str,
    as_json: bool,
) -> int:
    """Write a run's, a recipe's or a folder's images as a table or as shards, say how many, and return 0.

    Args:
        source: a run, whose embeddings go with it; a recipe; or a folder of images.
        out: a new table, or with `shards` a folder.
        overrides: settings of the recipe.
        shards: samples of each shard.
        part: train, val or test alone.
        dtype: of embeddings, float16 or float32.
        as_json: print JSON.

    Raises:
        UsageError: an option does not fit, or the table exists.
    """
    if dtype not in ("float16", "float32"):
        raise UsageError(f"unknown --dtype '{dtype}', expected float16 or float32")
    name: FloatName = "float16" if dtype == "float16" else "float32"
    if shards is None and out.suffix not in SUFFIXES:
        raise UsageError("say what to write", fix=f"OUT{SUFFIXES[0]} for a table, --shards 1000 for shards")
    if shards is None and out.exists():
        raise UsageError("this file exists and is not overwritten", where=out, fix="choose another name")
    parts = [one for one in parts_of(source, overrides) if part in (None, one.name)]
    if not parts:
        raise UsageError(f"there is no part '{part}'", fix=f"expected one of {', '.join(SPLITS)}")
    told = {"images": {one.name: len(one.images) for one in parts}, "embeddings": parts[0].dim}
    if shards is None:
        write_table(out, parts, name)
    else:
        told["shards"] = len(write_shards(out, parts, shards, dtype=name))
    counts = ", ".join(f"{count} {key}" for key, count in told["images"].items())
    also = f" with embeddings of {parts[0].dim} values" if parts[0].dim else ""
    in_shards = f" in {told['shards']} shards" if shards is not None else ""
    print(json.dumps(told) if as_json else f"{out}: {counts}{in_shards}{also}")
    return 0


def parts_of(source: str, overrides: list[str]) -> list[Part]:
    """Return the parts of a run, a recipe or a folder.

    Raises:
        UsageError: settings are given where they have no effect.
        DataError: there is no image.
    """
    place = Path(source)
    is_run = (place / "recipe.resolved.yaml").exists()
    if overrides and (is_run or place.is_dir()):
        raise UsageError("--set has no effect here", where=place, fix="leave it away, or name a recipe")
    if place.is_dir() and not is_run:
        return parts_of_folder(place)
    from edgeproof_configs.loader import load_recipe
    from edgeproof_configs.registry import build
    from edgeproof_data.cache import EmbeddingCache
    from edgeproof_data.cache.layout import MANIFEST
    from edgeproof_data.curated import TABLE, Curated

    recipe = load_recipe(str(place / "recipe.resolved.yaml") if is_run else source, overrides).recipe
    data = build("data", recipe.data)
    data.prepare()
    if is_run and recipe.curate is not None:
        data = Curated(data, place / "curate" / TABLE)
    caches = {
        split: EmbeddingCache.open(place / "embed" / split)
        for split in SPLITS
        if is_run and (place / "embed" / split / MANIFEST).exists()
    }
    return parts_of_source(data, caches)


def parts_of_folder(folder: Path) -> list[Part]:
    """Return the images below a folder: `train`, `val` and `test` where it has these, else all as train.

    Labels are the first folders below a part.
    """
    rows = read_manifest(folder, folder, Columns(), 0.5, 0).rows
    # Without folders for parts nothing is taken out: the whole folder is wanted.
    own = {path.name for path in folder.iterdir() if path.is_dir()} & set(SPLITS)
    names = sorted({row.label for row in rows} - {""})
    number = {name: index for index, name in enumerate(names)}
    found = []
    for part in SPLITS:
        chosen = [row for row in rows if (row.part if own else "train") == part]
        if chosen:
            labels = np.array([number.get(row.label, NO_LABEL) for row in chosen], np.int64)
            images = ImageSet(folder, tuple(row.path for row in chosen), labels, tuple(names))
            found.append(Part(part, images))
    return found


def import_data(
    source: Path, out: Path, *, root: Path | None, columns: Columns, test: float, seed: int, as_json: bool
) -> int:
    """Write a manifest `path,part,label` of what another tool wrote, and what belongs to it; return 0.

    Beside OUT.csv captions go into OUT.captions.csv, embeddings into OUT.npy with OUT.index.csv, as
    `data.captions` and the teacher `stored` read them.

    Args:
        source: a folder, csv, JSON lines, COCO json, Parquet or Arrow file.
        out: a new `.csv`.
        root: the folder that its paths start at; that of the source if not given.
        columns: what they are called.
        test: fraction to test on where the source has no parts.
        seed: of this choice.
        as_json: print JSON.

    Raises:
        UsageError: a file exists or has another ending, or a column is not there.
        DataError: the source cannot be used.
    """
    if out.suffix != ".csv":
        raise UsageError("a manifest ends in .csv", where=out, fix=f"say {out.with_suffix('.csv')}")
    beside = {name: out.with_suffix(name) for name in (".captions.csv", ".npy", ".index.csv")}
    existing = [file for file in (out, *beside.values()) if file.exists()]
    if existing:
        raise UsageError(
            "this file exists and is not overwritten", where=existing[0], fix="choose another name"
        )
    if not source.exists():
        raise DataError("there is no such source", where=source, fix="correct the path")
    root = (root or (source if source.is_dir() else source.parent)).absolute()
    found = read_manifest(source, root, columns, test, seed)
    write_beside(found, beside)
    # Last of all: what stands beside it counts from here on.
    write_csv(out, ("path", "part", "label"), [(row.path, row.part, row.label) for row in found.rows])
    counts = Counter(row.part for row in found.rows)
    classes = len({row.label for row in found.rows} - {""})
    told = {"images": dict(counts), "classes": classes, "written": str(out)}
    told |= {"captions": sum(map(len, (row.captions for row in found.rows)))}
    told |= {"embeddings": None if found.embeddings is None else found.embeddings.shape[1]}
    listed = ", ".join(f"{counts[part]} {part}" for part in SPLITS if counts[part])
    lines = [
        f"{out}: {listed}, {counted(classes, 'class', 'classes')}",
        f"  in a recipe: data.root={root} data.split={out.absolute()}",
    ]
    print(json.dumps(told) if as_json else "\n".join(lines))
    return 0


def write_beside(found: Manifest, beside: dict[str, Path]) -> None:
    """Write captions and embeddings, where there are some."""
    captions = [(row.path, text) for row in found.rows for text in row.captions]
    if captions:
        write_csv(beside[".captions.csv"], ("path", "caption"), captions)
    if found.embeddings is not None:
        from edgeproof_data.cache.layout import write_array

        rows = found.embeddings
        write_array(beside[".npy"], rows.dtype, rows.shape, [rows])
        write_csv(beside[".index.csv"], ("path",), [(row.path,) for row in found.rows])


def write_csv(file: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]] | list[Row]) -> None:
    """Write a table atomically."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_text(file, text.getvalue())
