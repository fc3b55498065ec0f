from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.tiny import make_data, make_recipe

from edgeproof.early_refusals import refuse_head_early, refuse_unknown_stage
from edgeproof.stages import chain_of
from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("early")
    return make_recipe(folder, make_data(folder / "data"), head={"kind": "gda", "labels": "labels.txt"})


def check(recipe: Path, *overrides: str, without: str = "") -> None:
    loaded = load_recipe(str(recipe), overrides)
    stages = [stage for stage in chain_of(loaded.plain) if stage.name != without]
    refuse_head_early(loaded.recipe, stages, RunDir(recipe.parent / "run"))


def test_refuse_head_early__lets_a_head_pass_that_can_be_made(recipe: Path) -> None:
    check(recipe)
    check(recipe, "head.templates=imagenet7")
    check(recipe, "head.text_embeddings=text.npy", "head.max_bytes=1000000")


def test_refuse_head_early__an_unknown_template_set_with_the_names_there_are(recipe: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'imagenet7'") as caught:
        check(recipe, "head.templates=imagnet7")
    assert caught.value.where == "head.templates"
    assert "plain, imagenet7, imagenet80, imagenet" in str(caught.value.fix)
    check(recipe, "head.templates=imagnet7", without="embed")


def test_refuse_head_early__files_that_are_missing_or_do_not_fit(recipe: Path) -> None:
    with pytest.raises(DataError, match=r"'nope\.txt' does not exist"):
        check(recipe, "head.labels=nope.txt")
    (recipe.parent / "data" / "two.txt").write_text("red square\nblue square\n")
    with pytest.raises(DataError, match="text embeddings for 2 labels"):
        check(recipe, "head.labels=two.txt", "head.text_embeddings=text.npy")


def test_refuse_head_early__a_matrix_that_cannot_be_so_small(recipe: Path) -> None:
    with pytest.raises(UsageError, match="a head of 3 labels takes more than 12 bytes, 10 are allowed"):
        check(recipe, "head.max_bytes=10")
    with pytest.raises(UsageError, match=r"a head of 3 labels of \d+ values takes more than \d+ bytes"):
        check(recipe, "head.max_bytes=40", "head.text_embeddings=text.npy")
    check(recipe, "head={kind: tip_adapter, max_bytes: 10, labels: labels.txt}")


def test_refuse_unknown_stage__names_the_nearest() -> None:
    refuse_unknown_stage(None)
    refuse_unknown_stage("head")
    refuse_unknown_stage("compress", ("compress",))
    with pytest.raises(UsageError, match=r"unknown stage 'hed'\. Did you mean 'head'"):
        refuse_unknown_stage("hed")
