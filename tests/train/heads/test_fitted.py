from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.train.head_case import Means
from tests.train.test_text import WordTeacher

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_data.kinds.image_folder import ImageFolder
from edgeproof_train.heads.nearest_mean import NearestMean
from edgeproof_train.text import TextBank


@pytest.fixture
def source(tmp_path: Path) -> ImageFolder:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    return ImageFolder(ImageFolder.Config(root=str(tmp_path), labels="none", val=0.5))


def bank(source: ImageFolder, kind: Any, *, has_text: bool, **settings: Any) -> TextBank:
    config = kind.Config(labels="labels.txt", **settings)
    return kind.make_bank(config, WordTeacher(has_text=has_text), source)


def test_make_bank__words_have_embeddings_where_there_is_a_text_tower(source: ImageFolder) -> None:
    for kind, settings in ((Means, {}), (Means, {"use_text": False}), (NearestMean, {})):
        found = bank(source, kind, has_text=True, **settings)
        assert found.names == ("cat", "dog")
        assert found.matrix is not None


def test_make_bank__a_head_of_images_needs_no_text_tower(source: ImageFolder, tmp_path: Path) -> None:
    for kind, settings in ((Means, {"use_text": False}), (NearestMean, {})):
        found = bank(source, kind, has_text=False, **settings)
        assert (found.names, found.matrix) == (("cat", "dog"), None)
        found.save(tmp_path / "bank")
        again = TextBank.load(tmp_path / "bank")
        assert (again.names, again.matrix) == (("cat", "dog"), None)


def test_make_bank__words_that_shall_help_need_one(source: ImageFolder) -> None:
    with pytest.raises(UsageError, match="has no text tower"):
        bank(source, Means, has_text=False)


def test_load__embeddings_that_were_there_and_are_gone(source: ImageFolder, tmp_path: Path) -> None:
    bank(source, Means, has_text=True).save(tmp_path / "bank")
    (tmp_path / "bank.safetensors").unlink()
    with pytest.raises(EdgeproofError, match="text embeddings are missing"):
        TextBank.load(tmp_path / "bank")


def test_save__of_names_alone_removes_earlier_embeddings(source: ImageFolder, tmp_path: Path) -> None:
    bank(source, Means, has_text=True).save(tmp_path / "bank")
    bank(source, Means, has_text=False, use_text=False).save(tmp_path / "bank")
    assert TextBank.load(tmp_path / "bank").matrix is None
