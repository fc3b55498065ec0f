from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from edgeproof_configs.errors import DataError
from edgeproof_configs.registry import component_class
from edgeproof_train.head_trials import FeatureSets, Pool, half_interval, run_trials
from edgeproof_train.heads.evidence import Rows

CLASSES, DIM = 5, 12


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def blobs(count: int, seed: int, noise: float = 0.25) -> Rows:
    means = unit(np.random.default_rng(0).normal(size=(CLASSES, DIM)))
    labels = np.repeat(np.arange(CLASSES), count)
    random = np.random.default_rng(seed)
    return Rows(unit(means[labels] + noise * random.normal(size=(len(labels), DIM))), labels)


def pool(count: int, seed: int) -> Pool:
    rows = blobs(count, seed)
    return Pool(rows, tuple(f"{seed}/{i}.png" for i in range(len(rows.labels))))


def sets(**given: Any) -> FeatureSets:
    names = tuple("abcde")
    settings: dict[str, Any] = {"train": pool(20, 1), "val": pool(10, 2)}
    return FeatureSets(names, blobs(30, 9), **(settings | given))


def head(kind: str, **settings: Any) -> Any:
    component: Any = component_class("head", kind)
    return component.Config(**settings)


def test_run_trials__several_draws_with_an_interval() -> None:
    found = run_trials(sets(), {"nearest_mean": head("nearest_mean")}, [1, 8], tasks=3, seed=4)
    one, eight = found
    assert [trial.shots for trial in found] == [1, 8]
    assert len(set(one.figures["top1"])) > 1
    mean, half = eight.summary("top1")
    assert mean == pytest.approx(np.mean(eight.figures["top1"]))
    values = eight.figures["top1"]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert half == pytest.approx((high - low) / 2)
    assert mean > one.summary("top1")[0]
    told = eight.to_dict()
    assert (told["tasks"], told["figures"]["top1"]["values"]) == (3, values)


