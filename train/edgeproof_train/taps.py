"""Feature maps of any network, taken by hooks at the modules that a recipe names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from edgeproof_configs.errors import UsageError, did_you_mean

LARGEST_PREFIX = 8
"""Class and register tokens that a model may have in front without saying so; more is no square grid."""


class Taps:
    """Keeps what named nodes gave in the last forward pass, as maps (B, C, H, W), until it is taken.

    A node is a module's path, such as `layer3` or `blocks.4`, for what the module gives, or the path with
    `:input` for what it is given. Tokens (B, N, C) lose their class and register tokens and become square
    maps, maps with channels last become (B, C, H, W), rows (B, C) become (B, C, 1, 1); of a tuple or list the
    first tensor is taken, and of a module that runs more than once its last output.

    A deep copy of the network is not tapped, and `remove` leaves the network as it was.

    Args:
        module: any network, also wrapped for several processes or compiled; images are square.
        nodes: the names; none is allowed.

    Raises:
        UsageError: there is no module of a name.
    """

    def __init__(self, module: nn.Module, nodes: Sequence[str]):
        network = unwrapped(module)
        self._nodes = tuple(dict.fromkeys(nodes))
        self._maps: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []
        try:
            self._hooks.extend(tapped(network, node, self._maps.__setitem__) for node in self._nodes)
        except UsageError:
            self.remove()
            raise

    def taken(self) -> dict[str, Tensor]:
        """Return the maps of the last forward pass by node, and forget them.

        Raises:
            UsageError: a node was not reached since the last call.
        """
        found = dict(self._maps)
        self._maps.clear()
        for node in self._nodes:
            check_called(node, found)
        return {node: found[node] for node in self._nodes}

    def remove(self) -> None:
        """Take the hooks off the network and forget what they kept."""
        for hook in self._hooks:
            hook.remove()
        self._maps.clear()


def node_shapes(module: nn.Module, nodes: Sequence[str], image: Tensor) -> dict[str, tuple[int, ...]]:
    """Return the shape (C, H, W) of each node's map, by running the network once in eval mode.

    Whether each part of the network trains or not is afterwards what it was.

    Args:
        module: any network.
        nodes: names as `Taps` knows them.
        image: (1, 3, S, S), on the network's device.

    Raises:
        UsageError: a name is wrong, or what is found there is no map of the image.
    """
    if not nodes:
        return {}
    network = unwrapped(module)
    maps: dict[str, Tensor] = {}
    versions: dict[str, int] = {}

    def receive(node: str, found: Tensor) -> None:
        maps[node], versions[node] = found, found._version

    hooks: list[RemovableHandle] = []
    try:
        hooks.extend(tapped(network, node, receive) for node in dict.fromkeys(nodes))
        with torch.no_grad(), in_eval_mode(network):
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    for node in nodes:
        check_called(node, maps)
        found = maps[node]
        if len(found) != len(image):
            raise refusal(node, f"gives {len(found)} rows for {len(image)} image, so they are no map of it")
        if found._version != versions[node]:
            raise refusal(node, "is written over by a layer after it, in place, before a loss can look at it")
    return {node: tuple(maps[node].shape[1:]) for node in nodes}


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Evaluate inside the block; afterwards every part of the network trains or not as it did before."""
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def check_called(node: str, found: Mapping[str, Tensor]) -> None:
    """Refuse a node that the forward pass does not reach.

    Raises:
        UsageError: it is not among what was found.
    """
    if node not in found:
        raise refusal(node, "is part of the network, but was not called in its forward pass")


