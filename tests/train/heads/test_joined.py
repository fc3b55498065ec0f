from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save

from edgeproof_deploy.runtime.cache_head import CacheHead
from edgeproof_deploy.runtime.ensemble_head import EnsembleHead
from edgeproof_deploy.runtime.head import Head, ZeroShotHead, parse_head
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.joined import joined, matched, sharpened, shifted

NAMES = ("ant", "bee", "cat", "dog")
SEEN = ("dog", "bee")


def random_units(rows: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(rows, 6))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


TEXT, IMAGES = random_units(4, 0), random_units(5, 1)
LINEAR = LinearHead(SEEN, random_units(2, 2), np.array([0.5, -1.0], np.float32), 3.0)
KEYS, VALUES = random_units(3, 3), random_units(3, 4)[:, :2]
TIP = CacheHead(SEEN, KEYS, np.array([[2.0, 0], [0, 2.0], [2.0, 0]], np.float32), 1.5, LINEAR, "logits", 2.0)
PROKER = CacheHead(SEEN, KEYS, VALUES, 1.5, LINEAR, "probabilities", 4.0)
BARE = CacheHead(SEEN, KEYS, VALUES, 1.5, None)
HEADS = {
    "linear": LINEAR,
    "zero_shot": ZeroShotHead(SEEN, random_units(2, 5), 9.0),
    "tip": TIP,
    "proker": PROKER,
    "bare": BARE,
    "of probabilities": EnsembleHead(SEEN, (LINEAR, TIP), np.array([0.25, 0.75]), "probabilities"),
    "of z-scores": EnsembleHead(SEEN, (LINEAR, TIP), np.array([0.25, 0.75]), "z_scores"),
}


@pytest.mark.parametrize("name", HEADS)
def test_shifted__adds_to_every_score_and_can_be_stored(name: str) -> None:
    head, bias = HEADS[name], np.array([-2.0, 0.75])
    moved = shifted(head, bias)
    np.testing.assert_allclose(moved(IMAGES), head(IMAGES) + bias, rtol=1e-5, atol=1e-5)
    again = shifted(moved, -bias)
    np.testing.assert_allclose(again(IMAGES), head(IMAGES), rtol=1e-5, atol=2e-5)
    if moved.form:
        stored = save(moved.arrays(), moved.described())
        read = parse_head(stored, "".join(f"{label}\n" for label in moved.labels).encode())
        np.testing.assert_array_equal(read(IMAGES), moved(IMAGES))


def test_shifted__needs_a_number_for_each_class() -> None:
    with pytest.raises(ValueError, match=r"2 classes and a bias of shape \(3,\)"):
        shifted(LINEAR, np.zeros(3))
    assert shifted(LINEAR, np.zeros(2)) is LINEAR


@pytest.mark.parametrize("name", ["linear", "zero_shot", "tip", "bare"])
def test_joined__own_scores_stay_and_others_are_cosines(name: str) -> None:
    head = HEADS[name]
    wide = joined(head, NAMES, TEXT, 10.0)
    assert wide.labels == NAMES
    np.testing.assert_allclose(wide(IMAGES)[:, [3, 1]], head(IMAGES), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(wide(IMAGES)[:, [0, 2]], 10 * IMAGES @ TEXT[[0, 2]].T, rtol=1e-5, atol=1e-5)


def test_joined__probabilities_are_shared_out_among_all_classes() -> None:
    wide = joined(PROKER, NAMES, TEXT, 10.0)
    base = np.zeros((5, 4))
    base[:, [3, 1]], base[:, [0, 2]] = LINEAR(IMAGES), 10 * IMAGES @ TEXT[[0, 2]].T
    shares = np.exp(base) / np.exp(base).sum(axis=1, keepdims=True)
    shares[:, [3, 1]] += np.exp(-1.5 * (1 - IMAGES @ KEYS.T)) @ VALUES
    np.testing.assert_allclose(wide(IMAGES), 4 * shares, rtol=1e-5, atol=1e-5)


def test_joined__of_an_ensemble_joins_its_members() -> None:
    head = HEADS["of probabilities"]
    assert isinstance(head, EnsembleHead)
    wide = joined(head, NAMES, TEXT, 10.0)
    parts: list[Head] = [joined(member, NAMES, TEXT, 10.0) for member in head.members]
    expected = 0.25 * parts[0].probabilities(IMAGES) + 0.75 * parts[1].probabilities(IMAGES)
    np.testing.assert_allclose(wide.probabilities(IMAGES), expected, rtol=1e-4, atol=1e-6)


def test_joined__refuses_labels_that_are_no_names() -> None:
    with pytest.raises(ValueError, match="'dog' is not among the 2 names"):
        joined(LINEAR, ("ant", "bee"), TEXT[:2], 10.0)


@pytest.mark.parametrize("name", ["linear", "zero_shot", "tip", "proker"])
def test_sharpened__multiplies_every_score(name: str) -> None:
    np.testing.assert_allclose(
        sharpened(HEADS[name], 2.5)(IMAGES), 2.5 * HEADS[name](IMAGES), rtol=1e-5, atol=1e-5
    )


def test_sharpened__an_ensemble_has_no_factor() -> None:
    with pytest.raises(ValueError, match="EnsembleHead is no matrix"):
        sharpened(HEADS["of probabilities"], 2.0)


@pytest.mark.parametrize("name", ["linear", "tip", "proker", "bare"])
def test_matched__as_high_and_as_wide_as_the_text(name: str) -> None:
    head, text = HEADS[name], TEXT[[3, 1]]
    moved = matched(head, text, 10.0, IMAGES)(IMAGES)
    wanted = 10 * IMAGES @ text.T
    assert moved.mean() == pytest.approx(wanted.mean(), abs=1e-4)
    assert moved.std(axis=1).mean() == pytest.approx(wanted.std(axis=1).mean(), rel=1e-4)
    assert (moved.argmax(axis=1) == head(IMAGES).argmax(axis=1)).all()


def test_matched__members_of_an_ensemble() -> None:
    head, text = HEADS["of z-scores"], TEXT[[3, 1]]
    moved = matched(head, text, 10.0, IMAGES)
    assert isinstance(moved, EnsembleHead)
    wanted = (10 * IMAGES @ text.T).mean()
    assert [part(IMAGES).mean() for part in moved.members] == pytest.approx([wanted, wanted], abs=1e-4)
