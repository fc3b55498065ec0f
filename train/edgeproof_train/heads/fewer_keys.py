"""A cache head within a size: how many keys fit, and what is said where they have to be fewer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeproof_configs.errors import DataError
from edgeproof_deploy.runtime.cache_head import CacheHead
from edgeproof_deploy.runtime.class_values import ClassValues
from edgeproof_train.heads.merged_keys import merge_keys

OF_EACH_KEY = ("keys", "values", "classes", "heights")
"""Arrays of a cache that have a row for each key."""


class TooManyKeysError(DataError):
    """A cache of coefficients that is too large: only a fit of its own has fewer keys.

    Attributes:
        keys: how many shots or centres it may be made of; 0 where none fit.
        had: how many it is made of.
        size: the bytes that it takes.
        key_bytes: what each of them takes.
    """

    def __init__(self, what: str, *, keys: int, had: int, size: int, key_bytes: int):
        fix = f"fit it with max_keys: {keys} at most" if keys else "allow more"
        super().__init__(what, fix=fix)
        self.keys, self.had, self.size, self.key_bytes = keys, had, size, key_bytes

    def bytes_of(self, keys: int) -> int:
        """Return the size with so many keys."""
        return self.size - (self.had - keys) * self.key_bytes


def with_fewer_keys(
    head: CacheHead, arrays: Mapping[str, np.ndarray], size: int, max_bytes: int
) -> CacheHead:
    """Return a cache that takes at most so many bytes as a file, keys of a label merged.

    Args:
        head: that takes more.
        arrays: what it is stored as.
        size: the bytes that it takes.
        max_bytes: that it may take.

    Raises:
        TooManyKeysError: its keys do not vote for one label each, so that they cannot be merged.
        DataError: even one key a label is too many.
    """
    told = f"the head takes {size} bytes, {max_bytes} are allowed"
    key_bytes = sum(arrays[name].nbytes // len(head.keys) for name in OF_EACH_KEY if name in arrays)
    fewer = -(-(size - max_bytes) // key_bytes)
    if not isinstance(head.values, ClassValues):
        # A row of zeros is no shot: it holds what is added to each score, and stays.
        had = int(head.keys.any(axis=1).sum())
        raise TooManyKeysError(told, keys=max(0, had - fewer), had=had, size=size, key_bytes=key_bytes)
    keys, labels = max(0, len(head.keys) - fewer), len(np.unique(head.values.classes))
    if keys < labels:
        least = size - (len(head.keys) - labels) * key_bytes
        raise DataError(f"{told}: {keys} keys for {labels} labels", fix=f"allow {least} or more")
    return merge_keys(head, keys)
