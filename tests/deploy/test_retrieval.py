from __future__ import annotations

import numpy as np
import pytest

from edgeproof_deploy import retrieval
from edgeproof_deploy.retrieval import Gallery, hits, queries_of, ranking_changes, retrieval_changes


def clusters(spread: float, classes: int = 4, each: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, 12))
    labels = np.repeat(np.arange(classes), each)
    return centres[labels] + spread * rng.standard_normal((len(labels), 12)), labels, centres


def ranked_by_hand(rows: np.ndarray, gallery: np.ndarray, labels: np.ndarray, k: int) -> list[bool]:
    found = []
    for i, row in enumerate(rows):
        near = gallery @ row / np.linalg.norm(gallery, axis=1) / np.linalg.norm(row)
        order = [j for j in np.argsort(-near) if j != i][:k]
        found.append(any(labels[j] == labels[i] for j in order))
    return found


def test_retrieval_changes__against_a_search_by_hand() -> None:
    reference, labels, text = clusters(1.2)
    candidate = reference + 0.8 * np.random.default_rng(1).standard_normal(reference.shape)
    found = retrieval_changes(reference, candidate, labels, text)
    for k in (1, 5, 10):
        before = np.mean(ranked_by_hand(reference, reference, labels, k))
        own = np.mean(ranked_by_hand(candidate, candidate, labels, k))
        index = np.mean(ranked_by_hand(candidate, reference, labels, k))
        image, across = (found[name]["recall"][str(k)] for name in ("image_to_image", "image_to_index"))
        assert image["reference"] == across["reference"] == pytest.approx(before)
        assert image["candidate"] == pytest.approx(own)
        assert across["candidate"] == pytest.approx(index)
        low, high = image["interval"]
        assert low <= image["delta"] <= high
    assert found["image_to_image"]["recall"]["1"]["delta"] < 0
    assert found["image_to_image"]["queries"] == 60
    assert found["text_to_image"]["queries"] == 4


def test_retrieval_changes__identity_and_length_do_not_count() -> None:
    reference, labels, text = clusters(1.2)
    found = retrieval_changes(reference, 7 * reference, labels, text)
    for search in found.values():
        for told in search["recall"].values():
            assert told["delta"] == 0
            assert told["interval"] == (0, 0)


def test_retrieval_changes__an_engine_that_gives_the_same_for_every_image_finds_nothing() -> None:
    reference, labels, text = clusters(0.1)
    found = retrieval_changes(reference, np.ones_like(reference), labels, text)
    assert found["image_to_image"]["recall"]["10"]["candidate"] == 0
    assert found["image_to_image"]["recall"]["1"]["reference"] == 1


def test_retrieval_changes__images_without_label_or_companion_ask_nothing() -> None:
    reference, labels, text = clusters(0.1)
    labels[5:15] = -1
    alone = np.full_like(labels, -1)
    alone[3] = 2
    found = retrieval_changes(reference, reference, labels, text)
    assert found["image_to_image"]["queries"] == 50
    assert "image_to_image" not in retrieval_changes(reference, reference, alone, text)


def test_hits__in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels, _ = clusters(1.2)
    own = np.arange(len(rows))
    whole = hits(rows, rows, labels, labels, own)
    monkeypatch.setattr(retrieval, "BLOCK", 7)
    assert (hits(rows, rows, labels, labels, own) == whole).all()


def test_queries_of__at_most_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "QUERIES", 5)
    chosen = queries_of(np.repeat([0, 1], 50))
    assert len(chosen) == 5
    assert chosen[0] == 0
    assert chosen[-1] == 99


def test_ranking_changes__as_the_measures_of_retrieval_have_it() -> None:
    from edgeproof_train.retrieval.figures import retrieval_figures

    reference, labels, _ = clusters(1.2)
    candidate = reference + 0.8 * np.random.default_rng(1).standard_normal(reference.shape)
    found = ranking_changes(reference, candidate, labels)
    assert found is not None
    own = np.arange(len(labels))
    for rows, side in ((reference, "reference"), (candidate, "candidate")):
        wanted = retrieval_figures(rows, labels, rows, labels, own)
        for name in ("map", "ndcg", "anmrr"):
            assert found["image_to_image"][name][side] == pytest.approx(wanted[name])
    wanted = retrieval_figures(candidate, labels, reference, labels, own)
    index = found["image_to_index"]["map"]
    assert index["candidate"] == pytest.approx(wanted["map"])
    assert index["delta"] == pytest.approx(index["candidate"] - index["reference"])
    low, high = index["interval"]
    assert low < index["delta"] < high < 0


def test_ranking_changes__nothing_changed_and_nothing_to_find() -> None:
    reference, labels, _ = clusters(1.2)
    found = ranking_changes(reference, 3 * reference, labels)
    assert found is not None
    assert found["image_to_image"]["map"]["delta"] == pytest.approx(0, abs=1e-12)
    assert ranking_changes(reference[:4], reference[:4], np.arange(4)) is None
    broken = reference.copy()
    broken[3] = 0
    assert ranking_changes(reference, broken, labels) is None


def test_ranking_changes__queries_search_the_gallery_and_not_each_other() -> None:
    from edgeproof_train.retrieval.figures import retrieval_figures

    reference, labels, text = clusters(1.2)
    candidate = reference + 0.8 * np.random.default_rng(1).standard_normal(reference.shape)
    asking = np.arange(len(labels)) % 5 == 0
    there = ~asking & (labels != 3)
    wanted = np.where(labels[there] == 2, -1, labels[there])
    gallery = Gallery(reference[there], candidate[there], wanted)
    sides = reference[asking], candidate[asking], labels[asking]
    found = ranking_changes(*sides, gallery)
    assert found is not None
    # Nothing of classes 2, which has no label there, and 3, which is not there, can be found.
    able = sides[2] < 2
    assert found["image_to_image"]["queries"] == able.sum() == 6
    labelled = wanted >= 0
    for search, rows, index in (
        ("image_to_image", sides[1], gallery.candidate),
        ("image_to_index", sides[1], gallery.reference),
    ):
        expected = retrieval_figures(rows[able], sides[2][able], index[labelled], wanted[labelled])
        assert found[search]["map"]["candidate"] == pytest.approx(expected["map"])
    among = ranking_changes(*sides)
    assert among is not None
    assert among["image_to_image"]["map"]["reference"] != found["image_to_image"]["map"]["reference"]
    hit = retrieval_changes(*sides, text, gallery)
    assert hit["image_to_image"]["queries"] == 6
    assert hit["text_to_image"]["queries"] == 2
    nothing = Gallery(*gallery[:2], np.full(len(wanted), -1))
    assert ranking_changes(*sides, nothing) is None
    assert retrieval_changes(*sides, text, nothing) == {}
