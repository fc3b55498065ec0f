"""Embeddings of images that others computed and published: arrays with a table of URLs beside each.

It is the layout of clip-retrieval, in which LAION published its sets: `img_emb/img_emb_0.npy` with
`metadata/metadata_0.parquet`, joined by the number in their names; or parquet files that have the embeddings
in a column. Safety tags (`NSFW`, `punsafe`) are taken along. Nothing is unpickled.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import DataError, MissingPackageError
from edgeproof_configs.files import digest_of, sha256_of
from edgeproof_configs.progress import progress
from edgeproof_data.cache import CacheKey, CacheWriter, EmbeddingCache
from edgeproof_data.paths import some_of
from edgeproof_data.search.collection import SAFE, UNKNOWN, UNSAFE, UNSURE
from edgeproof_data.sets import unlabelled

NAME_COLUMNS = ("url", "URL", "image_url", "image_path", "path")
VECTOR_COLUMNS = ("embedding", "embeddings", "image_embedding", "img_emb", "vector")
TAG_COLUMNS = ("NSFW", "nsfw")
CHANCE_COLUMNS = ("punsafe", "p_unsafe")
TAGS = {"UNLIKELY": SAFE, "SAFE": SAFE, "UNSURE": UNSURE, "LIKELY": UNSAFE, "NSFW": UNSAFE, "UNSAFE": UNSAFE}
UNSAFE_FROM = 0.5
LONGEST_NAME = 4_096
NO_CONTENT = "0" * 64
ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Published:
    """Pairs of array and table, of one width.

    Attributes:
        folder: where they lie.
        pairs: array and table; the same file twice where the table has the embeddings.
        dim: width of the embeddings.
    """

    folder: Path
    pairs: tuple[tuple[Path, Path], ...]
    dim: int

    @classmethod
    def open(cls, folder: Path) -> Published:
        """Find the files and compare rows and widths.

        Raises:
            DataError: a file has no counterpart, is cut or not what it should be, or widths differ.
            MissingPackageError: pyarrow is not installed.
        """
        pairs = _pairs(folder)
        widths = {array.name: _checked(array, table) for array, table in pairs}
        if len(set(widths.values())) > 1:
            shown = [f"{name} {width}" for name, width in widths.items()]
            raise DataError(
                f"embeddings of different widths: {some_of(shown)}",
                where=folder,
                fix="all files must be of one model",
            )
        return cls(folder, pairs, next(iter(widths.values())))

    def key(self) -> CacheKey:
        """Return what the embeddings depend on: the files' contents."""
        digests = [sha256_of(file) for pair in self.pairs for file in dict.fromkeys(pair)]
        return CacheKey({"kind": "published", "weights_sha256": digest_of(digests)}, None)


def is_published(folder: Path) -> bool:
    """Whether a folder holds parquet tables, and so published embeddings rather than images."""
    return next(folder.rglob("*.parquet"), None) is not None


def take_in(
    published: Published, folder: Path
) -> tuple[EmbeddingCache, NDArray[np.uint8] | None, Counter[str]]:
    """Pack published embeddings into a cache.

    Rows without a usable name or direction, and further rows of the same URL, are left out and counted.

    Returns:
        The cache, the safety tag of each row (None where no table has any), and how many rows were left out
        by reason.
    """
    names: list[str] = []
    tags: list[int] = []
    kept: list[NDArray[np.int64]] = []
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    tagged = False
    for array, table in published.pairs:
        content = _table(table)
        good = _usable(_vectors(array))
        listed, safety = _names(content, table), _safety(content)
        tagged |= safety is not None
        rows = []
        for row, name in enumerate(listed):
            reason = _reason(name, bool(good[row]), seen)
            if reason is None and name is not None:
                seen.add(name)
                names.append(name)
                rows.append(row)
                tags.append(UNKNOWN if safety is None else safety[row])
            else:
                left_out[reason or ""] += 1
        kept.append(np.array(rows, np.int64))
    if not names:
        raise DataError("no usable embedding in these files", where=published.folder)
    cache = _packed(published, folder, names, kept)
    return cache, np.array(tags, np.uint8) if tagged else None, left_out


def _packed(
    published: Published, folder: Path, names: list[str], kept: list[NDArray[np.int64]]
) -> EmbeddingCache:
    writer = CacheWriter(folder, published.key(), unlabelled(Path("/"), names), published.dim)
    pending = np.zeros(len(names), bool)
    pending[writer.pending()] = True
    start = 0
    with progress("take in", len(names), "embeddings") as shown:
        for (array, _), rows in zip(published.pairs, kept, strict=True):
            vectors = _vectors(array)
            for first in range(0, len(rows), ROWS_AT_ONCE):
                some = rows[first : first + ROWS_AT_ONCE]
                places = np.arange(start + first, start + first + len(some))
                todo = pending[places]
                if todo.any():
                    wanted = np.asarray(vectors[some[todo]], np.float32)
                    writer.add(places[todo], wanted, [NO_CONTENT] * len(wanted))
                shown.advance(len(some))
            start += len(rows)
    return writer.finish()


