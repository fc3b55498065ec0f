"""Reading other people's weights: safetensors only, every disagreement with the model in words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_data.paths import some_of

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".tar")


def check_weights_file(path: Path, key: str) -> None:
    """Refuse a file that is no whole safetensors file, reading no more than its header.

    Args:
        path: the file.
        key: the recipe's key that named it, for the error.

    Raises:
        EdgeproofError: there is no such file, it is a pickle, or it is cut or damaged.
    """
    if path.suffix in PICKLES:
        raise EdgeproofError(
            f"{key}: a '{path.suffix}' file is a pickle, which can run code when read: not opened",
            where=path,
            fix="where you trust it, write it anew: safetensors.torch.save_file(state, 'model.safetensors')",
        )
    if path.suffix != ".safetensors":
        raise EdgeproofError(f"{key}: expected a .safetensors file", where=path)
    if not path.is_file():
        raise EdgeproofError(f"{key}: there is no such file", where=path)
    try:
        with safe_open(path, framework="pt"):
            pass
    except SafetensorError as error:
        raise EdgeproofError(
            f"{key}: the checkpoint is cut or damaged ({error})", where=path, fix="copy or download it again"
        ) from error


def read_weights(path: Path, key: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        EdgeproofError: as `check_weights_file`.
    """
    check_weights_file(path, key)
    return load_file(path)


def load_into(model: nn.Module, state: Mapping[str, Tensor], key: str, path: object) -> None:
    """Load weights that must fit a model exactly.

    Raises:
        UsageError: tensors are missing, left over or of another shape; the first ones are named.
    """
    own = model.state_dict()
    # A count of batches seen is no weight, and some writers leave it out.
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    extra = [name for name in state if name not in own]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, the model has {tuple(own[name].shape)}"
        for name in state
        if name in own and state[name].shape != own[name].shape
    ]
    problems = [
        f"{len(names)} {words}: {some_of(names)}"
        for names, words in ((missing, "missing"), (extra, "unknown"), (shapes, "of another shape"))
        if names
    ]
    if problems:
        raise UsageError(
            f"{key}: the weights are of another model: " + "; ".join(problems),
            where=path,
            fix="name the architecture that the file was made with",
        )
    model.load_state_dict(dict(state), strict=False)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, types, shapes and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
