from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.train.head_case import Means, Watching, data_of, trained

from edgeproof_configs.errors import UsageError
from edgeproof_configs.loader import component_config
from edgeproof_configs.run import RunDir
from edgeproof_train.embeddings import embed_images
from edgeproof_train.head_evidence import draw, gather
from edgeproof_train.head_features import Features
from edgeproof_train.heads.fitting import fitted_class
from edgeproof_train.metrics import cosine
from edgeproof_train.student import Student


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return trained(tmp_path_factory.mktemp("evidence"))


def settings(**given: Any) -> Any:
    return Means.Config(**given)


def test_draw__as_many_of_each_class_and_the_same_again(run: RunDir) -> None:
    first, again = (draw(data_of(run), "train", 2, 5) for _ in range(2))
    assert np.bincount(first.labels).tolist() == [2, 2, 2]
    assert first.images.paths == again.images.paths
    assert first.images.paths != draw(data_of(run), "train", 2, 6).images.paths
    assert first.told["per_class"] == 2
    assert "classes_with_fewer" not in first.told


def test_draw__a_class_with_fewer_gives_all_and_is_named(run: RunDir) -> None:
    shots = draw(data_of(run), "train", 100, 0)
    assert len(shots.labels) == len(data_of(run).split("train"))
    assert set(shots.told["classes_with_fewer"]) == {"blue square", "green square", "red square"}


def test_draw__never_a_test_image_under_another_name(tmp_path: Path) -> None:
    run = trained(tmp_path)
    root, folder = tmp_path / "data", tmp_path / "data" / "train" / "red_square"
    shutil.copyfile(root / "test" / "red_square" / "a.00.png", folder / "a.00.png")
    told = [draw(data_of(run), split, None, 0) for split in ("train", "val")]
    same = [path for one in told for path in one.told.get("left_out_as_test_images", [])]
    assert same == ["train/red_square/a.00.png"]
    assert not any("train/red_square/a.00.png" in one.images.paths for one in told)


def test_gather__shots_and_val_of_the_student_and_words(run: RunDir) -> None:
    data = data_of(run)
    found = gather(data, settings(shots=2, val_shots=1, seed=3), Means, "student")
    evidence, shots = found.evidence, draw(data, "train", 2, 3)
    assert evidence.shots is not None
    assert evidence.val is not None
    assert evidence.names == ("blue square", "green square", "red square")
    rows = embed_images(Student.load(run.stage("train")), shots.images)
    np.testing.assert_allclose(cosine(evidence.shots.features, rows), 1, atol=1e-5)
    assert evidence.shots.labels.tolist() == shots.labels.tolist()
    assert np.bincount(evidence.val.labels).tolist() == [1, 1, 1]
    words = data.words().matrix
    assert words is not None
    assert evidence.text is not None
    np.testing.assert_allclose(evidence.text, words, atol=1e-6)
    assert evidence.unlabelled is None
    assert found.told["shots"]["images"] == 6
    assert found.told["text"] is True


def test_gather__the_teachers_cached_rows(run: RunDir) -> None:
    data = data_of(run)
    evidence = gather(data, settings(shots=2), Means, "teacher").evidence
    assert evidence.shots is not None
    rows = data.teacher_rows("train", draw(data, "train", 2, 0).images)
    np.testing.assert_allclose(cosine(evidence.shots.features, rows), 1, atol=1e-5)


def test_gather__use_text_off_withholds_the_words(run: RunDir) -> None:
    found = gather(data_of(run), settings(use_text=False), Means, "student")
    assert found.evidence.text is None
    assert found.told["text"] is False


def test_gather__views_of_a_photo_stand_in_a_row(run: RunDir) -> None:
    found = gather(data_of(run), settings(shots=2, views=3), Means, "student").evidence
    assert found.shots is not None
    assert found.shots.features.shape[0] == 18
    assert found.views == 3
    of_photo = found.shots.features.reshape(6, 3, -1)
    assert (found.shots.labels.reshape(6, 3) == found.shots.labels[::3, None]).all()
    assert (np.abs(of_photo[:, 0] - of_photo[:, 1]).max(axis=1) > 0).all()
    again = gather(data_of(run), settings(shots=2, views=3), Means, "student").evidence
    assert again.shots is not None
    assert np.array_equal(again.shots.features, found.shots.features)


def test_views__stored_embeddings_have_none(run: RunDir) -> None:
    images = data_of(run).split("train")
    with pytest.raises(UsageError, match="stored embeddings of plain photos only"):
        Features(data_of(run), "teacher").views("train", images, 2)


@pytest.mark.parametrize("added_up", ["probabilities", "z_scores"])
def test_gather__what_an_ensemble_adds_up_is_no_part_of_the_data(run: RunDir, added_up: Any) -> None:
    members = [{"kind": "gda"}, {"kind": "proker"}]
    given = component_config("head", {"kind": "ensemble", "of": added_up, "members": members, "shots": 2})
    found = gather(data_of(run), given, fitted_class("ensemble"), "student")
    assert found.evidence.shots is not None
    assert np.bincount(found.evidence.shots.labels).tolist() == [2, 2, 2]


def test_gather__transductive_sees_test_without_labels(run: RunDir) -> None:
    found = gather(data_of(run), settings(shots=1), Watching, "student")
    assert found.evidence.unlabelled is not None
    assert len(found.evidence.unlabelled) == 18
    told = found.told["unlabelled"]
    assert (told["split"], told["images"], told["effective_share"]) == ("test", 18, 1.0)
    assert found.evidence.val is None
    assert "val" not in found.told
