from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.train.test_head_trials import blobs

from edgeproof.__main__ import main
from edgeproof.head_fit import heads_of, shots_of
from edgeproof_configs.errors import UsageError


@pytest.fixture
def features(tmp_path: Path) -> Path:
    arrays: dict[str, np.ndarray] = {"classnames": np.array(list("abcde"))}
    for name, rows in {"test": blobs(20, 9), "val": blobs(6, 8)}.items():
        arrays |= {f"{name}_features": rows.features.astype(np.float16), f"{name}_labels": rows.labels}
    for count in (1, 4):
        rows = blobs(count, count)
        arrays |= {f"shots_{count}_features": rows.features, f"shots_{count}_labels": rows.labels}
    np.savez(tmp_path / "set.npz", **arrays)  # pyright: ignore[reportArgumentType]
    return tmp_path / "set.npz"


def test_fit__a_table_of_a_file_of_features(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["head", "fit", str(features), "--shots", "1,4", "--kinds", "gda,nearest_mean,zero_shot"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {tuple(line.split()[:2]): line for line in lines}
    assert lines[0].split()[:2] == ["head", "shots"]
    assert float(rows["gda", "4"].split()[2]) > 60
    assert "n/a: needs text embeddings" in rows["zero_shot", "1"]
    assert "one draw of shots, no interval" in lines[-1]
    assert "100 test images of 5 classes" in lines[-1]


def test_fit__several_draws_of_the_largest_stored_one(
    features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "fit.json"
    words = ["head", "fit", str(features), "--kinds", "nearest_mean", "--tasks", "3", "--out", str(out)]
    assert main([*words, "--shots", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(out.read_text())
    (row,) = told["rows"]
    assert len(row["figures"]["top1"]["values"]) == 3
    assert row["figures"]["top1"]["half_interval"] > 0
    assert main([*words, "--shots", "4"]) == 2
    assert "of 4 stored shots a class there is one draw only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--kinds", "gdaa"), "unknown head 'gdaa'. Did you mean 'gda'?"),
        (("--kinds", "gda:wight=1"), "head gda: wight"),
        (("--shots", "two"), "'two' is no number of shots"),
        (("--val", "some"), "unknown value 'some', expected one of few, full, none"),
        (("--set", "train.epochs=1"), "--run and --set have no effect on a file of features"),
    ],
)
def test_fit__refused_in_words(
    options: tuple[str, str], message: str, features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["head", "fit", str(features), *options]) == 2
    assert message in capsys.readouterr().err


def test_fit__a_shot_that_is_a_test_image(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = dict(np.load(features))
    arrays["shots_1_features"] = arrays["shots_1_features"].astype(np.float16)
    arrays["shots_1_features"][2] = arrays["test_features"][7]
    np.savez(features, **arrays)
    assert main(["head", "fit", str(features), "--kinds", "nearest_mean"]) == 1
    assert "1 rows of shots_1_features are rows of test_features" in capsys.readouterr().err


@pytest.mark.parametrize("spoil", ["cut", "text", "lacking"])
def test_fit__no_file_of_features(spoil: str, features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if spoil == "cut":
        features.write_bytes(features.read_bytes()[:200])
    elif spoil == "text":
        features.write_text("not a zip")
    else:
        np.savez(features, test_features=np.zeros((2, 3), np.float32))
    assert main(["head", "fit", str(features)]) == 1
    said = capsys.readouterr().err
    assert ("no array test_labels and classnames" if spoil == "lacking" else "no file of features") in said


def test_heads_of__all_are_those_that_need_no_settings() -> None:
    found = heads_of("all")
    assert {"zero_shot", "gda", "nearest_mean"} <= set(found)
    assert "ensemble" not in found
    assert heads_of("gda:use_text=false")["gda:use_text=false"].model_dump()["use_text"] is False


def test_shots_of__numbers_and_all() -> None:
    assert shots_of("1,4,all,4") == [1, 4, None]
    with pytest.raises(UsageError, match="no number of shots"):
        shots_of("0")
