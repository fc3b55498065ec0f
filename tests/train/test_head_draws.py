from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tests.train.head_case import Means, data_of, trained

from edgeproof_configs.run import RunDir
from edgeproof_train import head_draws
from edgeproof_train.head_draws import write_draws
from edgeproof_train.head_evidence import Gathered, draw, gather


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return trained(tmp_path_factory.mktemp("draws"))


def gathered(run: RunDir) -> Gathered:
    config = Means.Config(shots=2, val_shots=1, seed=3, views=2)
    return gather(data_of(run), config, Means, "student")


def test_write_draws__names_every_shot_and_validation_image(run: RunDir, tmp_path: Path) -> None:
    found = gathered(run)
    files = write_draws(found, tmp_path)
    assert [file.name for file in files] == ["shots.csv", "val.csv"]
    for file, part, count, views in zip(files, ("train", "val"), (2, 1), ("2", "1"), strict=True):
        with file.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
        drawn = draw(data_of(run), part, count, 3)
        assert [row["path"] for row in rows] == list(drawn.images.paths)
        assert [row["label"] for row in rows] == [found.evidence.names[label] for label in drawn.labels]
        assert {(row["split"], row["views"]) for row in rows} == {(part, views)}
    told = found.told["val"]
    assert told["file"] == "val.csv"
    assert list(told["by_class"]) == ["blue square", "green square", "red square"]
    assert [len(paths) for paths in told["by_class"].values()] == [1, 1, 1]


def test_write_draws__many_are_in_the_table_alone(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_draws, "MOST_NAMED", 5)
    found = gathered(run)
    write_draws(found, tmp_path)
    assert "by_class" not in found.told["shots"]
    assert "by_class" in found.told["val"]


def test_write_draws__nothing_of_what_was_not_drawn(run: RunDir, tmp_path: Path) -> None:
    found = gathered(run)
    assert write_draws(Gathered(found.evidence, found.told), tmp_path) == []
