"""Two processes of `torchrun`, on gloo, against one with a batch twice as large."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeproof_configs.schema import MixConfig
from edgeproof_train.gather import gathered
from edgeproof_train.loop import step_seed
from edgeproof_train.mixing import mixed
from edgeproof_train.outputs import Mix, ModelOutputs, StepOutputs

SCORES = {"model": "test_vit", "drop_rate": 0.0, "class_scores": True}
EMBEDDINGS = {"model": "test_vit", "drop_rate": 0.0}
NODES = [{"student": "blocks.0", "teacher": "map"}]
LABELS = {"kind": "cross_entropy", "label_smoothing": 0.1}
APART: dict[str, dict[str, Any]] = {
    "class scores": {
        "model": SCORES,
        "terms": [
            LABELS,
            {"kind": "soft_target", "temperature": 2},
            {"kind": "dkd", "weight": 0.1, "warmup_epochs": 1},
            {"kind": "hard_distillation"},
            {"kind": "focal"},
        ],
    },
    "maps": {
        "model": EMBEDDINGS,
        "terms": [
            {"kind": "cosine_embedding"},
            {"kind": "text_cross_entropy", "weight": 0.1, "logit_scale": 10, "learn_logit_scale": True},
            {"kind": "hint", "nodes": NODES},
            {"kind": "attention_transfer", "nodes": NODES},
        ],
    },
}
"""Losses that are means over images."""

TOGETHER: dict[str, dict[str, Any]] = {
    "dist": {"model": SCORES, "terms": [LABELS, {"kind": "dist"}]},
    "relational": {
        "model": EMBEDDINGS,
        "terms": [{"kind": "cosine_embedding"}, {"kind": "relational"}],
    },
    "similarity_preserving": {
        "model": EMBEDDINGS,
        "terms": [{"kind": "cosine_embedding"}, {"kind": "similarity_preserving", "nodes": NODES}],
    },
    "clip_affinity": {
        "model": EMBEDDINGS,
        "terms": [{"kind": "cosine_embedding"}, {"kind": "clip_affinity", "logit_scale": 10}],
    },
}
"""Losses that compare the images of a batch with each other; each stands last, beside one that does not."""

MIXED: dict[str, Any] = {
    "model": SCORES,
    "terms": [LABELS, {"kind": "dist"}],
    "mix": {"mixup": 0.8, "cutmix": 1.0},
    "gather": True,
    "batch_size": 12,
    "epochs": 2,
}
PLAIN = {"epochs": 3, "optimizer": "sgd", "lr": 0.05}

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def both(case: Any, run_case: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `one/CASE`, of one process, and `two/CASE` and `alone/CASE`, of two.

    `two` gathers where a loss compares images, `alone` does not.
    """
    folder = tmp_path_factory.mktemp("processes")
    cases = {f"two/{name}": settings for name, settings in APART.items()}
    cases |= {f"two/{name}": settings | {"gather": True} for name, settings in TOGETHER.items()}
    cases |= {f"alone/{name}": settings for name, settings in TOGETHER.items()}
    cases = {name: PLAIN | settings | {"batch_size": 4} for name, settings in cases.items()}
    run_case("training_case.py", str(folder), cases | {"two/mixed": PLAIN | MIXED}, processes=2)
    for name, settings in (APART | TOGETHER).items():
        case.run(folder / "one" / name, score=case.figures, **PLAIN | settings | {"batch_size": 8})
    return folder


@pytest.mark.parametrize("name", [*APART, *TOGETHER])
def test_gathered__two_processes_are_one_with_a_larger_batch(name: str, case: Any, both: Path) -> None:
    one, two = (case.read_rows(both / place / name) for place in ("one", "two"))
    assert [row["step"] for row in one] == [row["step"] for row in two] == [3, 6, 9]
    for kind in one[0]["losses"]:
        curves = ([row["losses"][kind]["raw"] for row in rows] for rows in (two, one))
        assert next(curves) == pytest.approx(next(curves), rel=1e-5), kind
    for first, second in zip(one, two, strict=True):
        assert second["val"]["top1"] == first["val"]["top1"]
        assert second["val"]["cosine_mean"] == pytest.approx(first["val"]["cosine_mean"], rel=1e-4)


@pytest.mark.parametrize("name", TOGETHER)
def test_gathered__without_it_each_process_compares_its_own_images(name: str, case: Any, both: Path) -> None:
    one, alone = (case.read_rows(both / place / name) for place in ("one", "alone"))
    kind = list(one[0]["losses"])[-1]
    values = [row["losses"][kind]["raw"] for row in (alone[0], one[0])]
    assert abs(values[0] - values[1]) > 1e-3 * values[1]


def test_gathered__mixed_images(case: Any, both: Path) -> None:
    """One step of two processes is one of a process that is given the images as these two have mixed them."""
    task = case.make_task(MIXED["terms"], **SCORES)
    halves = [next(case.MemoryLoader(12, rank, 2).epoch(0)) for rank in (0, 1)]
    images, mixes = [], []
    for rank, half in enumerate(halves):
        drawn = torch.Generator().manual_seed(step_seed(0, rank, 0, 0, use="mixing"))
        image, mix = mixed(half, MixConfig(**MIXED["mix"]), drawn)
        images.append(image)
        mixes.append(mix)
    assert mixes[0].share[0] != mixes[1].share[0]
    batch: Any = {key: torch.cat([half[key] for half in halves]) for key in ("label", "index")}
    mix = Mix(torch.cat([mix.partner for mix in mixes]), torch.cat([mix.share for mix in mixes]))
    with torch.no_grad():
        losses = task({"image": torch.cat(images), **batch}, mix=mix)
    first = case.read_rows(both / "two" / "mixed")[0]["losses"]
    assert {kind: term["raw"] for kind, term in first.items()} == pytest.approx(
        {kind: float(loss) for kind, loss in losses.items()}, rel=1e-5
    )


def test_gathered__one_process_keeps_what_it_has() -> None:
    outputs = StepOutputs(ModelOutputs(torch.zeros(2, 3)))
    assert gathered(outputs) is outputs