def refusal(node: str, why: str) -> UsageError:
    """Return the error for a node that is there, but cannot be used."""
    fix = "name the module around it, such as a whole block or stage"
    return UsageError(f"the node '{node}' {why}", where="losses", fix=fix)


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the network inside the wrappers of `torchrun` and `torch.compile`."""
    while True:
        inside = getattr(module, "_orig_mod", None)
        if isinstance(module, DistributedDataParallel | DataParallel):
            inside = module.module
        if not isinstance(inside, nn.Module):
            return module
        module = inside


@dataclass(frozen=True)
class Layout:
    """What the network says of its nodes' tensors, for where their shapes leave it open.

    Attributes:
        channels_last: whether a map is (B, H, W, C).
        prefix: how many class and register tokens stand in front; None if it does not say.
        scattered: whether tokens are kept in another order than that of the picture's rows.
    """

    channels_last: bool = False
    prefix: int | None = None
    scattered: bool = False


def layout_around(network: nn.Module, path: str) -> Layout:
    """Return what the module of a path says, or else the nearest module around it that does."""

    def nearest(attribute: str) -> Any:
        parts = path.split(".")
        around = (network.get_submodule(".".join(parts[:depth])) for depth in range(len(parts), -1, -1))
        return next((getattr(part, attribute) for part in around if hasattr(part, attribute)), None)

    prefix = nearest("num_prefix_tokens")
    return Layout(
        channels_last=nearest("output_fmt") == "NHWC",
        prefix=prefix if isinstance(prefix, int) else None,
        scattered=nearest("reroll") is not None,
    )


def tapped(network: nn.Module, node: str, receive: Callable[[str, Tensor], None]) -> RemovableHandle:
    """Have a node's name and map handed to `receive` at every forward pass.

    Raises:
        UsageError: there is no such node.
    """
    path, _, side = node.partition(":")
    if not path or path not in dict(network.named_modules()) or side not in ("", "input"):
        raise no_such_node(network, node)
    wanted = network.get_submodule(path)
    layout = layout_around(network, path)

    def keep(module: nn.Module, given: Any) -> None:
        # A deep copy of the network, an average of it for example, brings its hooks along.
        if module is wanted:
            receive(node, as_map(node, first_tensor(given), layout))

    if side:
        return wanted.register_forward_pre_hook(keep)
    return wanted.register_forward_hook(lambda module, args, output: keep(module, output))


def first_tensor(given: Any) -> Tensor | None:
    """Return a tensor itself, or the first one inside tuples and lists."""
    if isinstance(given, tuple | list):
        return next((found for found in map(first_tensor, given) if found is not None), None)
    return given if isinstance(given, Tensor) else None


def as_map(node: str, given: Tensor | None, layout: Layout) -> Tensor:
    """Return what a module gave for square images as a map (B, C, H, W).

    Raises:
        UsageError: it cannot be read as one.
    """
    if given is None:
        raise refusal(node, "gives no tensor")
    if given.ndim == 2:
        return given[:, :, None, None]
    if given.ndim == 3:
        return tokens_as_map(node, given, layout)
    if given.ndim == 4:
        return given.permute(0, 3, 1, 2) if has_channels_last(given, layout) else given
    raise refusal(node, f"gives {tuple(given.shape)}, which is neither a map nor tokens nor rows")


def has_channels_last(given: Tensor, layout: Layout) -> bool:
    """Tell (B, H, W, C) from (B, C, H, W) by which two sides are equal, or by what the network says."""
    first, middle, last = given.shape[1:]
    if (first == middle) != (middle == last):
        return first == middle
    return layout.channels_last


def tokens_as_map(node: str, tokens: Tensor, layout: Layout) -> Tensor:
    """Return tokens (B, N, C), row by row from the top left, as a square map without those in front.

    Raises:
        UsageError: they do not fill a square, or are in another order.
    """
    count = tokens.shape[1]
    prefix = layout.prefix
    if prefix is None or not is_square(count - prefix):
        # Some networks put the class token in front of their last layers only.
        prefix = count - isqrt(count) ** 2
        if (prefix and layout.prefix is not None) or prefix > LARGEST_PREFIX:
            raise refusal(node, f"gives {count} tokens, which do not fill a square")
    if layout.scattered:
        raise refusal(node, "keeps its tokens in another order than that of the picture")
    side = isqrt(count - prefix)
    return tokens[:, prefix:].transpose(1, 2).unflatten(2, (side, side))


def is_square(count: int) -> bool:
    """Whether so many tokens fill a square of at least one."""
    return count > 0 and isqrt(count) ** 2 == count


def no_such_node(network: nn.Module, node: str) -> UsageError:
    """Return the error for a name that no module has, with those that are likely."""
    known = [name for name, _ in network.named_modules() if name]
    hint = did_you_mean(node.partition(":")[0], known)
    return UsageError(
        f"the network has no node '{node}'.{hint}",
        where="losses",
        fix=f"name one of {', '.join(plausible_nodes(network))}, or a module inside them",
    )


def plausible_nodes(network: nn.Module, prefix: str = "") -> Iterator[str]:
    """Yield the names of stages, of rows of blocks (`blocks.0 to blocks.11`), and of layers between them."""
    for name, child in network.named_children():
        path = f"{prefix}{name}"
        blocks = [block for block, _ in child.named_children()]
        if holds_blocks(child):
            if isinstance(child, nn.Sequential):
                yield path
            first, last = f"{path}.{blocks[0]}", f"{path}.{blocks[-1]}"
            yield first if len(blocks) == 1 else f"{first} to {last}"
        elif any(holds_blocks(part) and len(list(part.children())) > 2 for part in child.children()):
            yield path
            yield from plausible_nodes(child, f"{path}.")
        elif any(True for _ in child.parameters()):
            yield path


def holds_blocks(module: nn.Module) -> bool:
    """Whether a module is a row of modules that have parts of their own."""
    row = isinstance(module, nn.Sequential | nn.ModuleList)
    return row and any(list(block.children()) for block in module.children())
