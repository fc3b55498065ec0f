"""Fitting a head that has to fit into so many bytes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from edgeproof_configs.errors import DataError
from edgeproof_train.heads.evidence import Evidence
from edgeproof_train.heads.fewer_keys import TooManyKeysError
from edgeproof_train.heads.files import Packed, packed
from edgeproof_train.heads.fitted import Fitted
from edgeproof_train.unseen_heads import fit_for_run

MOST_FITS = 4
"""How often a head is fitted with fewer keys: that values take twice the bytes shows only afterwards."""


def fit_to_size(config: Any, evidence: Evidence, unseen: Collection[str]) -> tuple[Fitted, Packed]:
    """Fit a head as `fit_for_run` does, and return it with its file.

    A head whose keys are a setting of its fit (`max_keys`) is fitted again with fewer where it is larger than
    `max_bytes`; others are made smaller as they are, or refused (`packed`).

    Args:
        config: of the head.
        evidence: what it is fitted on.
        unseen: names of the classes that were held out.

    Raises:
        DataError: the evidence lacks what the kind needs, or the head does not fit.
    """
    fitted, first = fit_for_run(config, evidence, unseen), None
    for _ in range(MOST_FITS):
        try:
            found = packed(fitted.head, max_bytes=config.max_bytes, half=config.half)
        except TooManyKeysError as error:
            first = first or error
            config = config.model_copy(update={"max_keys": fewer(config, evidence, error)})
            fitted = fit_for_run(config, evidence, unseen)
        else:
            if first is None:
                return noted(fitted, found)
            said = f"fitted again with {config.max_keys} keys of {first.had} to fit {config.max_bytes} bytes"
            return noted(fitted, found._replace(notes=(said, *found.notes)))
    raise DataError(f"the head does not fit into {config.max_bytes} bytes", fix="allow more")


def fewer(config: Any, evidence: Evidence, error: TooManyKeysError) -> int:
    """Return how many keys a head may be fitted with.

    Raises:
        DataError: its kind has no such setting, or they are fewer than classes with shots.
    """
    if "max_keys" not in type(config).model_fields or evidence.shots is None:
        raise DataError(
            error.what,
            fix="allow more, or name the kind (head.kind: proker), which is fitted with fewer keys",
        )
    classes = len(np.unique(evidence.shots.labels))
    if error.keys < classes:
        raise DataError(
            f"{error.what}: {error.keys} keys for {classes} classes",
            fix=f"allow {error.bytes_of(classes)} or more",
        )
    return error.keys


def noted(fitted: Fitted, found: Packed) -> tuple[Fitted, Packed]:
    """Return both, what was done to the file among the notes of the fit."""
    return replace(fitted, notes=(*fitted.notes, *found.notes)), found
