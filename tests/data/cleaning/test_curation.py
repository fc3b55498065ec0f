from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeproof_configs.schema import CurateConfig
from edgeproof_data.alike import Rows, Vectors
from edgeproof_data.cache import CacheKey, CacheWriter
from edgeproof_data.cleaning.cleaning import Sieve
from edgeproof_data.cleaning.curation import (
    Fitting,
    Leading,
    cosines_of,
    evened_out,
    reasons_of,
    said,
    sieved,
    told_of,
)
from edgeproof_data.sets import NO_LABEL, ImageSet, SplitName
from edgeproof_data.split_table import Entry

MakeImages = Callable[..., Path]
CAT, DOG, FISH, NOTHING = np.eye(4, dtype=np.float32)
WORDS = ("cat", "dog")
SEEN: dict[SplitName, dict[str, Any]] = {
    "train": {
        "a": CAT,
        "b": CAT + 0.1 * DOG,
        "c": DOG,
        "d": FISH + 0.5 * CAT,
        "e": NOTHING,
        "f": CAT + 0.9 * DOG,
    },
    "val": {"v": CAT + 0.02 * FISH, "w": NOTHING},
    "test": {"t": DOG + 0.3 * FISH, "u": NOTHING + 0.1 * DOG},
}
QUERIES = np.stack([CAT, DOG])


@pytest.fixture
def root(make_images: MakeImages) -> Path:
    return make_images(*(f"{part}/{name}.png" for part, names in SEEN.items() for name in names))


def fitting(
    root: Path, queries: np.ndarray = QUERIES, labelled: bool = False, **settings: Any
) -> tuple[Any, Any]:
    images: dict[SplitName, ImageSet] = {}
    caches: dict[SplitName, Vectors] = {}
    for part, names in SEEN.items():
        labels = np.full(len(names), 0 if labelled and part == "test" else NO_LABEL, np.int64)
        paths = tuple(f"{part}/{name}.png" for name in names)
        images[part] = ImageSet(root, paths, labels, ("fish",) if labelled else ())
        writer = CacheWriter(root / "cache" / part, CacheKey({"kind": "made"}, None), images[part])
        vectors = np.stack(list(names.values())).astype(np.float32)
        pending = writer.pending()
        if len(pending):
            writer.add(pending, vectors[pending])
        caches[part] = writer.finish()
    config = CurateConfig(**({"floor": 0.5, "near": False, "smallest_side": 1} | settings))
    others = ("fish",) * (len(queries) - len(WORDS))
    return Fitting.of(images, caches, WORDS, others, queries, config), config


def taken(found: Fitting) -> dict[str, str]:
    return {Path(one.path).stem: one.label for one in found.entries}


def test_fitting__each_image_has_its_best_word_where_one_fits(root: Path) -> None:
    found, _ = fitting(root)
    assert taken(found) == {"a": "cat", "b": "cat", "c": "dog", "f": "cat", "v": "cat", "t": "dog"}
    assert [one.reason for one in found.unfit] == ["far from every word"] * 4
    assert cosines_of(found)["p95"] == pytest.approx(1, abs=0.01)
    assert cosines_of(found)["p5"] == pytest.approx(0, abs=0.01)


def test_fitting__margin_and_a_wider_vocabulary(root: Path) -> None:
    assert "f" not in taken(fitting(root, margin=0.2)[0])
    found, _ = fitting(root, np.concatenate([QUERIES, FISH[None]]), floor=0.3)
    assert "d" not in taken(found)
    assert [one.detail for one in found.unfit if "other" in one.reason] == ["fish 0.8944"]
    assert len(found.unfit) == 4
    assert taken(fitting(root, floor=0.3)[0])["d"] == "cat"


