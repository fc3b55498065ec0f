from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.compress.interrupted import StopError, stop_after

from edgeproof_compress import sparsify as module
from edgeproof_compress.masks import is_2_4, load_masks
from edgeproof_compress.sparsify import check_sparsity, check_zeros, kept_nodes, still_frozen
from edgeproof_compress.stages import sparsify_stage
from edgeproof_configs.errors import EdgeproofError, MissingPackageError, UsageError
from edgeproof_configs.registry import component_class
from edgeproof_configs.stage import StageContext
from edgeproof_train.run_data import RunData
from edgeproof_train.scoring import evaluation
from edgeproof_train.student import Student

MakeContext = Callable[..., StageContext]


def report_of(context: StageContext) -> dict[str, Any]:
    return json.loads((context.folder("sparsify") / "sparsity.json").read_text())


def weights(context: StageContext, stage: str = "sparsify") -> dict[str, torch.Tensor]:
    return load_file(context.folder(stage) / "model.safetensors")


def test_sparsify_stage__leaves_a_sparse_student_and_its_figures(make_context: MakeContext) -> None:
    context = make_context()
    outcome = sparsify_stage(context)
    folder = context.folder("sparsify")
    names = {file.name for file in outcome.outputs}
    assert names == {
        *("model.safetensors", "config.json", "losses.safetensors"),
        *("masks.safetensors", "permutation.json", "sparsity.json"),
    }
    student, masks = Student.load(folder), load_masks(folder / "masks.safetensors")
    report = report_of(context)
    eligible = [layer["name"] for layer in report["layers"] if layer["eligible"]]
    assert set(masks) == {f"{name}.weight" for name in eligible}
    for name, mask in masks.items():
        weight = student.get_parameter(name)
        assert is_2_4(weight)
        assert int((weight != 0).sum()) == int(mask.sum()) == mask.numel() // 2
    assert set(report["val"]) == {"dense", "pruned_without_permutation", "pruned", "tuned"}
    assert report["val"]["dense"] == pytest.approx(context.metrics("train")["best"], abs=1e-4)
    assert report["val"]["tuned"] == outcome.metrics["best"]
    assert report["kept_magnitude"]["with"] > report["kept_magnitude"]["without"] > 0.6
    dropped = sum(int((~mask).sum()) for mask in masks.values())
    assert report["weights"]["dropped"] == dropped
    assert report["weights"]["share"] == dropped / sum(p.numel() for p in student.parameters())
    assert outcome.summary.startswith(f"2:4 in {len(eligible)} of {len(report['layers'])} layers")
    assert "stem" not in eligible
    json.dumps(outcome.metrics, allow_nan=False)


