"""CONTRIBUTING says that a loss is one file and no other edit. Here somebody follows it to the letter."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import edgeproof_train.losses
from edgeproof_configs import registry
from edgeproof_configs.registry import component_class, discover

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
KIND = "l1_embedding"


@pytest.fixture
def new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Drop the file of CONTRIBUTING into a second folder of the package of losses, and take it out again."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    named = re.search(r"`train/edgeproof_train/losses/(\w+\.py)`:\n\n```python\n(.*?)```", text, re.DOTALL)
    assert named is not None
    file = tmp_path / named[1]
    file.write_text(named[2], encoding="utf-8")
    places = [*edgeproof_train.losses.__path__, str(tmp_path)]
    monkeypatch.setattr(edgeproof_train.losses, "__path__", places)
    monkeypatch.setattr(registry, "_components", {**registry._components, "loss": dict(discover("loss"))})
    monkeypatch.setattr(registry, "_discovered", registry._discovered - {"loss"})
    importlib.invalidate_caches()
    yield file
    sys.modules.pop(f"edgeproof_train.losses.{file.stem}")


@pytest.mark.usefixtures("new_file")
def test_new_loss__is_found_by_its_kind() -> None:
    assert KIND in discover("loss")
    assert component_class("loss", KIND).__module__ == f"edgeproof_train.losses.{KIND}"


@pytest.mark.usefixtures("new_file")
def test_new_loss__its_settings_are_validated() -> None:
    component: Any = component_class("loss", KIND)
    assert component.Config.model_validate({"kind": KIND, "weight": 2}).weight == 2
    with pytest.raises(ValueError, match="wieght"):
        component.Config.model_validate({"kind": KIND, "wieght": 2})


@pytest.mark.usefixtures("new_file")
def test_new_loss__its_value_by_hand(case: Any) -> None:
    task = case.make_task([{"kind": KIND}]).eval()
    batch = next(case.MemoryLoader(4).epoch(0))
    with torch.no_grad():
        difference = task.student(batch["image"]).embedding - task.supervision(batch).embedding
        torch.testing.assert_close(task(batch)[KIND], difference.abs().mean())


@pytest.mark.usefixtures("new_file")
def test_new_loss__trains_a_student(case: Any, tmp_path: Path) -> None:
    result = case.run(tmp_path / "run", [{"kind": KIND, "weight": 0.5}], epochs=4, warmup_epochs=0)
    losses = [row["losses"][KIND]["raw"] for row in result.history]
    assert losses[-1] < losses[0]
    assert json.loads((tmp_path / "run" / "training.json").read_text())["steps"] == 24