def test_fitting__a_part_with_labels_stays_whole(root: Path) -> None:
    found, config = fitting(root, labelled=True)
    assert {name: word for name, word in taken(found).items() if name in "tu"} == {"t": "fish", "u": "fish"}
    assert found.settled == {"test"}
    (root / "test" / "u.png").write_bytes((root / "test" / "t.png").read_bytes())
    (root / "train" / "c.png").write_bytes((root / "test" / "t.png").read_bytes())
    kept, removed = sieved(found, config)
    assert {Path(one.path).stem for one in kept} == {"a", "b", "f", "v", "t", "u"}
    assert [(one.entry.path, one.reason, one.leaked) for one in removed] == [
        ("train/c.png", "same bytes", True)
    ]


def test_sieved__twins_small_and_broken_ones_go(root: Path, make_images: MakeImages) -> None:
    found, config = fitting(root, smallest_side=8)
    (root / "train" / "a.png").write_bytes((root / "val" / "v.png").read_bytes())
    (root / "train" / "b.png").write_bytes(b"")
    make_images("train/c.png", root=root, size=(4, 9))
    kept, removed = sieved(found, config)
    assert {Path(one.path).stem for one in kept} == {"f", "v", "t"}
    reasons = {Path(one.entry.path).stem: one.reason for one in removed}
    assert reasons == {"a": "same bytes", "b": "empty", "c": "too small"}


def test_sieved__images_that_mean_the_same_over_parts(root: Path) -> None:
    found, config = fitting(root, alike=0.99)
    kept, removed = sieved(found, config)
    # a, b and v are within 6 degrees of each other: the one of val stays.
    assert {Path(one.path).stem for one in kept} == {"c", "f", "v", "t"}
    assert {one.detail for one in removed} == {"val/v.png"}


def test_evened_out__at_most_so_many_of_a_word_the_best_first(root: Path) -> None:
    found, config = fitting(root, per_word=2)
    kept, over, capped = evened_out(found, found.entries, config)
    assert [Path(one.path).stem for one in kept] == ["a", "b", "c", "v", "t"]
    assert capped == {"over_cap": 1, "over_balance": 0}
    found, config = fitting(root, balance=1.0)
    kept, over, capped = evened_out(found, found.entries, config)
    assert [Path(one.entry.path).stem for one in over] == ["b", "f"]
    assert [Path(one.path).stem for one in kept if one.part == "train"] == ["a", "c"]
    assert capped == {"over_cap": 0, "over_balance": 2}


def test_told_of__counts_add_up(root: Path) -> None:
    found, config = fitting(root, alike=0.99, per_word=1)
    cleaned, removed = sieved(found, config)
    kept, over, capped = evened_out(found, cleaned, config)
    assert len(kept) + len(over) + len(removed) + len(found.unfit) == 10
    metrics = told_of(found, (*WORDS, "fish"), kept, removed, capped, unreadable=1)
    assert metrics["per_word"] == {"cat": 1, "dog": 1, "fish": 0}
    assert metrics["empty_words"] == ["fish"]
    searched = sum(metrics["searched"].values())
    assert sum(metrics["kept"].values()) + sum(reasons_of(metrics).values()) == searched + 1
    words = "4 of 10 images for 2 words; not 1 unreadable, 4 far from every word, 2 same meaning; cosine"
    assert said(metrics).startswith(words)


def test_sieve__what_is_labelled_stays_before_what_is_tested_on() -> None:
    sieve = Sieve([Entry("val/v", "val", "fish"), Entry("test/t", "test", "dog")], settled=["val"])
    sieve.take_out_twins([["val/v", "test/t"]], "same bytes")
    assert [one.path for one in sieve.result().kept] == ["val/v"]
    assert [(one.entry.path, one.detail) for one in sieve.result().removed] == [("test/t", "val/v")]


def test_leading__of_several_teachers_the_values_of_the_first() -> None:
    rows = np.array([[3, 4, 9, 9], [0, 2, 1, 0]], np.float32)
    found = Leading(Rows(rows), 2)
    assert found.rows([1, 0]).tolist() == [[0, 1], pytest.approx([0.6, 0.8])]
    assert len(found) == 2
