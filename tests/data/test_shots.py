from __future__ import annotations

import numpy as np
import pytest

from edgeproof_data.shots import ClassMix, draw_shots

PATHS = [f"train/{name}/{i:02d}.png" for name in "ab" for i in range(20)]
LABELS = np.repeat([0, 1], 20)


def names_of(paths: list[str], labels: np.ndarray, count: int | None, seed: int) -> set[str]:
    return {paths[i] for i in draw_shots(paths, labels, count, seed)}


def test_draw_shots__as_many_of_each_class() -> None:
    chosen = draw_shots(PATHS, LABELS, 4, 0)
    assert np.bincount(LABELS[chosen]).tolist() == [4, 4]
    assert (np.diff(chosen) > 0).all()


def test_draw_shots__the_order_of_the_files_does_not_count() -> None:
    order = np.random.default_rng(0).permutation(len(PATHS))
    turned = names_of([PATHS[i] for i in order], LABELS[order], 4, 3)
    assert turned == names_of(PATHS, LABELS, 4, 3)


def test_draw_shots__more_images_of_one_class_leave_the_other_as_it_was() -> None:
    more, labels = [*PATHS, "train/b/99.png", "train/b/98.png"], np.append(LABELS, [1, 1])
    before, after = names_of(PATHS, LABELS, 4, 0), names_of(more, labels, 4, 0)
    assert {path for path in before if "/a/" in path} == {path for path in after if "/a/" in path}


def test_draw_shots__another_seed_draws_others_and_fewer_are_a_part_of_more() -> None:
    four = names_of(PATHS, LABELS, 4, 0)
    assert four != names_of(PATHS, LABELS, 4, 1)
    assert names_of(PATHS, LABELS, 2, 0) < four


def test_draw_shots__a_small_class_gives_all_and_no_label_nothing() -> None:
    labels = np.append(np.zeros(3, np.int64), [1, 1, -1])
    paths = [f"{i}.png" for i in range(6)]
    assert draw_shots(paths, labels, 16, 0).tolist() == [0, 1, 2, 3, 4]
    assert draw_shots(paths, labels, None, 0).tolist() == [0, 1, 2, 3, 4]
    assert draw_shots(paths, np.full(6, -1), 2, 0).tolist() == []


def test_draw_shots__none_at_all() -> None:
    with pytest.raises(ValueError, match="one shot or more"):
        draw_shots(PATHS, LABELS, 0, 0)


def test_class_mix__equal_classes_are_balanced() -> None:
    mix = ClassMix.of(np.array([0, 1, 2, 0, 1, 2, -1]), 3)
    assert mix.effective_share == pytest.approx(1)
    assert mix.balanced
    assert mix.words() == "2 images a class, effective classes 100 %"


def test_class_mix__one_frequent_class_is_not() -> None:
    mix = ClassMix.of(np.repeat([0, 1], [97, 3]), 2)
    # exp(-(.97 ln .97 + .03 ln .03)) / 2, worked by hand
    assert mix.effective_share == pytest.approx(0.572, abs=1e-3)
    assert not mix.balanced
    assert mix.to_dict() == {
        "images": 100,
        "classes": 2,
        "effective_share": 0.5721,
        "fewest": 3,
        "most": 97,
    }


def test_class_mix__a_class_without_images_is_told() -> None:
    mix = ClassMix.of(np.array([0, 0]), 3)
    assert mix.to_dict()["fewest"] == 0
    assert mix.effective_share == pytest.approx(1 / 3)
    assert ClassMix.of(np.array([-1]), 2).effective_share == 0
