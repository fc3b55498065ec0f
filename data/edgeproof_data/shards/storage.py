"""Storage that is addressed, such as `s3://bucket/x.tar`, as fsspec knows it."""

from __future__ import annotations

from typing import Any

from edgeproof_configs.errors import DataError, MissingPackageError, UsageError

HTTP = ("http://", "https://")
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
PACKAGES |= dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs")
"""What reads each kind of storage; of other kinds the package is what could not be imported."""


def file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address that fsspec knows, and the path on it.

    Raises:
        MissingPackageError: the package of this kind of storage is not installed.
        UsageError: there is no such kind.
        DataError: the storage cannot be opened.
    """
    scheme = address.split("://")[0]
    if scheme in ("file", "local"):
        raise UsageError(f"'{address}' is a local file", fix="write its path without file://")
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(address)
    except ImportError as error:
        missing = getattr(error.__cause__ or error, "name", None) or scheme
        package = PACKAGES.get(scheme, str(missing).partition(".")[0])
        raise MissingPackageError(
            f"package '{package}' is needed for {scheme}://", where=address, fix=f"pip install {package}"
        ) from error
    except ValueError as error:
        raise UsageError(
            f"unknown kind of address '{scheme}://': {error}", where=address, fix="correct the address"
        ) from error
    except FileNotFoundError as error:
        raise DataError("there is no such storage", where=address, fix="correct the address") from error
    except Exception as error:
        # A storage's own package raises whatever it likes.
        raise DataError(
            f"this storage cannot be opened: {reason_of(error)}", where=address, fix="look at it by hand"
        ) from error


def listed(pattern: str) -> list[str]:
    """Return the addresses that a pattern with wildcards means, sorted.

    Raises:
        DataError: the storage does not let itself be listed.
    """
    system, path = file_system(pattern)
    try:
        return sorted(str(system.unstrip_protocol(one)) for one in system.glob(path))
    except Exception as error:
        raise DataError(
            f"this storage cannot be listed: {reason_of(error)}",
            where=pattern,
            fix="run again when it answers, log in to it, or write braces, as in {000..099}",
        ) from error


def reason_of(error: BaseException) -> str:
    """Return what an exception says, in a line of bounded length."""
    reason = getattr(error, "reason", None) or error
    said = (str(reason).splitlines() or [""])[0].strip()[:120]
    if isinstance(reason, OSError) and said:
        return said
    return f"{type(reason).__name__}: {said}" if said else type(reason).__name__
