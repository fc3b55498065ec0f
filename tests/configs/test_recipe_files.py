from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeproof_configs.errors import UsageError
from edgeproof_configs.recipe_files import (
    find_recipe,
    read_recipe_bytes,
    recipe_names,
    recipe_path,
    source_digest,
    summary,
)
from edgeproof_configs.yaml_source import MAX_BYTES


def test_recipe_names__quickstart_is_shipped() -> None:
    assert "quickstart" in recipe_names()
    assert recipe_path("quickstart").name == "quickstart.yaml"
    assert recipe_path("quickstart.yaml") == recipe_path("quickstart")


def test_recipe_path__misspelt() -> None:
    with pytest.raises(UsageError, match="Did you mean 'quickstart'"):
        recipe_path("quikstart")


def test_find_recipe__a_file_wins_over_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("quickstart") == recipe_path("quickstart")
    Path("quickstart").write_text("name: mine\n")
    assert find_recipe("quickstart") == Path("quickstart")


def test_find_recipe__a_folder_of_that_name_is_no_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quickstart").mkdir()
    Path("other").mkdir()
    assert find_recipe("quickstart") == recipe_path("quickstart")
    with pytest.raises(UsageError, match="this is a folder"):
        find_recipe("other")


@pytest.mark.parametrize("name", ["nowhere.yaml", "/nowhere/quickstart", "nowhere/quickstart.yaml", ""])
def test_find_recipe__neither_file_nor_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        find_recipe(name)
    assert caught.value.exit_code == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_read_recipe_bytes__unreadable(small: Path) -> None:
    small.chmod(0)
    with pytest.raises(UsageError, match="cannot read the recipe: Permission denied"):
        read_recipe_bytes(small)


def test_read_recipe_bytes__an_endless_file_is_cut() -> None:
    assert len(read_recipe_bytes(Path("/dev/zero"))) == MAX_BYTES + 1


def test_source_digest__changes_with_bytes_and_overrides(small: Path) -> None:
    before = source_digest(str(small))
    assert source_digest(str(small)) == before
    assert source_digest(str(small), ["train.epochs=4"]) != before
    assert source_digest(str(small), ["a", "b"]) != source_digest(str(small), ["b", "a"])
    small.write_text(small.read_text() + "# a comment\n")
    assert source_digest(str(small)) != before


def test_summary__first_comment_line(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("#\n# Photos to a small model.\n# More.\nname: x\n")
    assert summary(file) == "Photos to a small model."
    file.write_text("name: x\n# late\n")
    assert summary(file) == ""
