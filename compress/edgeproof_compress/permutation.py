"""An order of channels under which 2:4 masks keep more magnitude (Pool & Yu, NeurIPS 2021).

Which weights share a group of four follows from the order of the input channels, and inside a channel space
that order is free. The search exchanges channels between two groups at a time: of the 35 ways to split eight
channels into two groups it takes the best, for many pairs at once, until nothing is gained any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from edgeproof_compress.channel_spaces import ChannelSpace
from edgeproof_compress.masks import GROUP

IDLE_ROUNDS = 10
"""A space is done when so many rounds in a row, each of other pairs, brought nothing."""
LEAST_GAIN = 1e-6
"""Of what a pair of groups keeps: less is rounding."""
FOURS = list(combinations(range(2 * GROUP), GROUP))
SPLITS = len(FOURS) // 2
"""The first 35 fours hold channel 0; the other four of a split is as far from the end of the list."""


@dataclass(frozen=True)
class Order:
    """The order that was found for a space.

    Attributes:
        space: its name.
        order: for each new place the channel that comes there.
        magnitude: the sum of |w| over all that reads the space and is pruned.
        kept_before: how much of it a mask keeps in the order of training.
        kept: how much in this order.
        rounds: of the search.
        finished: whether nothing was gained any more; else time was up.
    """

    space: str
    order: tuple[int, ...]
    magnitude: float
    kept_before: float
    kept: float
    rounds: int
    finished: bool

    def row(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return asdict(self)


class Search:
    """The search of one space.

    Args:
        columns: (C, R), |w| of every weight that reads a channel; C is a multiple of 4.
        seed: of the pairs that are drawn.
    """

    def __init__(self, columns: Tensor, seed: int):
        self.columns = columns
        self.groups = torch.arange(len(columns)).reshape(-1, GROUP)
        self.drawn = torch.Generator().manual_seed(seed)
        self.idle, self.rounds = 0, 0

    @property
    def done(self) -> bool:
        """Whether there is nothing more to gain, as far as random pairs tell."""
        return len(self.groups) < 2 or self.idle >= IDLE_ROUNDS

    def round(self) -> None:
        """Pair the groups at random and split each pair anew in the best way."""
        count = len(self.groups) // 2
        paired = torch.randperm(len(self.groups), generator=self.drawn)[: 2 * count].reshape(count, 2)
        eight = self.groups[paired].reshape(count, 2 * GROUP)
        kept = kept_by_splits(self.columns[eight.to(self.columns.device)]).cpu()
        best, choice = kept.max(dim=1)
        better = best - kept[:, 0] > LEAST_GAIN * kept[:, 0]
        fours = torch.tensor(FOURS)
        one, other = (eight.gather(1, fours[which]) for which in (choice, len(FOURS) - 1 - choice))
        self.groups[paired[better, 0]] = one[better]
        self.groups[paired[better, 1]] = other[better]
        self.rounds += 1
        self.idle = 0 if bool(better.any()) else self.idle + 1

    def order(self) -> tuple[int, ...]:
        """Return the order found so far; channels inside a group, and groups, by number."""
        rows = sorted(sorted(row) for row in self.groups.tolist())
        return tuple(channel for row in rows for channel in row)


def kept_by_splits(eights: Tensor) -> Tensor:
    """Return what masks keep of (P, 8, R) magnitudes for each of the 35 splits, (P, 35).

    Of four numbers the two largest have the sum `max(a + b, c + d, max(a, b) + max(c, d))`.
    """
    sums = {pair: eights[:, pair[0]] + eights[:, pair[1]] for pair in combinations(range(8), 2)}
    larger = {pair: torch.maximum(eights[:, pair[0]], eights[:, pair[1]]) for pair in sums}

    def kept(four: tuple[int, ...]) -> Tensor:
        one, other = (four[0], four[1]), (four[2], four[3])
        best = torch.maximum(sums[one], sums[other])
        return torch.maximum(best, larger[one] + larger[other]).sum(dim=-1)

    of_fours = torch.stack([kept(four) for four in FOURS], dim=1)
    return of_fours[:, :SPLITS] + of_fours.flip(1)[:, :SPLITS]


def find_orders(
    student: nn.Module,
    spaces: Iterable[ChannelSpace],
    eligible: Sequence[str],
    *,
    seconds: float,
    seed: int,
    device: str = "cpu",
) -> list[Order]:
    """Return an order for each space that layers to be pruned read; the student stays as it is.

    All spaces are searched in turns, a round each, until none gains or time is up.

    Args:
        student: with dense weights.
        spaces: of `channel_spaces`.
        eligible: names of the layers that will be pruned.
        seconds: the longest that this may take.
        seed: of what is drawn. The result depends on the machine as well if time is up.
        device: where sums are computed.
    """
    until = time.monotonic() + seconds
    searches: dict[ChannelSpace, Search] = {}
    for space in spaces:
        read = [name for name in space.consumers if name in eligible]
        if read and space.channels % GROUP == 0:
            searches[space] = Search(columns_of(student, read).to(device), seed)
    while time.monotonic() < until and not all(search.done for search in searches.values()):
        for search in searches.values():
            if not search.done and time.monotonic() < until:
                search.round()
    return [result(space, search) for space, search in searches.items()]


def columns_of(student: nn.Module, layers: Sequence[str]) -> Tensor:
    """Return |w| of all weights that read each channel, (C, R), float32."""
    columns: list[Tensor] = []
    for name in layers:
        module: Any = student.get_submodule(name)
        columns.append(module.weight.detach().float().abs().movedim(1, 0).flatten(1))
    return torch.cat(columns, dim=1)


def result(space: ChannelSpace, search: Search) -> Order:
    """Return what a search has found; the order of training if that keeps as much, counted in float64."""
    order, plain = search.order(), tuple(range(space.channels))
    before, kept = kept_under(search.columns, plain), kept_under(search.columns, order)
    if kept <= before:
        order, kept = plain, before
    magnitude = float(search.columns.double().sum())
    return Order(space.name, order, magnitude, before, kept, search.rounds, search.done)


def kept_under(columns: Tensor, order: Sequence[int]) -> float:
    """Return what masks keep of (C, R) magnitudes in an order of the channels."""
    ordered = columns[torch.tensor(list(order), device=columns.device)].double()
    return float(ordered.unflatten(0, (-1, GROUP)).topk(2, dim=1).values.sum())


def kept_share(orders: Iterable[Mapping[str, Any]], key: str) -> float | None:
    """Return what share of the magnitude of all searched spaces is kept; None where there are none."""
    rows = list(orders)
    total = sum(row["magnitude"] for row in rows)
    return sum(row[key] for row in rows) / total if total else None
