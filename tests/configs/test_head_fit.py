from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.train.test_head_trials import blobs, sets

from edgeproof.__main__ import main
from edgeproof.head_fit import refuse_too_many, shots_of
from edgeproof.ship import refuse_other_settings
from edgeproof_configs.errors import UsageError
from edgeproof_configs.run import RunDir


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
        (("--kinds", "gda:alpha=["), "head gda: a value cannot be read"),
        (("--shots", "32"), "no class has 32 labelled images to draw: the most are 4"),
        (("--on", "student"), "--on has no effect on a file of features"),
        (("--device", "cuda"), "--device has no effect on a file of features"),
        (("--val", "full", "--shots", "4", "--seed", "3"), "--seed has no effect on a file of features"),
        (("--out", "."), "a folder is there"),
        (("--set", "train.epochs=1"), "--set has no effect on a file of features"),
    ],
)
def test_fit__refused_in_words(
    options: tuple[str, ...], message: str, features: Path, capsys: pytest.CaptureFixture[str]
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


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("cut", "it is no whole .npz archive"),
        ("text", "it is no whole .npz archive"),
        ("npy", "it is no whole .npz archive"),
        ("gone", "No such file"),
        ("lacking", "no array test_labels and classnames"),
    ],
)
def test_fit__no_file_of_features(
    spoil: str, message: str, features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if spoil == "cut":
        features.write_bytes(features.read_bytes()[:200])
    elif spoil == "text":
        features.write_text("not a zip")
    elif spoil == "npy":
        with features.open("wb") as handle:
            np.save(handle, np.zeros((2, 3), np.float32))
    elif spoil == "gone":
        features.unlink()
    else:
        np.savez(features, test_features=np.zeros((2, 3), np.float32))
    assert main(["head", "fit", str(features)]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "allow_pickle" not in said


def change(features: Path, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    """Write the file again with some arrays changed."""
    changed = dict(np.load(features)) | arrays
    np.savez(features, **changed)  # pyright: ignore[reportArgumentType]
    return changed


def test_fit__rows_that_are_not_what_they_are_called(
    features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, more = dict(np.load(features)), blobs(8, 4)
    for arrays, message in (
        (
            {"val_features": kept["shots_4_features"], "val_labels": kept["shots_4_labels"]},
            "20 rows of val_features are rows of shots_4_features",
        ),
        (
            {"shots_4_features": more.features, "shots_4_labels": more.labels},
            "shots_4_labels has more than 4 rows of 5 classes: a has 8",
        ),
        (
            {"test_features": kept["test_features"][:0], "test_labels": kept["test_labels"][:0]},
            "test_features has no row",
        ),
    ):
        change(features, **kept | arrays)
        assert main(["head", "fit", str(features), "--kinds", "nearest_mean"]) == 1
        assert message in capsys.readouterr().err


def test_fit__what_is_said_of_the_features(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = blobs(4, 4)
    change(features, shots_4_features=7 * rows.features[1:], shots_4_labels=rows.labels[1:])
    words = ["head", "fit", str(features), "--kinds", "nearest_mean"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    # Of the shots that are taken where none are named there are four.
    assert [line.split()[1] for line in lines[1:4]] == ["1", "2", "4"]
    assert "note: shots_4: rows were not of unit length and have been normalised" in lines
    assert "note: 4 shots: 1 class has fewer: a 3" in lines
    assert "settings chosen on val images, 5 with 1, 10 with 2, 20 with 4 shots a class" in lines[-1]
    assert main([*words, "--shots", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["notes"][-1] == "4 shots: 1 class has fewer: a 3"
    assert told["rows"][0]["given"]["classes_with_fewer"] == {"a": 3}


def test_fit__no_head_that_could_be_fitted(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["head", "fit", str(features), "--kinds", "zero_shot"]) == 1
    said = capsys.readouterr()
    assert "n/a: needs text embeddings" in said.out
    assert "no head could be fitted" in said.err


def test_fit__text_is_read_only_where_it_is_taken(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(features, text=np.full((5, 12), np.nan, np.float32))
    words = ["head", "fit", str(features), "--kinds", "nearest_mean", "--shots", "4"]
    assert main([*words, "--no-text"]) == 0
    assert main(words) == 1
    assert "text: 5 rows are NaN" in capsys.readouterr().err


def test_shots_of__numbers_and_all() -> None:
    assert shots_of("1,4,all,4") == [1, 4, None]
    with pytest.raises(UsageError, match="no number of shots"):
        shots_of("0")


def test_refuse_too_many__what_a_recipe_has() -> None:
    refuse_too_many(sets(), [8, None], 3, drawn=True)
    with pytest.raises(UsageError, match="no class has 21 labelled images to draw: the most are 20"):
        refuse_too_many(sets(), [8, 21], 1, drawn=True)
    with pytest.raises(UsageError, match="--tasks 3: of all images there is one draw only"):
        refuse_too_many(sets(), [20, None], 3, drawn=True)


def test_fit__a_run_of_other_settings_is_redone_by_ship(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeproof.ship.first_stage_touched", lambda before, now: "head")
    before, now = {"head": {"kind": "gda"}}, {"head": {"kind": "proker"}}
    with pytest.raises(UsageError) as refused:
        refuse_other_settings(RunDir(tmp_path), before, now, ["head.kind"], None)
    assert "or ship with --from head to redo this one" in str(refused.value)
