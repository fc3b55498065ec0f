from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeproof_configs.errors import UsageError
from edgeproof_data.draws import permutation
from edgeproof_data.sampling import Sampling, members_of_classes
from edgeproof_data.sets import ImageSet

NAMES = ("a", "b", "c", "d")


def images(*counts: int) -> ImageSet:
    """Return so many images of each class, mixed up."""
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(0).permutation(labels).astype(np.int64)
    return ImageSet(Path("/nowhere"), tuple(map(str, range(len(labels)))), labels, NAMES)


def test_visits__without_balance_every_image_once_in_the_known_order() -> None:
    order = Sampling(images(5, 2), seed=3).visits(4)
    assert np.array_equal(order, permutation(3, 4, 7))


@pytest.mark.parametrize("counts", [(50, 3, 1), (7, 7, 7), (1, 0, 9, 4), (2, 30)])
def test_visits__every_class_equally_often(counts: tuple[int, ...]) -> None:
    data = images(*counts)
    count, classes = len(data), sum(map(bool, counts))
    sampling = Sampling(data, 1, "classes")
    total = np.zeros(4, np.int64)
    for epoch in range(classes):
        visits = sampling.visits(epoch)
        assert len(visits) == count
        often = np.bincount(data.labels[visits % count], minlength=4)
        assert often[np.array(counts + (0,) * (4 - len(counts))) == 0].sum() == 0
        assert set(often[often > 0]) <= {count // classes, -(-count // classes)}
        total += often
    assert set(total[total > 0]) == {count}


def test_visits__hand_case() -> None:
    # 6 images in 2 classes: 3 visits each. Class b has 1 image: it comes three times, told apart by v // 6.
    data = ImageSet(Path("/nowhere"), tuple("123456"), np.array([0, 0, 1, 0, 0, 0]), NAMES)
    visits = Sampling(data, 0, "classes").visits(0)
    assert sorted(visits[visits % 6 == 2]) == [2, 8, 14]
    assert len(set(visits[visits % 6 != 2])) == 3


def test_visits__images_of_a_class_take_turns_across_epochs() -> None:
    data = images(20, 4)
    sampling = Sampling(data, 5, "classes")
    seen = np.concatenate([sampling.visits(epoch) % 24 for epoch in range(5)])
    often = np.bincount(seen, minlength=24)
    # 5 epochs with 12 visits each are 60 for each class: 3 rounds of 20 images, and 15 rounds of 4.
    assert set(often[data.labels == 0]) == {3}
    assert set(often[data.labels == 1]) == {15}


def test_visits__differ_within_an_epoch_and_depend_on_seed_and_epoch() -> None:
    data = images(30, 2, 5)
    first = Sampling(data, 1, "classes").visits(3)
    assert len(set(first)) == len(first)
    assert np.array_equal(first, Sampling(data, 1, "classes").visits(3))
    assert not np.array_equal(first, Sampling(data, 1, "classes").visits(4))
    assert not np.array_equal(first, Sampling(data, 2, "classes").visits(3))
    # Shuffled, not class after class.
    assert (np.diff(data.labels[first % len(data)]) != 0).sum() > 12


def test_visits__rounds_of_a_class_are_not_all_in_one_order() -> None:
    data = images(2, 6)
    sampling = Sampling(data, 0, "classes")
    members = members_of_classes(data)[1]
    rounds = sampling._turns(members, 0, 60) % len(data)
    orders = {tuple(order) for order in rounds.reshape(10, 6)}
    assert all(sorted(order) == sorted(members) for order in orders)
    assert len(orders) > 7
    assert np.array_equal(sampling._turns(members, 17, 23) % len(data), rounds[17:23])


def test_sampling__refuses_what_it_cannot_balance() -> None:
    data = images(3, 3)
    data.labels[:2] = -1
    with pytest.raises(UsageError, match="2 of 6 training images have none") as caught:
        Sampling(data, 0, "classes")
    assert caught.value.where == "train.balance"
    assert len(Sampling(data, 0).visits(0)) == 6
    with pytest.raises(UsageError, match="of 1 class"):
        Sampling(images(4), 0, "classes")
