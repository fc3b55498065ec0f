"""The state of a training on disk: one safetensors file, whose header holds everything that is no tensor.

One file means that tensors and position can never be of two different steps. The one before it is kept, so
that a file which a crash left damaged costs some steps and not the run. Nothing is pickled.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.files import atomic_open

NEWEST, BEFORE = "checkpoint.safetensors", "checkpoint.previous.safetensors"

Tensors = dict[str, Tensor]
State = dict[str, Any]


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], state: State) -> None:
    """Write the newest checkpoint; the one that was newest becomes the one before.

    Raises:
        EdgeproofError: the disk is full or cannot be written; the checkpoints that were there are left alone.
    """
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    data = save(stored, {"state": json.dumps(state, allow_nan=False)})
    newest = folder / NEWEST
    with atomic_open(newest) as handle:
        handle.write(data)
        handle.flush()
        if newest.exists():
            newest.replace(folder / BEFORE)


def load_checkpoint(folder: Path) -> tuple[Tensors, State] | None:
    """Return the newest checkpoint that can be read, or None where there is none.

    Raises:
        EdgeproofError: there are checkpoints, and all of them are damaged.
    """
    damaged: list[str] = []
    for path in (folder / NEWEST, folder / BEFORE):
        if not path.exists():
            continue
        try:
            found = read_checkpoint(path)
        except (SafetensorError, KeyError, ValueError) as error:
            damaged.append(f"{path.name}: {error}")
            continue
        if damaged:
            print(f"warning: {damaged[0]}; going on from {path.name}", file=sys.stderr, flush=True)
        return found
    if damaged:
        raise EdgeproofError(
            f"the checkpoint is cut or damaged ({'; '.join(damaged)})",
            where=folder,
            fix=f"delete {folder / NEWEST} to train from the start",
        )
    return None


def read_checkpoint(path: Path) -> tuple[Tensors, State]:
    """Return tensors and state of one file."""
    with safe_open(path, framework="pt") as file:
        state = json.loads(file.metadata()["state"])
        return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118


def remove_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a training that has ended."""
    for name in (NEWEST, BEFORE):
        (folder / name).unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete the temporary files that a killed process was about to rename."""
    for file in folder.rglob(".*.*"):
        if file.is_file():
            file.unlink()


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Return the tensors with `prefix/` before each name."""
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Return the tensors whose names begin with `prefix/`, without it."""
    start = f"{prefix}/"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def optimizer_tensors(optimizer: Optimizer) -> Tensors:
    """Return an optimizer's state, named `number of the parameter/key`. Its settings come from the recipe."""
    return {
        f"{number}/{key}": value
        for number, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer the state that `optimizer_tensors` returned."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split("/")
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:
            # The layout in memory (channels last) chooses the kernel, and kernels differ in the last bit.
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        entries.setdefault(int(number), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
