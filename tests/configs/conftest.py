"""A small recipe on disk, and a way to load it with changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.configs.small_objects import draw_objects, object_recipe
from tests.integration.tiny import make_data, make_recipe

from edgeproof.__main__ import QUIET, main
from edgeproof_configs.errors import RecipeError
from edgeproof_configs.loader import load_recipe

SMALL = """\
# A recipe that is valid.
name: small
data: {kind: solids}
teacher: {kind: stored, folder: embeddings, view: exact}
student:
  model: resnet10t
  image_size: 64
losses:
  - {kind: cosine_embedding, weight: 1.0}
  - kind: text_kl
    weight: 0.1
train:
  epochs: 3
  batch_size: 32
  lr: 1e-3
head: {kind: zero_shot}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return the file of a valid recipe; line 13 holds the epochs."""
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    return file


@pytest.fixture
def problems(small: Path) -> Callable[..., list[str]]:
    """Return a function that edits the recipe, loads it, and gives the problems without the folder's name."""

    def load(*edits: tuple[str, str], overrides: tuple[str, ...] = ()) -> list[str]:
        text = SMALL
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        small.write_text(text)
        with pytest.raises(RecipeError) as caught:
            load_recipe(str(small), overrides)
        return [line.replace(f"{small.parent}/", "") for line in caught.value.lines()]

    return load


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 33 small pictures of three classes and stored embeddings of them."""
    return make_data(tmp_path_factory.mktemp("photos") / "data", train=8, test=3)


@pytest.fixture(scope="session")
def photo_recipe(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe that ships in seconds."""
    folder = tmp_path_factory.mktemp("recipe")
    return make_recipe(folder, photos, baseline=None, deploy={"engines": ["onnxruntime"], "batch": [1]})


@pytest.fixture(scope="session")
def shipped(photo_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that went from teacher to bundle."""
    from edgeproof.ship import ship

    run = tmp_path_factory.mktemp("runs") / "tiny"
    assert ship(str(photo_recipe), overrides=[], run=run, device="cpu") == 0
    return run


@pytest.fixture(scope="session")
def object_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe on small objects with several views, two of whose four classes are held out."""
    folder = tmp_path_factory.mktemp("objects")
    return object_recipe(folder, draw_objects(folder / "data"))


@pytest.fixture(scope="session")
def object_run(object_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of it up to its gallery."""
    from edgeproof.ship import ship

    run = tmp_path_factory.mktemp("object-runs") / "objects"
    assert ship(str(object_file), overrides=[], run=run, until="head", device="cpu") == 0
    return run


@pytest.fixture
def edgeproof(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command line here and gives its exit code, stdout and stderr."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run
