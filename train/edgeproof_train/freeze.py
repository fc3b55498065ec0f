"""Parts of a student that keep the weights and the statistics that they start with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from edgeproof_configs.errors import UsageError, did_you_mean


def frozen_parts(student: nn.Module, names: Sequence[str], but: Sequence[str] = ()) -> list[nn.Module]:
    """Return the modules of a student that rest, their parameters taken out of training.

    Args:
        student: the model.
        names: module paths such as `backbone.blocks.0`.
        but: paths inside of these that train nonetheless; others say nothing.

    Raises:
        UsageError: there is no module of that name; says what stands at its place.
    """
    known = dict(student.named_modules())
    check_known(known, names, "train.freeze")
    check_known(known, but, "train.freeze_except")
    for name in names:
        known[name].requires_grad_(False)
    trained = [name for name in but if any(is_inside(name, part) for part in names)]
    for name in trained:
        known[name].requires_grad_(True)
    return [module for name in names for module in resting(known, name, trained)]


def check_known(known: dict[str, nn.Module], names: Sequence[str], where: str) -> None:
    """Refuse names that no module has.

    Raises:
        UsageError: the first one, with what stands at its place.
    """
    for name in names:
        if name not in known or not name:
            raise UsageError(
                f"the student has no part '{name}'.{did_you_mean(name, list(known))}",
                where=where,
                fix=f"choose among {', '.join(siblings(known, name))}",
            )


def resting(known: dict[str, nn.Module], name: str, trained: Sequence[str]) -> list[nn.Module]:
    """Return the largest parts of a module in which nothing trains."""
    if not any(is_inside(one, name) for one in trained):
        return [] if any(is_inside(name, one) for one in trained) else [known[name]]
    return [
        module
        for child, _ in known[name].named_children()
        for module in resting(known, f"{name}.{child}", trained)
        if name not in trained
    ]


def is_inside(name: str, part: str) -> bool:
    """Whether a module path is a part, or of something inside it."""
    return name == part or name.startswith(f"{part}.")


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
