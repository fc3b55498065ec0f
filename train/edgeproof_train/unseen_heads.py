"""Fitting a head where some classes were held out of training on purpose."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from edgeproof_configs.schema import HeadConfig
from edgeproof_train.heads.evidence import Evidence
from edgeproof_train.heads.fitted import Fitted
from edgeproof_train.heads.fitting import fit_kind
from edgeproof_train.heads.generalised import fit_generalised

ROUTES_ITSELF = ("cascade", "gallery")
"""Kinds that treat unseen classes in a way of their own."""


def fit_for_run(config: HeadConfig, evidence: Evidence, unseen: Collection[str]) -> Fitted:
    """Fit a head; classes without a shot that were held out on purpose are known by their text alone.

    How much they are favoured over the classes with shots is chosen on validation (`fit_generalised`). That
    another class has no shot is an error of the kind. The words alone are left as they are: nothing in them
    changes where a seen class plays unseen, so validation could not tell how much to take from seen ones.

    Args:
        config: of the head.
        evidence: what it is fitted on.
        unseen: names of the classes that were held out.

    Raises:
        DataError: the evidence lacks what the kind needs.
    """
    if evidence.shots is None or config.kind in ROUTES_ITSELF:
        return fit_kind(config, evidence)
    lacking = without_shots(evidence)
    if lacking and lacking <= set(unseen) and config.kind != "zero_shot":
        return fit_generalised(config, evidence)
    return fit_kind(config, evidence)


def why_not_unseen(config: HeadConfig, evidence: Evidence, unseen: Collection[str]) -> str | None:
    """Return why a kind cannot answer with classes that were held out, in words; None where it can."""
    lacking = without_shots(evidence) & set(unseen)
    if config.kind != "gallery" or not lacking:
        return None
    return f"knows classes by their own photos alone: {len(lacking)} of {len(evidence.names)} were held out"


def without_shots(evidence: Evidence) -> set[str]:
    """Return the names of classes that have no shot."""
    seen = set() if evidence.shots is None else set(np.unique(evidence.shots.labels).tolist())
    return {name for row, name in enumerate(evidence.names) if row not in seen}
