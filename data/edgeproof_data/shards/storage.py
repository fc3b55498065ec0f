"""Storage that is addressed, such as `s3://bucket/x.tar`, as fsspec knows it."""

from __future__ import annotations

from typing import Any

from edgeproof_configs.errors import MissingPackageError, UsageError

HTTP = ("http://", "https://")


def file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address that fsspec knows, and the path on it.

    Raises:
        MissingPackageError: the package of this kind of storage is not installed.
        UsageError: there is no such kind.
    """
    from fsspec.core import url_to_fs

    scheme = address.split("://")[0]
    if scheme in ("file", "local"):
        raise UsageError(f"'{address}' is a local file", fix="write its path without file://")
    try:
        return url_to_fs(address)
    except ImportError as error:
        raise MissingPackageError(f"{scheme}:// needs another package: {error}", where=address) from error
    except ValueError as error:
        raise UsageError(f"unknown kind of address '{scheme}://': {error}", where=address) from error
