"""Masks by apex's ASP, the earlier package, where it is installed with CUDA."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from edgeproof_configs.errors import MissingPackageError

LIBRARY = "apex.contrib.sparsity.sparse_masklib"
WHERE = "compress.sparsity.backend: apex"
FIX = "set compress.sparsity.backend: edgeproof, which makes masks of the same pattern anywhere"


def require_apex() -> Any:
    """Return apex's module of masks.

    Raises:
        MissingPackageError: it is not installed, or there is no CUDA device: it computes nowhere else.
    """
    try:
        library = importlib.import_module(LIBRARY)
    except ImportError as error:
        raise MissingPackageError(
            f"NVIDIA's apex with its ASP is not installed: {error} (PyPI has another package of that name)",
            where=WHERE,
            fix=FIX,
        ) from error
    if not torch.cuda.is_available():
        raise MissingPackageError(
            "apex computes masks on a CUDA device, and there is none", where=WHERE, fix=FIX
        )
    return library


def apex_mask(weight: Tensor) -> Tensor:
    """Return which weights stay, bool of the weight's shape, by ASP's pattern `m4n2_1d`.

    Raises:
        MissingPackageError: as `require_apex`.
    """
    library = require_apex()
    found: Tensor = library.create_mask(weight.detach().float().cuda(), pattern="m4n2_1d", density=0.5)
    return found.bool().to(weight.device)
