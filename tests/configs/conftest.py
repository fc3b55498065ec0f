"""A small recipe on disk, and a way to load it with changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
