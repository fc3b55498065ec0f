from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import pytest
from tests.compress.small_students import quantised, write_images
from tests.deploy.bundles import CHANNELS, write_model

from edgeproof_compress.quantized_student import QuantizedStudent
from edgeproof_configs.schema import GatesConfig
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.decisions import Vocabulary
from edgeproof_deploy.forms import StudentForm
from edgeproof_deploy.gates import Limits
from edgeproof_deploy.parity import Form, compare_pair
from edgeproof_deploy.runtime.tensorrt_package import why_not_here
from edgeproof_deploy.verify import Chain, Verification, add, run_engine
from edgeproof_train.embeddings import embed_images
from edgeproof_train.retrieval.protocols import Search
from edgeproof_train.student import Student

Target = Literal["onnxruntime", "tensorrt"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return write_images(tmp_path_factory.mktemp("pictures"), count=6)


def chain_over(pictures: ImageSet) -> Any:
    nothing: Any = None
    data: Any = SimpleNamespace(context=SimpleNamespace(device="cpu"))
    return Chain(data, pictures, nothing, nothing, None, pictures)


def embedded(folder: Path, target: Target, pictures: ImageSet) -> np.ndarray:
    student = QuantizedStudent.read(folder)
    student.use(target)
    return embed_images(student, pictures)


def test_rounded__of_a_student_tuned_for_tensorrt_rounds_as_onnxruntime(
    pictures: ImageSet, tmp_path: Path
) -> None:
    quantised(target="tensorrt").save(tmp_path)
    found = chain_over(pictures).rounded(StudentForm("student", "int8", tmp_path)).embeddings
    assert np.array_equal(found, embedded(tmp_path, "onnxruntime", pictures))
    assert not np.array_equal(found, embedded(tmp_path, "tensorrt", pictures))


def test_rounded__of_one_tuned_for_onnxruntime_is_what_verify_has_already(
    pictures: ImageSet, tmp_path: Path
) -> None:
    quantised(target="onnxruntime").save(tmp_path)
    chain = chain_over(pictures)
    chain.eager["int8"] = known = Form("student", "pytorch", "int8", np.zeros((6, 16), np.float32))
    assert chain.rounded(StudentForm("student", "int8", tmp_path)) is known


@pytest.mark.skipif(why_not_here("tensorrt_rtx") is None, reason="this machine runs plans")
def test_run_engine__what_is_not_here_still_has_the_weights_of_its_file(
    pictures: ImageSet, tmp_path: Path
) -> None:
    kept = (np.arange(CHANNELS) % 4 < 2)[None, :, None, None]
    source = write_model(tmp_path / "model.sparse.onnx", lambda weights: weights * kept)
    files, nobody = (tmp_path / "never opened.engine", source), cast("Student", None)
    form = StudentForm("sparse", "fp32", tmp_path)
    found = run_engine(form, "tensorrt_rtx", files, (pictures, pictures, None), nobody, (1,))
    assert found.form.embeddings is None
    assert found.form.reason.startswith("built, not run here: ")
    outcomes = {claim.claim: (claim.outcome, claim.evidence) for claim in found.claims}
    assert outcomes["2:4 weights"][0] == "proven"
    assert outcomes["2:4 kernels"] == ("not known here", found.form.reason)


def test_same_file__an_engine_is_compared_with_onnxruntime_on_the_file_that_both_read(
    pictures: ImageSet, tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    chain = chain_over(pictures)
    chain.data.recipe = SimpleNamespace(gates=GatesConfig())
    chain.found = SimpleNamespace(vocabulary=None)
    form, file = StudentForm("student", "int8", tmp_path), tmp_path / "model.int8.onnx"
    exported = Form("student", "onnxruntime", "int8", rows)
    assert chain.same_file(form, "onnxruntime", exported, file) == []
    (found,) = chain.same_file(form, "openvino", Form("student", "openvino", "int8", -rows), file)
    assert (found.reference, found.candidate) == ("onnxruntime int8", "openvino int8")
    assert {gate.name: gate.status for gate in found.gates} == {
        "finite": "pass",
        "cosine_mean": "fail",
        "agreement": "not measured",
    }
    other = Form("student", "tensorrt", "int8", rows)
    assert chain.same_file(form, "tensorrt", other, tmp_path / "model.int8.trt.onnx") == []
    absent = Form("student", "openvino", "int8", reason="built, not run here: no driver")
    assert chain.same_file(form, "openvino", absent, file) == []


@pytest.mark.parametrize(("broken", "left"), [(np.nan, set()), (0.0, {"top1"})])
@pytest.mark.parametrize("part", ["embeddings", "gallery"])
def test_add__a_form_that_gives_nothing_for_an_object_fails_its_gate_and_not_the_run(
    part: str, broken: float, left: set[str]
) -> None:
    rng = np.random.default_rng(0)
    labels, text = np.arange(6) % 2, rng.standard_normal((2, 4))
    rows, searched = (rng.standard_normal((6, 4)).astype(np.float32) for _ in range(2))
    nothing: Any = None
    objects = Vocabulary(
        ("cup", "car"), text, labels, tuple("abcdef"), of_objects=True, gallery_labels=labels
    )

    def found_by(form: Form) -> dict[str, float]:
        assert form.gallery is not None
        return {"map": Search(form.rows, labels, form.gallery, labels).figures()["map"]}

    found = Verification(6, objects, nothing, searched=found_by)
    eager = Form("student", "pytorch", embeddings=rows, gallery=searched)
    add(found, eager, None, [], "")
    given: dict[str, Any] = {"embeddings": rows.copy(), "gallery": searched.copy()}
    given[part][2] = broken
    made = Form("student", "onnxruntime", **given)
    limits = Limits(map_drop=0.01)
    add(found, made, None, [compare_pair(eager, made, limits, objects)], "")
    whole, row = found.rows
    assert {"top1", "map"} <= set(whole["metrics"])
    assert {"top1", "map"} & set(row["metrics"]) == left
    gates = {gate["name"]: gate["status"] for gate in row["gates"]}
    assert gates["finite"] == ("fail" if np.isnan(broken) else "pass")
    if not np.isnan(broken):
        # No search is possible: the gate is not passed without a figure.
        assert gates["map_drop"] == "not measured"