def test_sparsify_stage__resumed_is_uninterrupted_to_the_bit(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few layers: the search comes to its end, and finds the same for both.
    settings: dict[str, Any] = {"include": ("backbone.layer2.*",), "permute_seconds": 60.0}
    whole, broken = make_context("whole", **settings), make_context("broken", **settings)
    sparsify_stage(whole)
    for batches in (1, 2):
        with monkeypatch.context() as patch:
            stop_after(patch, batches)
            with pytest.raises(StopError):
                sparsify_stage(broken)
        # What was found before is not looked for again: it depends on the time.
        monkeypatch.setattr(module, "find_orders", None)
    sparsify_stage(broken)
    assert all(row["finished"] for row in report_of(whole)["permutation"])
    for name in ("model.safetensors", "losses.safetensors", "masks.safetensors", "last/model.safetensors"):
        one, other = (context.folder("sparsify") / name for context in (whole, broken))
        assert one.read_bytes() == other.read_bytes(), name
    assert report_of(whole)["val"] == report_of(broken)["val"]


def test_sparsify_stage__another_student_is_decided_anew(make_context: MakeContext) -> None:
    context = make_context(epochs=0)
    sparsify_stage(context)
    before = (context.folder("sparsify") / "masks.safetensors").read_bytes()
    file = context.folder("train") / "model.safetensors"
    save_file({name: value.flip(0) for name, value in load_file(file).items()}, file)
    sparsify_stage(context)
    assert (context.folder("sparsify") / "masks.safetensors").read_bytes() != before


def test_sparsify_stage__prunes_only(make_context: MakeContext) -> None:
    context = make_context(epochs=0, permute=False)
    outcome = sparsify_stage(context)
    masks, dense, sparse = load_masks(outcome.outputs[2]), weights(context, "train"), weights(context)
    assert len(masks) > 5
    student = Student.load(context.folder("train"))
    for name, mask in masks.items():
        with torch.no_grad():
            student.get_parameter(name).mul_(mask)
    expected = student.tensors()
    statistics = {
        name for name in dense if name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    assert statistics
    assert all(torch.equal(sparse[name], expected[name]) for name in dense.keys() - statistics)
    assert not any(torch.equal(sparse[name], expected[name]) for name in statistics if "mean" in name)
    report = report_of(context)
    assert set(report["val"]) == {"dense", "pruned"}
    data = RunData(context)
    found = evaluation(data, "val")(Student.load(context.folder("sparsify")))
    assert report["val"]["pruned"] == pytest.approx(found, abs=1e-6)
    assert report["val"]["dense"] != pytest.approx(found, abs=1e-4)
    assert report["not_searched"] == "permute: false"
    assert report["kept_magnitude"]["with"] == report["kept_magnitude"]["without"]


def test_still_frozen__is_what_lost_no_weight() -> None:
    masks = {"backbone.layer1.conv.weight": torch.ones(1), "backbone.layer10.conv.weight": torch.ones(1)}
    names = ("backbone.stem", "backbone.layer1", "backbone.layer2", "backbone.layer10.conv")
    assert still_frozen(names, masks) == ("backbone.stem", "backbone.layer2")


def test_sparsify_stage__goes_on_with_the_losses_as_trained(make_context: MakeContext) -> None:
    context = make_context(epochs=1, lr=1e-9)
    sparsify_stage(context)
    before, after = (
        load_file(context.folder(stage) / "losses.safetensors") for stage in ("train", "sparsify")
    )
    assert before.keys() == after.keys()
    # With next to no learning rate they are what training left, not what a new loss starts with.
    assert all(torch.allclose(after[name], value, atol=1e-6) for name, value in before.items())
    assert float(before["text_cross_entropy.log_scale"]) != pytest.approx(2.302585, abs=1e-6)


def test_sparsify_stage__under_losses_of_its_own(make_context: MakeContext) -> None:
    context = make_context(overrides=("compress.losses=[{kind: label_cross_entropy}]",), epochs=1)
    sparsify_stage(context)
    rows = [row for row in context.run.metrics() if row["stage"] == "sparsify"]
    assert {name for row in rows for name in row["losses"]} == {"label_cross_entropy"}
    assert set(load_file(context.folder("sparsify") / "losses.safetensors")) == {
        "label_cross_entropy.classifier.weight",
        "label_cross_entropy.classifier.bias",
    }


def test_sparsify_stage__include_and_exclude(make_context: MakeContext) -> None:
    context = make_context(include=("backbone.layer?.*", "head"), exclude=("head",), epochs=0)
    sparsify_stage(context)
    found = load_masks(context.folder("sparsify") / "masks.safetensors")
    assert found
    assert all(name.startswith("backbone.layer") for name in found)


def test_sparsify_stage__without_apex(make_context: MakeContext) -> None:
    try:
        from apex.contrib.sparsity import sparse_masklib  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        words = "apex with its ASP is not installed"
    else:
        if torch.cuda.is_available():
            pytest.skip("apex can be used here")
        words = "apex computes masks on a CUDA device"
    context = make_context(backend="apex")
    with pytest.raises(MissingPackageError, match=words) as caught:
        sparsify_stage(context)
    assert caught.value.exit_code == 5
    assert not (context.folder("sparsify") / "masks.safetensors").exists()


def test_check_sparsity__before_anything_is_trained(make_context: MakeContext) -> None:
    check_sparsity(make_context().recipe)
    with pytest.raises(UsageError, match=r"'stem' names can be 2:4: backbone\.conv1\.0 \(3 input channels"):
        check_sparsity(make_context(include=("stem",)).recipe)


def test_sparsify_stage__a_wrong_pattern(make_context: MakeContext) -> None:
    with pytest.raises(UsageError, match=r"no layer matches 'backbone\.layer9'"):
        sparsify_stage(make_context(include=("backbone.layer9",)))


def test_check_zeros__finds_a_weight_that_grew_again(make_context: MakeContext) -> None:
    context = make_context(epochs=0)
    sparsify_stage(context)
    folder = context.folder("sparsify")
    masks, tensors = load_masks(folder / "masks.safetensors"), weights(context)
    check_zeros(folder, masks)
    name = "layer1.0.conv1.weight"
    place = tuple((~masks[f"backbone.{name}"]).nonzero()[0].tolist())
    tensors[name][place] = 1e-7
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(EdgeproofError, match=rf"backbone.{name} is not 2:4: 1 of \d+ dropped weights"):
        check_zeros(folder, masks)


def test_kept_nodes__are_those_that_losses_look_at(make_context: MakeContext) -> None:
    data = RunData(make_context())
    student = Student.load(data.context.folder("train"))
    assert kept_nodes(data, student) == []
    config: Any = component_class("loss", "attention_transfer")
    loss = config.Config.model_validate({"nodes": [{"student": "layer2", "teacher": "layer3"}]})
    compress = data.recipe.compress
    assert compress is not None
    changed = data.recipe.model_copy(update={"compress": compress.model_copy(update={"losses": (loss,)})})
    assert kept_nodes(RunData(replace(data.context, recipe=changed)), student) == ["backbone.layer2"]
