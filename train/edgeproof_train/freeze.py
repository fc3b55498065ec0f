"""Parts of a student that keep the weights and the statistics that they start with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from edgeproof_configs.errors import UsageError, did_you_mean


def frozen_parts(student: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Return the named modules of a student, their parameters taken out of training.

    Args:
        student: the model.
        names: module paths such as `backbone.blocks.0`.

    Raises:
        UsageError: there is no module of that name; says what stands at its place.
    """
    known = dict(student.named_modules())
    parts = []
    for name in names:
        if name not in known or not name:
            raise UsageError(
                f"the student has no part '{name}'.{did_you_mean(name, list(known))}",
                where="train.freeze",
                fix=f"choose among {', '.join(siblings(known, name))}",
            )
        parts.append(known[name].requires_grad_(False))
    return parts


def siblings(known: dict[str, nn.Module], name: str) -> list[str]:
    """Return the parts at the deepest existing level of a path."""
    parent = name.rpartition(".")[0]
    while parent not in known:
        parent = parent.rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    return [prefix + child for child, _ in known[parent].named_children()]


def rest(parts: Sequence[nn.Module]) -> None:
    """Put parts into eval mode, whatever the mode of the model around them."""
    for part in parts:
        part.eval()
