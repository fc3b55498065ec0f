from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from edgeproof_benchmarks.recipe_runs import over_seeds, points, run_recipe
from edgeproof_benchmarks.supervised_compression import LABEL_LOSSES, RECIPE, settings_of, table_of
from edgeproof_configs.loader import load_recipe


def row(form: str, precision: str, engine: str, top1: float) -> dict[str, Any]:
    metrics = {"top1": top1, "mean_per_class": top1, "cosine_mean": 0.9}
    return {
        "form": form,
        "precision": precision,
        "engine": engine,
        "metrics": metrics,
        "parity": [{"cosine_mean": 0.5}, {"cosine_mean": 0.99}],
    }


def run_with(folder: Path, *rows: dict[str, Any]) -> Path:
    (folder / "verify").mkdir(parents=True)
    (folder / "verify" / "stage.json").write_text(json.dumps({"metrics": {"rows": rows}}))
    return folder


def test_table_of__the_forms_that_every_seed_has(tmp_path: Path) -> None:
    runs = [
        run_with(
            tmp_path / str(seed),
            row("student", "fp32", "pytorch", 0.1),
            row("student", "int8", "onnxruntime", top1),
            *([row("sparse", "int8", "onnxruntime", top1)] if not seed else []),
        )
        for seed, top1 in enumerate((0.90, 0.92))
    ]
    found = table_of(runs)
    assert list(found) == ["student int8"]
    assert found["student int8"]["top1"]["values"] == [0.90, 0.92]
    assert found["student int8"]["cosine to fp32"]["mean"] == 0.99, "the last pair is with the fp32 student"


def test_settings_of__fit_the_recipe_and_change_the_losses_of_tuning_alone(tmp_path: Path) -> None:
    options = Namespace(data=tmp_path, weights="w", image_size=64, epochs=3, tuning_epochs=1)
    supervised, labelled = (
        load_recipe(RECIPE, [*settings_of(options), *more]).recipe for more in ((), (LABEL_LOSSES,))
    )
    assert supervised.compress is not None
    assert labelled.compress is not None
    assert supervised.compress.losses is None
    assert [loss.kind for loss in labelled.compress.losses or ()] == ["text_cross_entropy"]
    assert supervised.losses == labelled.losses
    assert supervised.train.eval_every > supervised.train.epochs, "only the last epoch counts"


def test_over_seeds__mean_and_sample_deviation() -> None:
    assert over_seeds([0.9]) == {"mean": 0.9, "std": 0.0, "values": [0.9]}
    found = over_seeds([0.90, 0.92, 0.94])
    assert (found["mean"], found["std"]) == (0.92, pytest.approx(0.02))
    assert points(found) == "92.00 ± 2.00"


def test_run_recipe__tells_what_the_command_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"exit code 2(.|\n)*unknown recipe|exit code 2"):
        run_recipe("train", "no-such-recipe", tmp_path / "run", [], threads=1)
