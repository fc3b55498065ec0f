from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_configs.loader import load_recipe

PRUNED = ("compress.sparsity.pattern='2:4'",)
UNLABELLED = ("data={kind: image_folder, root: photos, labels: none}",)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("train.augment.flip=0.5",), "teacher.view: stored embeddings were computed on the plain photos"),
        (
            ("teacher.view=assume_invariant",),
            "teacher.view: 'assume_invariant' has no effect without train.augment",
        ),
        (
            (*UNLABELLED, "baseline.epochs=2"),
            "baseline: normal training needs labels, and data.labels is 'none'",
        ),
        (
            (*UNLABELLED, "losses.1={kind: text_cross_entropy}"),
            "losses.1: text_cross_entropy needs labels, and data.labels is 'none'",
        ),
        (
            (*UNLABELLED, "train.balance=classes"),
            "train.balance: 'classes' needs labels, and data.labels is 'none'",
        ),
        (
            ("deploy.text_encoder=true",),
            "deploy.text_encoder: a teacher of kind 'stored' has no text tower to ship: remove it",
        ),
        (("train.gather=true",), "train.gather: has no effect: no loss compares the images of a batch"),
        ((*UNLABELLED, "train.select=top1"), "train.select: 'top1' needs labels, and data.labels is 'none'"),
        (("losses.0.weight=0", "losses.1.weight=0"), "losses: every loss has weight 0"),
        (
            ("deploy.engines=[pytorch]", "gates.latency_p90_ms={engine: onnxruntime, max: 3}"),
            "gates.latency_p90_ms.engine: 'onnxruntime' is not among deploy.engines (pytorch)",
        ),
        (
            ("gates.latency_p90_ms={engine: onnxruntime, max: 3, batch: 4}",),
            "gates.latency_p90_ms.batch: batch 4 is not among deploy.batch (1, 8)",
        ),
        (("deploy.engines=[pytorch, pytorch]",), "deploy.engines: an entry stands there twice"),
        (
            ("deploy.engines_if_here=[onnxruntime]",),
            "deploy.engines_if_here: onnxruntime is among deploy.engines, and built anyway",
        ),
        (("deploy.batch=[1, 1]",), "deploy.batch: an entry stands there twice"),
        (
            ("deploy.engines=[pytorch]", "deploy.compute_capability='8.9'"),
            "deploy.compute_capability: has no effect without 'tensorrt_rtx' in deploy.engines",
        ),
        (("deploy.compute_capability=[8.6, 8.6]",), "deploy.compute_capability: an entry stands there twice"),
        (
            ("deploy.engines=[openvino]", "deploy.tensorrt.cuda_graph=true"),
            "deploy.tensorrt.cuda_graph: has no effect without 'tensorrt' or 'tensorrt_rtx'",
        ),
        (
            ("deploy.tensorrt.version_compatible=true",),
            "deploy.tensorrt.version_compatible: has no effect without 'tensorrt' in deploy.engines",
        ),
        (
            (*PRUNED, "compress.losses=[{kind: label_cross_entropy}]", "compress.sparsity.epochs=0"),
            "compress.losses: have no effect: nothing is trained",
        ),
        (
            (*PRUNED, "compress.losses=[{kind: cosine_embedding, warmup_epochs: 5}]"),
            "compress.losses.0.warmup_epochs: must be below the epochs of fine-tuning (5), got 5",
        ),
        (
            (*UNLABELLED, *PRUNED, "compress.losses=[{kind: text_cross_entropy}]"),
            "compress.losses.0: text_cross_entropy needs labels, and data.labels is 'none'",
        ),
        (
            (*PRUNED, "compress.losses=[{kind: cosine_embedding, weight: 0}]"),
            "compress.losses: every loss has weight 0",
        ),
    ],
)
def test_check__refused(overrides: tuple[str, ...], message: str, problems: Callable[..., list[str]]) -> None:
    found = problems(overrides=overrides)
    assert len(found) == 1
    assert message in found[0]


def test_check__simkd_cannot_go_on(problems: Callable[..., list[str]]) -> None:
    simkd = "{kind: simkd, nodes: [{student: layer4, teacher: layer4}]}"
    words = "simkd ends with training: its projector is a part of the student by then; give compress.losses"
    for overrides, key in (
        ((*PRUNED, f"losses.0={simkd}"), "compress: "),
        ((*PRUNED, f"compress.losses=[{simkd}]"), "compress.losses: "),
    ):
        assert [line for line in problems(overrides=overrides) if key + words in line]
    untuned = (*PRUNED, "compress.sparsity.epochs=0", f"losses.0={simkd}", "deploy.batch=[1, 1]")
    assert not [line for line in problems(overrides=untuned) if words in line]


@pytest.mark.parametrize(
    "overrides",
    [
        ("teacher.view=assume_invariant", "train.augment.flip=0.5"),
        ("teacher={kind: timm, model: resnet10t}", "train.augment.flip=0.5"),
        ("losses.0.weight=0",),
        ("gates.latency_p90_ms={engine: onnxruntime, max: 3, batch: 8}",),
        UNLABELLED,
        ("deploy.compute_capability='8.9'",),
        ("deploy.compute_capability=[8.0, 8.6, 8.9, 12.0, 12.1]", "deploy.tensorrt.optimization_level=5"),
        ("deploy.engines=[tensorrt]", "deploy.tensorrt.hardware_compatible=ampere_plus"),
    ],
)
def test_check__accepted(overrides: tuple[str, ...], small: Path) -> None:
    load_recipe(str(small), overrides)
