"""A small recipe on disk, and a way to load it with changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of coloured pictures with stored image and text embeddings: 8-d, one axis a colour."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    paths, rows = [], []
    for part, count in (("train", 8), ("test", 3)):
        for axis, (name, colour) in enumerate(COLOURS.items()):
            for number in range(count):
                path = f"{part}/{name}/{number}.png"
                pixels = np.clip(rng.normal(colour, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / path)
                paths.append(path)
                rows.append(np.eye(8)[axis] + rng.normal(0, 0.1, 8))
    np.save(root / "images.npy", np.array(rows, np.float32))
    (root / "images.csv").write_text("path\n" + "".join(f"{path}\n" for path in paths))
    np.save(root / "words.npy", np.eye(8, dtype=np.float32)[:3])
    (root / "words.txt").write_text("".join(f"{name}\n" for name in COLOURS))
    return root


@pytest.fixture(scope="session")
def photo_recipe(photos: Path) -> Path:
    """Return a recipe that ships in seconds."""
    file = photos / "photos.yaml"
    file.write_text(
        f"""\
name: photos
data: {{kind: image_folder, root: {photos}, val: 0.25}}
teacher: {{kind: stored, files: [{{embeddings: images.npy, index: images.csv}}]}}
student: {{model: resnet10t, image_size: 32}}
losses: [{{kind: cosine_embedding}}]
train: {{epochs: 2, batch_size: 6, warmup_epochs: 0, workers: 0}}
head: {{kind: zero_shot, labels: words.txt, text_embeddings: words.npy}}
deploy: {{engines: [onnxruntime], batch: [1]}}
bench: {{seconds: 0.2, warmup_seconds: 0.05}}
"""
    )
    return file


@pytest.fixture(scope="session")
def shipped(photo_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that went from teacher to bundle."""
    from edgeproof.ship import ship

    run = tmp_path_factory.mktemp("runs") / "photos"
    assert ship(str(photo_recipe), overrides=[], run=run, device="cpu") == 0
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
