"""Which images an epoch shows, and in which order."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import UsageError
from edgeproof_data.draws import TURN, permutation, uniforms
from edgeproof_data.sets import NO_LABEL, ImageSet

Balance = Literal["none", "classes"]
Positions = NDArray[np.int64]


class Sampling:
    """The order of an epoch, a function of the seed and the epoch alone.

    An epoch has as many visits as there are images, N. Without balance every image is visited once. With
    `classes` each of the C classes gets N / C visits, rounded down or up so that over C epochs all get the
    same number. A class takes its images in turn, each once before any comes again, in an order that is drawn
    anew each time round, and goes on in the next epoch where it stopped. So images of large classes wait for
    their turn, and images of small ones come several times an epoch.

    Args:
        images: what to train on.
        seed: of the run.
        balance: `none` or `classes`.

    Raises:
        UsageError: images have no label, or there are not two classes to balance.
    """

    def __init__(self, images: ImageSet, seed: int, balance: Balance = "none"):
        self.count, self.seed = len(images), seed
        self.classes = members_of_classes(images) if balance == "classes" else None

    def visits(self, epoch: int) -> Positions:
        """Return the N visits of an epoch (from 0).

        A visit v shows image `v % N`. Visits of the same image in an epoch differ in `v // N`, so that each
        can be changed in its own way.
        """
        order = permutation(self.seed, epoch, self.count)
        return order if self.classes is None else self._balanced(self.classes, epoch)[order]

    def _balanced(self, classes: list[Positions], epoch: int) -> Positions:
        # Class number `rank` has had floor((e N + C - 1 - rank) / C) visits before epoch e: equal shares with
        # a remainder that goes round. Over all ranks these sum to e N exactly.
        total = len(classes)
        found = []
        for rank, members in enumerate(classes):
            start, stop = ((at * self.count + total - 1 - rank) // total for at in (epoch, epoch + 1))
            found.append(self._turns(members, start, stop))
        return np.concatenate(found)

    def _turns(self, members: Positions, start: int, stop: int) -> Positions:
        """Return the visits number `start` to `stop` of one class, counted from the first epoch on."""
        return turns(self.seed, self.count, members, start, stop)


def turns(seed: int, count: int, members: Positions, start: int, stop: int) -> Positions:
    """Return the turns number `start` to `stop` of members, each of which comes once before any comes again.

    A turn t is of member `t % count`; those of the same member differ in `t // count`, the round of turns
    counted from that of `start`.

    Args:
        seed: decides the order, drawn anew each time round.
        count: above every member.
        members: positions.
        start: turn to begin with, from 0.
        stop: turn to end before.
    """
    first = start // len(members)
    rounds = np.arange(first, -(-stop // len(members)))[:, None]
    keys = uniforms(seed, 0, (members + rounds * count).ravel(), 1, first=TURN)
    order = np.argsort(keys.reshape(len(rounds), -1), axis=1, kind="stable")
    visits = members[order] + (rounds - first) * count
    return visits.ravel()[start - first * len(members) : stop - first * len(members)]


def members_of_classes(images: ImageSet) -> list[Positions]:
    """Return the positions of each class that has images.

    Raises:
        UsageError: images have no label, or there are not two classes.
    """
    missing = int((images.labels == NO_LABEL).sum())
    if missing:
        raise UsageError(
            f"balancing classes needs labels, and {missing} of {len(images)} training images have none",
            where="train.balance",
            fix="set train.balance: none, or label the images",
        )
    present = np.unique(images.labels)
    if len(present) < 2:
        raise UsageError(
            f"balancing classes has no effect: the training images are of {len(present)} class",
            where="train.balance",
            fix="set train.balance: none",
        )
    return [np.flatnonzero(images.labels == label) for label in present]
