from __future__ import annotations

from pathlib import Path

import pytest

from edgeproof_benchmarks.distillation import LOGITS, MAPS, METHODS, subset, summary, take_over, words
from edgeproof_configs.loader import load_recipe


@pytest.mark.parametrize("method", METHODS)
def test_methods__are_recipes_that_take_the_benchmark_s_settings(method: str, tmp_path: Path) -> None:
    settings = [f"data.root={tmp_path}", "train.seed=1", "train.epochs=15"]
    settings += [] if method == "baseline" else [f"teacher.path={tmp_path}"]
    settings += ["teacher.stored_views=15"] if method in LOGITS else []
    recipe = load_recipe(f"cifar10-{method}", settings).recipe
    assert recipe.train.epochs == 15
    assert recipe.train.clip_grad_norm is None, "clipping hides the methods"
    assert (method in MAPS) == any(getattr(loss, "nodes", ()) for loss in recipe.losses)


def test_subset__takes_the_first_of_each_class_and_all_test_images(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("test", 3)):
        for label in ("cat", "dog"):
            for number in range(count):
                file = tmp_path / "data" / part / label / f"{number}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"x")
    made = subset(tmp_path / "data", tmp_path / "some", 4)
    assert sorted(str(file.relative_to(made)) for file in (made / "train").rglob("*.jpg")) == [
        "train/cat/0.jpg",
        "train/cat/1.jpg",
        "train/dog/0.jpg",
        "train/dog/1.jpg",
    ]
    assert len(list((made / "test").rglob("*.jpg"))) == 6


def test_take_over__copies_a_finished_cache_without_its_mark(tmp_path: Path) -> None:
    cache = tmp_path / "cifar10-dkd-0" / "embed"
    for name in ("test/rows.bin", "train_view_000/rows.bin", "stage.json"):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text("{}")
    take_over(tmp_path / "cifar10-dkd-1", with_views=True)
    take_over(tmp_path / "cifar10-rkd-0", with_views=False)
    with_views, without = (tmp_path / name / "embed" for name in ("cifar10-dkd-1", "cifar10-rkd-0"))
    assert (with_views / "train_view_000" / "rows.bin").exists()
    assert not (with_views / "stage.json").exists()
    assert sorted(place.name for place in without.iterdir()) == ["test"]


def test_summary__over_seeds() -> None:
    scores = [{"best": 0.62, "last": 0.60, "seconds": 10.0}, {"best": 0.66, "last": 0.61, "seconds": 20.0}]
    found = summary(scores)
    assert found["best"] == {"mean": 0.64, "std": pytest.approx(0.02828, abs=1e-5), "values": [0.62, 0.66]}
    assert words(found) == "best epoch 64.00 ± 2.83, last epoch 60.50 ± 0.71 (n = 2, 15.0 s)"
