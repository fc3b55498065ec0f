from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.compress.small_students import quantised, write_images

from edgeproof_compress.sensitivity import fewest_to_return, sensitivities, unit
from edgeproof_train.embeddings import embed_images


class Fake(SimpleNamespace):
    """Stands for a quantised student: what it has given back."""

    def without(self, layers: list[str]) -> Fake:
        return Fake(given_back=tuple(layers))


def run(count: int, needed: int) -> tuple[Any, list[str], int]:
    """Return what is found where `needed` of `count` layers have to go back, and after how many looks."""
    order = [f"layer{number}" for number in range(count)]
    looks = 0

    def lost(student: Any) -> float:
        nonlocal looks
        looks += 1
        return 0.0 if len(student.given_back) >= needed else 1.0

    found: Any
    student: Any = Fake(given_back=())
    found, returned = fewest_to_return(student, order, lost, 0.5)
    assert returned == order[: len(returned)]
    assert found.given_back == tuple(returned)
    return found, returned, looks


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 21])
def test_fewest_to_return__is_the_fewest(count: int) -> None:
    for needed in range(count + 1):
        _, returned, looks = run(count, needed)
        assert len(returned) == min(needed, count - 1), "never all"
        assert looks <= 2 * np.ceil(np.log2(count + 1)) + 2


def test_fewest_to_return__takes_a_loss_that_is_just_the_budget() -> None:
    student: Any = Fake(given_back=())
    found, returned = fewest_to_return(student, ["a", "b"], lambda _: 0.25, 0.25)
    assert found is student
    assert returned == []


def test_sensitivities__put_the_layer_first_whose_rounding_costs_most(tmp_path: Path) -> None:
    student = quantised()
    images = write_images(tmp_path, 8)
    coarse = "backbone.layer2.0.conv2"
    # With a range far beyond its weights almost all of them are rounded to 0.
    quantizer = student.weight_quantizers()[coarse]
    quantizer.set_ranges(quantizer.ranges * 40)
    rounded = embed_images(student, images)
    found = sensitivities(student, images, "cpu")
    assert set(found) == set(student.spec.layers)
    assert next(iter(found)) == coarse
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert all(-1e-6 < value < 1 for value in found.values())
    assert np.array_equal(embed_images(student, images), rounded), "it rounds again as before"

    student.use(None)
    plain = unit(embed_images(student, images))
    layer = "backbone.conv1"
    student.use_only(layer)
    alone = unit(embed_images(student, images))
    assert found[layer] == pytest.approx(1 - (alone * plain).sum(axis=1).mean(), abs=1e-6)


def test_unit__leaves_a_row_of_zeros() -> None:
    assert unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0.0, 0.0]]
