"""2:4 masks: of every four weights along the input channels, the two smaller ones are zero.

The groups are those of ASP's pattern `m4n2_1d` and of the sparse tensor cores: four input channels in a row,
at the same output channel and kernel position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from edgeproof_configs.files import write_bytes
from edgeproof_train.weights import read_weights

MASKS_FILE = "masks.safetensors"
GROUP, KEPT = 4, 2


def mask_2_4(weight: Tensor) -> Tensor:
    """Return which weights stay: in each group of four the two of the largest magnitude.

    Of equal magnitudes the one of the lower input channel stays, so that a mask depends on nothing else.
    (ASP takes any of the masks that keep as much.)

    Args:
        weight: (O, I) of a linear layer or (O, I, kH, kW) of a convolution; I is a multiple of 4.

    Returns:
        bool, of the weight's shape.

    Raises:
        ValueError: another shape.
    """
    groups = groups_of(weight)
    best = groups.detach().abs().sort(dim=-1, descending=True, stable=True).indices[..., :KEPT]
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, best, True)
    return ungrouped(mask, weight)


def is_2_4(weight: Tensor) -> bool:
    """Whether every group of four has at least two zeros; False where there are no such groups."""
    if weight.ndim not in (2, 4) or weight.shape[1] % GROUP:
        return False
    return bool(((groups_of(weight) != 0).sum(dim=-1) <= KEPT).all())


def kept_magnitude(weight: Tensor) -> float:
    """Return the sum of |w| over what the mask of this weight keeps."""
    return float(groups_of(weight).detach().abs().double().topk(KEPT, dim=-1).values.sum())


def groups_of(weight: Tensor) -> Tensor:
    """Return the groups, (..., I / 4, 4).

    Raises:
        ValueError: the weight has none.
    """
    if weight.ndim not in (2, 4) or weight.shape[1] % GROUP:
        raise ValueError(
            f"expected (O, I) or (O, I, kH, kW) with I a multiple of 4, got {tuple(weight.shape)}"
        )
    return weight.movedim(1, -1).unflatten(-1, (-1, GROUP))


def ungrouped(groups: Tensor, weight: Tensor) -> Tensor:
    """Return groups in the shape of the weight that they were taken from."""
    return groups.flatten(-2).movedim(-1, 1).contiguous().reshape(weight.shape)


def hold(student: nn.Module, masks: Mapping[str, Tensor]) -> list[RemovableHandle]:
    """Zero the weights that the masks drop, and keep them zero in whatever training follows.

    A hook on each parameter zeroes the gradient of what is dropped. Such a weight then stays 0 by itself: its
    momentum and its moments never leave 0, weight decay multiplies 0, and so does the average (EMA). No
    parameter gets another name, shape or place, so a checkpoint knows nothing of masks; who resumes one calls
    this first, on the same masks.

    Args:
        student: changed in place.
        masks: bool, by the name of the parameter.

    Returns:
        The hooks; taking them off lets the weights grow again.
    """
    handles: list[RemovableHandle] = []
    for name, mask in masks.items():
        parameter = student.get_parameter(name)
        if mask.shape != parameter.shape:
            raise ValueError(f"{name} is {tuple(parameter.shape)}, its mask {tuple(mask.shape)}")
        with torch.no_grad():
            parameter.masked_fill_(~mask.to(parameter.device), 0)
        if parameter.requires_grad:
            handles.append(parameter.register_hook(zeroing(mask)))
    return handles


def zeroing(mask: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a hook that zeroes a gradient where the mask is False, whatever stands there."""
    dropped = ~mask

    def zero(gradient: Tensor) -> Tensor:
        nonlocal dropped
        if dropped.device != gradient.device:
            dropped = dropped.to(gradient.device)
        # In exactly the layout that it came in, which several processes compare with the parameter's.
        kept = gradient.new_empty_strided(gradient.shape, gradient.stride()).copy_(gradient)
        return kept.masked_fill_(dropped, 0)

    return zero


def save_masks(path: Path, masks: Mapping[str, Tensor]) -> None:
    """Write masks, atomically, by the names of their parameters."""
    write_bytes(path, save({name: mask.cpu().contiguous() for name, mask in masks.items()}))


def load_masks(path: Path) -> dict[str, Tensor]:
    """Read what `save_masks` wrote.

    Raises:
        EdgeproofError: the file is missing, cut or damaged.
    """
    return {name: mask.bool() for name, mask in read_weights(path, "masks").items()}
