from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeproof_benchmarks.head_sets import drawn, made_up_sets, read_nouns, read_sets
from edgeproof_benchmarks.head_studies import drawn_by, effective, open_vocabulary
from edgeproof_benchmarks.heads import auto_against_fixed, main
from edgeproof_configs.errors import DataError
from edgeproof_train.heads.evidence import Rows

ROWS = Rows(np.eye(9, dtype=np.float32), np.array([0, 0, 0, 0, 1, 1, 1, 2, 2]))


def test_main__a_table_of_kinds_shots_and_sets(tmp_path: Path):
    out = tmp_path / "heads.json"
    record = main(["--quick", "--kinds", "zero_shot", "gda", "nearest_mean", "auto", "--out", str(out)])
    assert json.loads(out.read_text()) == record
    cells = record["figures"]["top1_percent"]
    assert set(cells) == {"made up, with text", "made up"}
    for protocol in ("few", "full"):
        assert set(cells["made up, with text"][protocol]) == {"zero_shot", "gda", "nearest_mean", "auto"}
        assert set(cells["made up"][protocol]["gda"]) == {"1", "2"}
        assert cells["made up"][protocol]["gda"]["2"] > 100 / 8
    assert record["figures"]["not_applicable"] == {"made up: zero_shot": "zero_shot needs text embeddings"}
    assert record["figures"]["imbalance"]["balanced"]["effective_classes"] == 1.0
    cell = record["figures"]["generalised"]["gda"]["2 shots, full"]
    assert 0 < cell["seen_unseen_h"][2] <= cell["best_h"] <= 100
    assert record["figures"]["auto"]["full, all sets"]["best"] in ("gda", "nearest_mean")


def test_main__needs_data_or_says_that_they_are_made_up(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "--quick for made-up embeddings" in capsys.readouterr().err


def test_auto_against_fixed__by_hand():
    cells = {
        ("a", "full", "zero_shot", 1): 90.0,
        ("a", "full", "gda", 1): 80.0,
        ("a", "full", "auto", 1): 90.0,
        ("b", "full", "gda", 1): 70.0,
        ("b", "full", "nearest_mean", 1): 60.0,
        ("a", "full", "nearest_mean", 1): 50.0,
        ("b", "full", "auto", 1): 66.0,
    }
    found = auto_against_fixed(cells)
    every = found["full, all sets"]
    # Zero-shot cannot be fitted on b, so that gda is the best of those that can be fitted on both.
    assert (every["best"], every["best_mean"], every["auto_mean"]) == ("gda", 75.0, 78.0)
    assert (every["behind"], every["worst"], every["worst_at"]) == (-3.0, 4.0, "b, 1 shots")
    assert found["full, sets with text"]["best"] == "zero_shot"
    assert found["full, sets without"]["behind"] == 4.0


def test_drawn__at_most_so_many_of_each_class():
    few = drawn(ROWS, 2, 0)
    assert np.bincount(few.labels).tolist() == [2, 2, 2]
    assert (few.features != drawn(ROWS, 2, 1).features).any()
    uneven = drawn_by(ROWS, np.array([4, 0, 1]), np.random.default_rng(0))
    assert np.bincount(uneven.labels).tolist() == [4, 0, 1]


def test_effective__classes():
    even = Rows(ROWS.features[:4], np.array([0, 1, 2, 3]))
    assert effective(even, 4) == pytest.approx(1)
    assert effective(even, 8) == pytest.approx(0.5)


def test_made_up_sets__one_has_text():
    sets = made_up_sets()
    assert [one.text is not None for one in sets] == [True, False]
    assert len(sets[0].few_val(16, 0).labels) == 4 * 8
    assert len(sets[0].few_val(2, 0).labels) == 2 * 8


def test_read_sets__a_missing_pack_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="a data pack is not there"):
        read_sets(tmp_path)


def test_read_sets__anchors(real_data: Path):
    sets = read_sets(real_data)
    counts = [(len(one.names), len(one.val.labels), len(one.test.labels)) for one in sets]
    assert counts == [(41, 705, 1058), (100, 1649, 2465), (102, 1633, 2463), (37, 736, 3669)]
    assert sets[0].text is not None
    own = (sets[0].test.features @ sets[0].text.T).argmax(axis=1) == sets[0].test.labels
    assert 100 * own.mean() == pytest.approx(96.98, abs=0.01)
    found = open_vocabulary(*read_nouns(real_data), sets[1])
    assert found == {"images": 1058, "nouns": 1444, "top1_percent": 51.32, "top5_percent": 88.85}
