"""The labels of a bundle: a text file with one a line."""

from __future__ import annotations

from edgeproof_deploy.runtime.errors import BundleError

LABELS_FILE = "labels.txt"


def labels_of(data: bytes) -> tuple[str, ...]:
    """Return the labels of a file.

    Raises:
        BundleError: it is not UTF-8, holds no label, or has a line with nothing on it.
    """
    try:
        lines = data.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(LABELS_FILE, f"is not UTF-8: {error}") from error
    if lines == [""]:
        raise BundleError(LABELS_FILE, "has no labels: there is nothing to choose between")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise BundleError(LABELS_FILE, f"line {number} is empty, expected a label on each")
    return tuple(lines)
