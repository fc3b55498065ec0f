"""`data download`: the images of a list of addresses, checked, named by their content, and logged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from edgeproof_configs.errors import UsageError
from edgeproof_data.download.fetching import INCOMING, FetchOptions, alone, claim, fetch_shards
from edgeproof_data.download.intake import FAILED, IMAGES, Format, Intake, take_in, taken_in, told_before
from edgeproof_data.download.url_list import AddressList, read_addresses
from edgeproof_data.paths import counted

FORMATS: dict[str, Format] = {"files": "files", "webdataset": "webdataset"}


def download(listed: Path, out: Path, options: FetchOptions, *, form: str, as_json: bool) -> int:
    """Fetch the images of a list, check them, say what there is, and return 0. A stopped download goes on.

    Args:
        listed: text, csv, parquet or a manifest.
        out: a new folder, or one that the same command began.
        options: how images are fetched.
        form: `files` or `webdataset`.
        as_json: print JSON.

    Raises:
        UsageError: the folder is of another download.
        DataError: the list has no address, or no image could be had.
    """
    if form not in FORMATS:
        raise UsageError(f"unknown --format '{form}'", fix=f"one of {', '.join(FORMATS)}")
    given = read_addresses(listed)
    claim(out, given.addresses, options)
    with alone(out):
        if (out / IMAGES).exists():
            found = told_before(out)
        else:
            shards = fetch_shards(given.addresses, out, options, taken_in(out))
            found = take_in(
                out, shards, FORMATS[form], [one.url for one in given.addresses], options.shard_size
            )
        shutil.rmtree(out / INCOMING, ignore_errors=True)
    told = told_of(out, given, found)
    print(json.dumps(told, indent=2, ensure_ascii=False) if as_json else "\n".join(lines(told)))
    return 0


def told_of(out: Path, given: AddressList, found: Intake) -> dict[str, Any]:
    """Return what was had as plain data."""
    return {
        "out": str(out),
        "addresses": len(given.addresses),
        "unusable": given.unusable,
        "repeated": given.repeated,
        "images": found.taken,
        "not_taken": found.reasons,
    }


def lines(told: dict[str, Any]) -> list[str]:
    """Return the same in words."""
    shown = [f"{counted(told['images'], 'image')} of {counted(told['addresses'], 'address', 'addresses')}"]
    if told["unusable"]:
        shown.append(f"  {told['unusable']} lines of the list are no http address")
    shown += [f"  {count} not taken: {reason}" for reason, count in told["not_taken"].items()]
    out = Path(told["out"])
    return [*shown, f"what is where: {out / IMAGES}; what is not, and why: {out / FAILED}"]
