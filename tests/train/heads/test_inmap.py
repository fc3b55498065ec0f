from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edgeproof_benchmarks.head_sets import read_sets
from edgeproof_benchmarks.head_studies import uneven
from edgeproof_configs.errors import DataError
from edgeproof_train.heads.evidence import Evidence, evidence_of
from edgeproof_train.heads.inmap import InMaP
from edgeproof_train.heads.proxies import unit


def clusters(counts: list[int], seed: int = 0, dim: int = 32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images in clusters of given sizes, text beside their means, and the classes."""
    rng = np.random.default_rng(seed)
    means = unit(rng.normal(size=(len(counts), dim)))
    labels = np.repeat(np.arange(len(counts)), counts)
    images = unit(means[labels] + 0.13 * rng.normal(size=(len(labels), dim)) + 0.1)
    return images, unit(means + 0.2 * rng.normal(size=means.shape)), labels


def evidence(images: np.ndarray, text: np.ndarray, scale: float = 20.0) -> Evidence:
    names = [f"c{row}" for row in range(len(text))]
    return evidence_of(names, text=text, unlabelled=images, logit_scale=scale)


def right(images: np.ndarray, text: np.ndarray, labels: np.ndarray, **settings: Any) -> float:
    head = InMaP.fit(InMaP.Config(**settings), evidence(images, text)).head
    return float((head.logits(images).argmax(axis=1) == labels).mean())


def caltech(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the test images of the 41 classes that have text, their text and their classes."""
    pack = folder / "caltech_clip_b32"
    names = (pack / "text_classes_41.txt").read_text(encoding="utf-8").split("\n")
    place = {name.replace("_", " "): row for row, name in enumerate(names) if name}
    with (pack / "index_test.csv").open(encoding="utf-8") as file:
        found = [place.get(row["class"].replace("_", " "), -1) for row in csv.DictReader(file)]
    labels = np.array(found)
    images = np.load(pack / "image_embeddings_test.npy")[labels >= 0]
    return images, np.load(pack / "text_embeddings_41.npy"), labels[labels >= 0]


def test_fit__gains_where_classes_are_balanced() -> None:
    images, text, labels = clusters([40] * 8)
    zero_shot = float(((images @ text.T).argmax(axis=1) == labels).mean())
    assert zero_shot < 0.97
    assert right(images, text, labels) > zero_shot + 0.02
    assert right(images, text, labels, prior="uniform") > zero_shot + 0.02


@pytest.mark.parametrize(
    "counts", [[200, 60, 20, 10, 5, 5, 3, 3], [150, 150, 2, 1, 1, 1, 1, 1], [300] + [2] * 7]
)
def test_fit__auto_does_no_harm_under_imbalance(counts: list[int]) -> None:
    for seed in range(3):
        images, text, labels = clusters(counts, seed)
        zero_shot = float(((images @ text.T).argmax(axis=1) == labels).mean())
        assert right(images, text, labels, prior="uniform") < zero_shot - 0.1
        assert right(images, text, labels) >= zero_shot - 0.01


def test_fit__chosen_and_notes_tell_the_prior() -> None:
    fitted = InMaP.fit(InMaP.Config(), evidence(*clusters([300] + [2] * 7)[:2]))
    assert fitted.chosen["prior"] in {"counted", "pseudo 1"}
    assert 0 < fitted.chosen["effective_classes"] < 0.6
    assert fitted.chosen["images"] == 314
    assert "effective classes" in fitted.notes[0]
    em = InMaP.fit(InMaP.Config(prior="em", dirichlet=2), evidence(*clusters([40] * 8)[:2]))
    assert em.chosen["prior"] == "em 2"


def test_fit__plain_and_fast_agree() -> None:
    images, text, _ = clusters([30] * 8)
    full = InMaP.fit(InMaP.Config(solver="plain"), evidence(images, text))
    early = InMaP.fit(InMaP.Config(solver="fast"), evidence(images, text))
    assert full.chosen["steps"] == 2000
    assert early.chosen["steps"] < 200
    plain, fast = (fitted.head.logits(images).argmax(axis=1) for fitted in (full, early))
    assert (plain == fast).mean() >= 0.995


def test_fit__order_of_images_and_classes() -> None:
    images, text, labels = clusters([40] * 8)
    rows, columns = np.random.default_rng(1).permutation(len(images)), np.array([3, 0, 7, 4, 1, 2, 6, 5])
    plain = InMaP.fit(InMaP.Config(), evidence(images, text)).head.logits(images).argmax(axis=1)
    other = InMaP.fit(InMaP.Config(), evidence(images[rows], text[columns])).head.logits(images)
    assert (columns[other.argmax(axis=1)] == plain).mean() >= 0.995
    assert len(labels) == 320


def test_fit__one_image_and_a_class_that_no_image_has() -> None:
    images, text, labels = clusters([30, 30, 0, 30])
    priors: tuple[Any, ...] = ("auto", "uniform", "em", (0.5, 0.5, 0.0, 0.0))
    for prior in priors:
        for seen in (images, images[:1], images[:3]):
            head = InMaP.fit(InMaP.Config(prior=prior), evidence(seen, text, 100)).head
            assert np.isfinite(head.logits(images)).all()
    assert right(images, text, labels, prior=(1, 1, 0, 1)) > 0.9


def test_fit__same_seed_same_head() -> None:
    images, text, _ = clusters([40] * 8)
    first, second = (InMaP.fit(InMaP.Config(), evidence(images, text)).head.logits(images) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"gamma": 0.5}, "prior: pseudo"),
        ({"prior": "pseudo", "dirichlet": 2}, "prior: em"),
        ({"prior": (0.0, 0.0)}, "no class a share"),
        ({"prior": (1.0, -1.0)}, "greater than or equal to 0"),
        ({"use_text": False}, "use_text"),
    ],
)
def test_config__settings_without_effect_are_refused(settings: dict, match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        InMaP.Config(**settings)


def test_fit__refused() -> None:
    images, text, _ = clusters([10] * 4)
    with pytest.raises(DataError, match="without labels"):
        InMaP.fit(InMaP.Config(), evidence_of(list("abcd"), text=text))
    with pytest.raises(DataError, match="2 shares for 4 classes"):
        InMaP.fit(InMaP.Config(prior=(0.5, 0.5)), evidence(images, text))


def test_fit__caltech_as_measured_before(real_data: Path) -> None:
    images, text, labels = caltech(real_data)
    found = evidence(images, text, 100)

    def top1(**settings: Any) -> float:
        head = InMaP.fit(InMaP.Config(**settings), found).head
        return 100 * float((head.logits(images).argmax(axis=1) == labels).mean())

    zero_shot = 100 * float(((images.astype(np.float32) @ text.T).argmax(axis=1) == labels).mean())
    assert zero_shot == pytest.approx(96.98, abs=0.01)
    assert top1(prior="uniform") == pytest.approx(80.72, abs=0.3)
    assert top1(prior="pseudo", gamma=1) == pytest.approx(97.26, abs=0.3)
    assert top1() >= zero_shot


def test_fit__uneven_classes_cost_no_more_than_the_interval(real_data: Path) -> None:
    one = read_sets(real_data)[0]
    assert one.text is not None
    drawn = uneven(one, 10)
    gained = {}
    for name in ("balanced", "Dirichlet 1", "Dirichlet 3"):
        gains = []
        for rows in drawn[name][1:4]:
            found = evidence(rows.features, one.text, 100)
            answers = InMaP.fit(InMaP.Config(), found).head.logits(rows.features).argmax(axis=1)
            share = float(((rows.features @ one.text.T).argmax(axis=1) == rows.labels).mean())
            interval = 1.96 * np.sqrt(share * (1 - share) / len(rows.labels))
            gains.append(float((answers == rows.labels).mean()) - share)
            assert gains[-1] >= -interval, name
        gained[name] = np.mean(gains)
    assert gained["balanced"] >= 0.012