def _pairs(folder: Path) -> tuple[tuple[Path, Path], ...]:
    arrays = _numbered([file for file in sorted(folder.rglob("*.npy")) if not _of_text(file, folder)])
    tables = _numbered(sorted(folder.rglob("*.parquet")))
    if not arrays:
        return tuple((file, file) for _, file in sorted(tables.items()))
    alone = [
        file.name for key, file in [*arrays.items(), *tables.items()] if (key in arrays) != (key in tables)
    ]
    if alone:
        raise DataError(
            f"array and table do not come in pairs: {some_of(alone)} alone",
            where=folder,
            fix="each img_emb_N.npy needs its metadata_N.parquet: a half-finished copy?",
        )
    return tuple((arrays[key], tables[key]) for key in sorted(arrays))


def _of_text(file: Path, folder: Path) -> bool:
    """Whether an array holds the embeddings of captions, which clip-retrieval writes beside the images'."""
    return "text" in file.relative_to(folder).as_posix()


def _numbered(files: list[Path]) -> dict[int, Path]:
    """Return files by the last number in their names; -1 where there is none."""
    found: dict[int, Path] = {}
    for file in files:
        numbers = re.findall(r"\d+", file.stem)
        key = int(numbers[-1]) if numbers else -1
        if key in found:
            raise DataError(
                f"two files of the same number: {found[key].name} and {file.name}",
                where=file.parent,
                fix="take in one set at a time",
            )
        found[key] = file
    return found


def _checked(array: Path, table: Path) -> int:
    """Return the width of an array, after comparing its rows with the table's."""
    vectors, content = _vectors(array), _table(table)
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.shape[1]:
        raise DataError(
            f"expected floating-point embeddings (N, D), got {vectors.dtype} of shape {vectors.shape}",
            where=array,
        )
    if len(vectors) != content.num_rows:
        raise DataError(
            f"{len(vectors)} embeddings, {content.num_rows} rows in {table.name}",
            where=array,
            fix="fetch both files again: one of them is cut",
        )
    return vectors.shape[1]


def _vectors(file: Path) -> NDArray[Any]:
    if file.suffix == ".parquet":
        return _column_of_vectors(file)
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"not a readable .npy array: {error}", where=file, fix="fetch it again") from error
    if not isinstance(found, np.ndarray):
        raise DataError("an .npz archive, expected one .npy array", where=file)
    return found


def _column_of_vectors(file: Path) -> NDArray[np.float32]:
    table = _table(file)
    name = next((name for name in VECTOR_COLUMNS if name in table.column_names), None)
    if name is None:
        raise DataError(
            f"no .npy files, and no column {', '.join(VECTOR_COLUMNS)}; there are: "
            + ", ".join(table.column_names),
            where=file,
        )
    rows = table.column(name).to_pylist()
    if any(row is not None and not isinstance(row, list) for row in rows):
        kind = table.schema.field(name).type
        raise DataError(f"column {name} holds {kind}, expected lists of numbers", where=file)
    widths = Counter(-1 if row is None else len(row) for row in rows)
    if not widths:
        raise DataError("this table has no row", where=file, fix="fetch it again, or take it out")
    if len(widths) != 1 or -1 in widths:
        shown = ["none" if width < 0 else str(width) for width in widths]
        raise DataError(f"embeddings of different widths in one column: {some_of(shown)}", where=file)
    try:
        # What is too large becomes infinite, and is left out with what is not finite.
        with np.errstate(over="ignore"):
            return np.array(rows, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"column {name} holds no numbers: {error}", where=file) from error


def _table(file: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"package '{error.name}' is needed to read parquet", fix="pip install 'edgeproof[data]'"
        ) from error
    try:
        return pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a readable parquet file: {error}", where=file, fix="fetch it again") from error


def _names(table: Any, file: Path) -> list[str | None]:
    name = next((name for name in NAME_COLUMNS if name in table.column_names), None)
    if name is None:
        raise DataError(
            f"no column of {', '.join(NAME_COLUMNS)}; there are: {', '.join(table.column_names)}", where=file
        )
    return [value if isinstance(value, str) else None for value in table.column(name).to_pylist()]


def _safety(table: Any) -> list[int] | None:
    """Return the tag of each row; by the probability where there is no tag."""
    tag = next((name for name in TAG_COLUMNS if name in table.column_names), None)
    chance = next((name for name in CHANCE_COLUMNS if name in table.column_names), None)
    if tag is not None:
        return [TAGS.get(str(value).strip().upper(), UNKNOWN) for value in table.column(tag).to_pylist()]
    if chance is not None:
        return [_tag_of(value) for value in table.column(chance).to_pylist()]
    return None


def _tag_of(chance: object) -> int:
    """Return the tag for the probability of being unsafe; what is no probability says nothing."""
    if not isinstance(chance, int | float) or not 0 <= chance <= 1:
        return UNKNOWN
    return UNSAFE if chance >= UNSAFE_FROM else SAFE


def _usable(vectors: NDArray[Any]) -> NDArray[np.bool_]:
    good = np.empty(len(vectors), bool)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        with np.errstate(over="ignore"):
            some = np.asarray(vectors[start : start + ROWS_AT_ONCE], np.float32)
        good[start : start + len(some)] = np.isfinite(some).all(axis=1) & some.any(axis=1)
    return good


def _reason(name: str | None, good: bool, seen: set[str]) -> str | None:
    """Return why a row is left out, None if it is not."""
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        return "no usable name"
    if not good:
        return "embedding zero or not finite"
    return "the same name again" if name in seen else None
