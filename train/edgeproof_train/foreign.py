"""Reading checkpoints that other tools wrote: the one place where a pickle is opened, for its tensors alone.

`torch.load(weights_only=True)` builds tensors, numbers, strings and containers and nothing else; a file that
asks for more is refused. Everything else in edgeproof reads safetensors.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_data.paths import some_of
from edgeproof_train.weights import PICKLES, read_weights

KEY = "checkpoint"
NESTS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model", "student", "module")
"""Where tools put weights, best first: averaged ones (EMA) are those that were evaluated."""

PREFIXES = ("module.", "model.", "student.", "backbone.")
COMPILED = "_orig_mod."
COUNTERS = ("n_averaged",)
DAMAGED = (
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)
"""What torch raises on bytes that are no checkpoint, or the beginning of one."""


@dataclass(frozen=True)
class ForeignCheckpoint:
    """The weights in a file.

    Attributes:
        tensors: by name, without what wrappers put before it.
        modules: names of all modules of the network, where the file has kept them; torch does.
        told: what was found, in words.
    """

    tensors: dict[str, Tensor]
    modules: frozenset[str]
    told: tuple[str, ...]


def read_checkpoint(path: Path) -> ForeignCheckpoint:
    """Return the weights of a .safetensors file, or of a pickle that needs no code to be read.

    Raises:
        UsageError: there is no such file; reading it could run code; it holds no weights by name.
        EdgeproofError: it is cut or damaged.
    """
    if not path.is_file():
        raise UsageError("there is no such checkpoint", where=path, fix="correct the path")
    if path.suffix == ".safetensors":
        found: Any = read_weights(path, KEY)
    elif path.suffix in PICKLES:
        found = read_pickle(path)
    else:
        known = ", ".join((".safetensors", *PICKLES))
        raise UsageError(f"expected a checkpoint, one of {known}", where=path)
    return weights_of(found, path)


def read_pickle(path: Path) -> Any:
    """Return what a pickle holds, if that is tensors, numbers, strings and containers of these.

    Raises:
        UsageError: it wants to import or call something; nothing of it was run.
        EdgeproofError: it is cut, damaged or no checkpoint at all.
    """
    try:
        with warnings.catch_warnings():
            # Of protocols and TorchScript; what matters of these is an error as well.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refused(path, str(error)) from error
    except DAMAGED as error:
        if "TorchScript" in str(error):
            raise refused(path, "GLOBAL TorchScript ") from error
        raise EdgeproofError(
            f"this is no checkpoint, or it is cut or damaged ({type(error).__name__})",
            where=path,
            fix="copy or download it again",
        ) from error


def refused(path: Path, message: str) -> UsageError:
    """Return the error for a pickle that wants more than tensors, with what it wants where torch says it."""
    wanted = re.search(r"GLOBAL ([\w.]+)", message)
    what = f"'{wanted[1]}'" if wanted else "more than tensors, numbers and strings"
    return UsageError(
        f"reading this pickle would need {what}, and could run code: not opened",
        where=path,
        fix="where you trust it, take its state dict out and write it with safetensors.torch.save_file",
    )


def weights_of(found: Any, path: Path) -> ForeignCheckpoint:
    """Return the weights among what a file holds.

    Args:
        found: a state dict, or dicts around one or several.
        path: of the file, for errors.

    Raises:
        UsageError: there are no tensors by name in it.
    """
    way: list[str] = []
    told: list[str] = []
    while isinstance(found, Mapping):
        nests = [key for key in NESTS if holds_tensors(found.get(key))]
        if not nests:
            break
        way.append(nests[0])
        beside = [str(key) for key in found if key != nests[0]]
        if beside:
            told.append(f"beside '{nests[0]}' in the file, and not used: {some_of(sorted(beside), 8)}")
        found = found[nests[0]]
    held = found if isinstance(found, Mapping) else {}
    tensors = {name: value for name, value in held.items() if isinstance(value, Tensor)}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        shown = some_of([str(key) for key in held], 5) or f"a {type(found).__name__}"
        raise UsageError(
            f"there are no weights by name in this file; it holds: {shown}",
            where=path,
            fix=f"weights are looked for at the top, and under {', '.join(NESTS)}",
        )
    prefix = common_prefix(plain(name) for name in tensors if name not in COUNTERS)
    modules = (plain(name).removeprefix(prefix) for name in getattr(found, "_metadata", {}))
    place = f" under '{'.'.join(way)}'" if way else ""
    taken = f", '{prefix}' taken off their names" if prefix else ""
    return ForeignCheckpoint(
        tensors={plain(name).removeprefix(prefix): value for name, value in tensors.items()},
        modules=frozenset(modules),
        told=(f"{len(tensors)} tensors{place}{taken}", *told),
    )


def holds_tensors(value: Any) -> bool:
    """Whether a value is a dict with tensors in it, at whatever depth."""
    return isinstance(value, Mapping) and any(
        isinstance(inner, Tensor) or holds_tensors(inner) for inner in value.values()
    )


def plain(name: str) -> str:
    """Return a name without what `torch.compile` puts into it."""
    return name.replace(COMPILED, "")


def common_prefix(names: Iterable[str]) -> str:
    """Return what wrappers have put before every one of the names."""
    everything = list(names)
    prefix = ""
    while True:
        found = next((p for p in PREFIXES if all(n.startswith(prefix + p) for n in everything)), None)
        if found is None or not everything:
            return prefix
        prefix += found