def test_run_trials__the_seed_makes_the_draw() -> None:
    heads = {"nearest_mean": head("nearest_mean")}
    first, again, other = (
        run_trials(sets(), heads, [1], tasks=1, seed=seed)[0].figures for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_run_trials__val_is_as_few_as_the_shots_and_at_most_four() -> None:
    given = sets()
    for shots, protocol, wanted in ((2, "few", 2), (8, "few", 4), (2, "full", 10)):
        evidence = given.evidence(shots, 0, protocol, drawn=True)  # pyright: ignore[reportArgumentType]
        assert evidence.val is not None
        assert np.bincount(evidence.val.labels).tolist() == [wanted] * CLASSES
    assert given.evidence(2, 0, "none", drawn=True).val is None


def test_run_trials__stored_draws_are_taken_as_they_are() -> None:
    stored = {2: blobs(2, 5)}
    given = sets(stored=stored)
    evidence = given.evidence(2, 0, "few", drawn=False)
    assert evidence.shots is not None
    np.testing.assert_allclose(evidence.shots.features, stored[2].features, rtol=1e-6)
    with pytest.raises(DataError, match="there are no 3 shots of each class; there are: 2"):
        sets(stored=stored, train=None).evidence(3, 0, "few", drawn=False)


def test_run_trials__what_cannot_be_fitted_has_a_reason() -> None:
    (found,) = run_trials(sets(), {"zero_shot": head("zero_shot")}, [1], tasks=2, seed=0)
    assert found.reason == "needs text embeddings"
    assert found.figures == {}
    assert "figures" not in found.to_dict()


def test_run_trials__a_class_held_out_is_known_by_its_text() -> None:
    given = blobs(20, 1)
    seen = given.labels != 4
    train = Pool(Rows(given.features[seen], given.labels[seen]), tuple(f"{i}.png" for i in range(80)))
    means = unit(np.random.default_rng(0).normal(size=(CLASSES, DIM)))
    heads = {"gda": head("gda")}
    val = pool(10, 2)
    kept = val.rows.labels != 4
    val = Pool(Rows(val.rows.features[kept], val.rows.labels[kept]), val.names[:40])
    (found,) = run_trials(
        sets(train=train, val=val, text=means, unseen=("e",)), heads, [8], tasks=1, seed=0, protocol="full"
    )
    assert found.reason == ""
    assert found.figures["unseen"][0] > 0.5
    assert found.figures["harmonic_mean"][0] > 0.5
    assert "gamma" in found.chosen
    (other,) = run_trials(sets(train=train, val=val, text=means), heads, [8], tasks=1, seed=0)
    assert "1 of 5 classes have no shot" in other.reason


def test_run_trials__a_gallery_has_no_figures_for_classes_held_out() -> None:
    every, heads = pool(6, 0), {"gallery": head("gallery")}
    known = Pool(Rows(every.rows.features[:12], every.rows.labels[:12]), every.names[:12])
    (found,) = run_trials(sets(train=known, unseen=("c", "d", "e")), heads, [2], tasks=1, seed=0)
    assert found.reason == "knows classes by their own photos alone: 3 of 5 were held out"
    (whole,) = run_trials(sets(train=every, unseen=("c", "d", "e")), heads, [2], tasks=1, seed=0)
    assert not whole.reason


def test_run_trials__words_alone_take_nothing_from_seen_classes() -> None:
    train = Pool(Rows(*(part[:64] for part in pool(16, 0).rows)), tuple(map(str, range(64))))
    text = unit(np.random.default_rng(1).normal(size=(CLASSES, DIM)))
    heads = {"zero_shot": head("zero_shot")}
    (found,) = run_trials(sets(train=train, text=text, unseen=("e",)), heads, [2], tasks=1, seed=0)
    assert {"seen", "unseen", "harmonic_mean"} <= set(found.figures)
    assert "gamma" not in found.chosen


def test_half_interval__of_one_value_there_is_none() -> None:
    assert half_interval([0.5]) is None


def uneven() -> Pool:
    """All of five classes but the first, which has three."""
    rows = blobs(20, 1)
    keep = np.r_[0:3, 20:100]
    return Pool(Rows(rows.features[keep], rows.labels[keep]), tuple(f"{i}.png" for i in keep))


def test_run_trials__classes_with_fewer_shots_are_told() -> None:
    given = sets(train=uneven(), said=("test: rows have been normalised",))
    heads = {"nearest_mean": head("nearest_mean")}
    some, every = run_trials(given, heads, [8, None], tasks=2, seed=0)
    assert some.given == {"images": 35, "fewest": 3, "most": 8, "classes_with_fewer": {"a": 3}}
    assert every.given == {"images": 83, "fewest": 3, "most": 20}
    assert (some.to_dict()["tasks"], every.to_dict()["tasks"]) == (2, 1)
    assert (some.to_dict()["given"], some.to_dict()["val_images"]) == (some.given, 20)
    assert some.notes[0] == "test: rows have been normalised"
    held_out = sets(train=uneven(), unseen=("a",))
    assert "classes_with_fewer" not in run_trials(held_out, heads, [8], tasks=1, seed=0)[0].given


def test_run_trials__text_that_was_normalised_is_said() -> None:
    given = sets(text=3 * unit(np.random.default_rng(0).normal(size=(CLASSES, DIM))))
    (found,) = run_trials(given, {"zero_shot": head("zero_shot")}, [2], tasks=2, seed=0)
    assert found.notes[0] == "text: rows were not of unit length and have been normalised"
    assert found.val_images == 0


def test_one_draw__of_all_images() -> None:
    given = sets(train=uneven(), stored={2: blobs(2, 5)})
    assert [given.one_draw(count, True) for count in (2, 19, 20, None)] == [False, False, True, True]
    assert given.one_draw(2, False)
    assert [given.by_seed(count, "few", False) for count in (2, 8)] == [True, True]
    assert not given.by_seed(2, "full", False)
    assert given.by_seed(8, "full", False)
