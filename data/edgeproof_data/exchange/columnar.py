"""Parquet and Arrow files of images: `path, part, label, captions` and, where there are some, `embedding`.

Embeddings are a fixed-size list of float16 or float32, which DuckDB, Spark, Ray and pandas read as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import atomic_open
from edgeproof_data.exchange.parts import ROWS_AT_A_TIME, Part
from edgeproof_data.paths import some_of

FloatName = Literal["float16", "float32"]
SUFFIXES = (".parquet", ".arrow", ".feather")
EMBEDDING = "embedding"


def write_table(file: Path, parts: Sequence[Part], dtype: FloatName = "float16") -> int:
    """Write one table of all parts and return the number of its rows.

    Args:
        file: `.parquet`, or `.arrow` or `.feather` for an Arrow file.
        parts: of one data set.
        dtype: of the embeddings.

    Raises:
        UsageError: the file's ending is another, or some parts have embeddings of another width or none.
        DataError: an embedding is too large for float16.
    """
    import pyarrow as pa

    dims = {part.dim for part in parts}
    if len(dims) > 1:
        raise UsageError(f"embeddings of different widths in one table: {some_of(sorted(map(str, dims)))}")
    dim = dims.pop() if dims else None
    columns = [("path", pa.string()), ("part", pa.string()), ("label", pa.string())]
    columns.append(("captions", pa.list_(pa.string())))
    if dim is not None:
        columns.append((EMBEDDING, pa.list_(pa.from_numpy_dtype(np.dtype(dtype)), dim)))
    schema = pa.schema(columns)
    rows = 0
    with atomic_open(file) as handle, _writer(file, handle, schema) as writer:
        for part in parts:
            for at in part.blocks():
                writer.write_batch(_batch(part, at, schema, dtype))
                rows += len(at)
    return rows


def read_batches(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the columns of a table, some thousand rows at a time: lists of values, embeddings as arrays.

    Raises:
        DataError: it is no such file, is cut, or its embeddings are no numbers of one width.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.suffix == ".parquet":
            with pq.ParquetFile(file) as table:
                for batch in table.iter_batches(ROWS_AT_A_TIME):
                    yield _plain(file, batch)
        else:
            with pa.OSFile(str(file)) as source, pa.ipc.open_file(source) as table:
                for number in range(table.num_record_batches):
                    yield _plain(file, table.get_batch(number))
    except FileNotFoundError as error:
        raise DataError("there is no such table", where=file) from error
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise DataError(f"this table cannot be read: {reason}", where=file, fix="write it again") from error


def _writer(file: Path, handle: Any, schema: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.suffix == ".parquet":
        # Embeddings do not get smaller by a dictionary of values, of which hardly two are equal.
        names: Any = [name for name in schema.names if name != EMBEDDING]
        return pq.ParquetWriter(handle, schema, compression="zstd", use_dictionary=names)
    if file.suffix in SUFFIXES:
        return pa.ipc.new_file(handle, schema)
    raise UsageError(f"a table ends in {', '.join(SUFFIXES)}", where=file)


def _batch(part: Part, at: NDArray[np.int64], schema: Any, dtype: FloatName) -> Any:
    import pyarrow as pa

    places = at.tolist()
    columns: list[Any] = [
        pa.array([part.images.paths[index] for index in places], pa.string()),
        pa.array([part.name] * len(places), pa.string()),
        pa.array([part.label(index) for index in places], pa.string()),
        pa.array([part.caption(index) for index in places], pa.list_(pa.string())),
    ]
    if part.embeddings is not None:
        with np.errstate(over="ignore"):
            values = part.embeddings(at).astype(dtype)
        bad = [part.images.paths[places[row]] for row in np.flatnonzero(~np.isfinite(values).all(axis=1))]
        if bad:
            raise DataError(
                f"embeddings do not fit into {dtype}: {some_of(bad)}", fix="ask for --dtype float32"
            )
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        columns.append(pa.FixedSizeListArray.from_arrays(flat, values.shape[1]))
    return pa.record_batch(columns, schema=schema)


def _plain(file: Path, batch: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        found[name] = _matrix(file, column) if name == EMBEDDING else column.to_pylist()
    return found


def _matrix(file: Path, column: Any) -> NDArray[Any]:
    """Return a column of lists of equally many floating-point numbers as (n, D).

    Raises:
        DataError: it is something else.
    """
    import pyarrow as pa

    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not pa.types.is_floating(kind.value_type):
        raise DataError(f"expected lists of floating-point numbers as embeddings, got {kind}", where=file)
    if column.null_count or column.flatten().null_count:
        raise DataError("embeddings with gaps", where=file, fix="take these rows out")
    widths = {len(one) for one in column} if not pa.types.is_fixed_size_list(kind) else {kind.list_size}
    if len(widths) > 1:
        raise DataError(
            f"embeddings of {some_of(sorted(widths))} values in one table",
            where=file,
            fix="all must be of one model",
        )
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
