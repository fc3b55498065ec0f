"""Which objects each step of an epoch shows: some of some classes each, or all in random order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import UsageError
from edgeproof_configs.schema import SamplerConfig
from edgeproof_data.draws import ORDER, TURN, uniforms
from edgeproof_data.objects import ObjectSet
from edgeproof_data.paths import some_of
from edgeproof_data.sampling import Balance, Sampling
from edgeproof_data.sets import NO_LABEL

Positions = NDArray[np.int64]
WHERE = "train.sampler"


class ObjectSampling:
    """The objects of each step, a function of the seed and the epoch alone.

    A group is what one process sees at a step: P classes with K objects of each, or the next objects of a
    random order. Classes come in rounds, drawn anew each time: each of as many groups as P fits into the
    number of classes takes P of them, and what is left over waits. So do the objects of a class; one that has
    fewer than K shows all, and some of them again. An epoch has as many groups as the objects fill.

    Args:
        objects: what to train on.
        sampler: P, K and how often an object is shown in a step.
        batch_size: visits a step in one process.
        seed: of the run.
        world: number of processes.
        balance: of the random order.

    Raises:
        UsageError: there are fewer classes than a step shows, objects without a label among classes, or a
            class of one object where a positive is wanted.
    """

    def __init__(
        self,
        objects: ObjectSet,
        sampler: SamplerConfig,
        batch_size: int,
        seed: int,
        world: int = 1,
        balance: Balance = "none",
    ):
        self.objects, self.sampler, self.seed, self.world = objects, sampler, seed, world
        self.size = sampler.shown(batch_size)
        self.members: list[Positions] = []
        self._order = None if sampler.balanced else Sampling(objects, seed, balance)
        if sampler.balanced:
            self.members = members_to_pair(objects, sampler)

    @property
    def steps(self) -> int:
        """Steps an epoch, the same for every process."""
        return max(1, len(self.objects) // (self.size * self.world))

    def epoch(self, epoch: int, rank: int) -> list[Positions]:
        """Return the visits (batch,) of each step of an epoch (from 0) in one process.

        A visit v shows object `v % N`; visits of the same object in an epoch differ in `v // N`, so that each
        can show other views.
        """
        if self._order is not None:
            order = self._order.visits(epoch)
            size = self.size * self.world
            whole = [order[step * size : (step + 1) * size] for step in range(self.steps)]
            times, count = self.sampler.visits, len(self.objects)
            return [again(visits[rank :: self.world], times, count) for visits in whole]
        return list(self._groups(epoch))[rank :: self.world]

    def _groups(self, epoch: int) -> Iterator[Positions]:
        count, wanted = len(self.objects), self.sampler.objects or 1
        dealt = [rounds(self.seed, epoch, count, members, wanted, TURN) for members in self.members]
        numbers = np.arange(len(self.members))
        classes = rounds(self.seed, epoch, len(numbers), numbers, self.sampler.classes or 1, ORDER)
        shown = np.zeros(count, np.int64)
        for _ in range(self.steps * self.world):
            objects = np.concatenate([next(dealt[label]) for label in next(classes)])
            yield again(numbered(objects, shown), self.sampler.visits, count)


def members_to_pair(objects: ObjectSet, sampler: SamplerConfig) -> list[Positions]:
    """Return the positions of each class's objects.

    Raises:
        UsageError: see `ObjectSampling`.
    """
    missing = int((objects.labels == NO_LABEL).sum())
    if missing:
        raise UsageError(
            f"classes need labels, and {missing} of {len(objects)} training objects have none",
            where=WHERE,
            fix="remove sampler.classes and sampler.objects, or label the objects",
        )
    present, counts = np.unique(objects.labels, return_counts=True)
    if len(present) < (sampler.classes or 0):
        raise UsageError(
            f"a step shows {sampler.classes} classes, and the training objects are of {len(present)}",
            where=f"{WHERE}.classes",
            fix=f"set it to {len(present)} or less, and train.batch_size to match",
        )
    single = [objects.class_names[label] for label, count in zip(present, counts, strict=True) if count == 1]
    if single and (sampler.objects or 0) > 1:
        raise UsageError(
            f"{len(single)} of {len(present)} classes have one training object, beside which no other one of"
            f" its class can stand: {some_of(single)}",
            where=f"{WHERE}.objects",
            fix="leave them out or give them more objects; or show each one twice: objects: 1, visits: 2",
        )
    return [np.flatnonzero(objects.labels == label) for label in present]


def rounds(
    seed: int, epoch: int, count: int, members: Positions, wanted: int, column: int
) -> Iterator[Positions]:
    """Yield `wanted` members at a time, without end: different ones, where there are so many.

    Each round goes over the members in an order of its own as long as they fill a portion.

    Args:
        seed: of the run.
        epoch: from 0.
        count: above every member.
        members: positions.
        wanted: how many at a time.
        column: of the draws.
    """
    number = 0
    while True:
        keys = uniforms(seed, epoch, members + number * count, 1, first=column)[:, 0]
        order = members[np.argsort(keys, kind="stable")]
        if len(order) < wanted:
            yield np.resize(order, wanted)
        else:
            yield from order[: len(order) // wanted * wanted].reshape(-1, wanted)
        number += 1


def numbered(objects: Positions, shown: Positions) -> Positions:
    """Return visits of objects, each with how often it was shown before, and count them in `shown`."""
    visits = np.empty_like(objects)
    for place, index in enumerate(objects.tolist()):
        visits[place] = index + shown[index] * len(shown)
        shown[index] += 1
    return visits


def again(visits: Positions, times: int, count: int) -> Positions:
    """Return each visit so many times in a row, all of them different visits of its object."""
    index, before = visits % count, visits // count
    found = index[:, None] + (before[:, None] * times + np.arange(times)) * count
    return found.ravel()
