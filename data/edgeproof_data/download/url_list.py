"""Lists of addresses: text, csv, parquet, or the manifest of a search."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edgeproof_configs.errors import DataError, MissingPackageError
from edgeproof_data.prompts import clean_name
from edgeproof_data.search.service import is_address

URL_COLUMNS = ("url", "URL", "image_url")
LABEL_COLUMNS = ("prompt", "label")
LICENCE_COLUMNS = ("licence", "license", "LICENSE")


class Address(NamedTuple):
    """Where an image is, the words that it was found for, and its licence; empty where nobody says."""

    url: str
    label: str
    licence: str


@dataclass(frozen=True)
class AddressList:
    """Addresses, each once, in the order of the list.

    Attributes:
        addresses: what can be fetched.
        unusable: entries that are no http address.
        repeated: entries that were there before.
    """

    addresses: list[Address]
    unusable: int
    repeated: int


def read_addresses(file: Path) -> AddressList:
    """Return the addresses of a list.

    A csv or a parquet file has a column `url`, perhaps `prompt` or `label`, and `licence`. Any other file has
    an address a line.

    Raises:
        DataError: the file is missing, cut, has no such column, or no usable address.
        MissingPackageError: pyarrow is not installed, and the file is parquet.
    """
    if not file.is_file():
        raise DataError("there is no such list of addresses", where=file, fix="correct the path")
    readers = {".csv": _of_csv, ".parquet": _of_parquet}
    found: dict[str, Address] = {}
    unusable = repeated = 0
    for url, label, licence in readers.get(file.suffix.lower(), _of_text)(file):
        if not is_address(url):
            unusable += 1
        elif url in found:
            repeated += 1
        else:
            found[url] = Address(url, clean_name(label), clean_name(licence))
    if not found:
        raise DataError("no http address in this list", where=file, fix="write one address a line")
    return AddressList(list(found.values()), unusable, repeated)


def _of_text(file: Path) -> Iterator[Address]:
    try:
        with file.open(encoding="utf-8-sig") as handle:
            for line in handle:
                if line.strip():
                    yield Address(line.strip(), "", "")
    except UnicodeDecodeError as error:
        raise DataError("not a text file in UTF-8", where=file, fix="save it as UTF-8") from error


def _of_csv(file: Path) -> Iterator[Address]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            url, label, licence = _columns(list(reader.fieldnames or ()), file)
            for row in reader:
                yield Address(
                    (row[url] or "").strip(),
                    (row[label] or "") if label else "",
                    (row[licence] or "") if licence else "",
                )
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"not a csv file in UTF-8: {error}", where=file, fix="save it as that") from error


def _of_parquet(file: Path) -> Iterator[Address]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"package '{error.name}' is needed to read parquet", fix="pip install 'edgeproof[data]'"
        ) from error
    try:
        table = pq.ParquetFile(file)
        names = _columns(table.schema_arrow.names, file)
        for batch in table.iter_batches(columns=[name for name in names if name]):
            columns = [batch.column(name).to_pylist() if name else [""] * len(batch) for name in names]
            for values in zip(*columns, strict=True):
                yield Address(*(value if isinstance(value, str) else "" for value in values))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a readable parquet file: {error}", where=file, fix="fetch it again") from error


def _columns(names: list[str], file: Path) -> tuple[str, str | None, str | None]:
    """Return the names of the columns of address, label and licence."""
    url, label, licence = (
        next((name for name in known if name in names), None)
        for known in (URL_COLUMNS, LABEL_COLUMNS, LICENCE_COLUMNS)
    )
    if url is None:
        raise DataError(
            f"no column url; there are: {', '.join(names) or 'none'}",
            where=file,
            fix="name the addresses url",
        )
    return url, label, licence
