from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeproof_configs.errors import GateError
from edgeproof_configs.schema import GatesConfig
from edgeproof_deploy.batches import batch_gate
from edgeproof_deploy.decisions import Vocabulary
from edgeproof_deploy.engine import make_engine
from edgeproof_deploy.gates import Limits, limits_of
from edgeproof_deploy.parity import (
    Form,
    compare_pair,
    gate_failures,
    gates_not_measured,
    raise_gates,
)
from edgeproof_deploy.runtime.preprocess import open_image
from edgeproof_deploy.runtime.session import Session
from edgeproof_deploy.torch_session import TorchSession
from edgeproof_train.heads.zero_shot import ZeroShotHead
from edgeproof_train.student import Student

EXPORT = limits_of("export", "fp32", GatesConfig())


@pytest.fixture(scope="module")
def inputs(student: Student, photos: list[Path]) -> np.ndarray:
    return np.stack([student.preprocess(open_image(photo)) for photo in photos])


@pytest.fixture(scope="module")
def vocabulary(head: ZeroShotHead, photos: list[Path]) -> Vocabulary:
    labels = np.arange(len(photos)) % len(head.labels)
    return Vocabulary(head.labels, head.weight, labels, tuple(photo.name for photo in photos))


@pytest.fixture(scope="module")
def eager(student: Student, inputs: np.ndarray) -> Form:
    return Form("student", "pytorch", embeddings=TorchSession(student).run({"image": inputs})["embedding"])


@pytest.fixture(scope="module")
def shipped(onnx_file: Path, inputs: np.ndarray) -> Form:
    session = make_engine("onnxruntime").open(onnx_file, threads=1)
    return Form("student", "onnxruntime", embeddings=session.run({"image": inputs})["embedding"])


def rows_of(form: Form) -> np.ndarray:
    assert form.embeddings is not None
    return form.embeddings


def test_compare_pair__the_exported_student_holds_every_gate(
    eager: Form, shipped: Form, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    pair = compare_pair(eager, shipped, EXPORT, vocabulary)
    assert (pair.reference, pair.candidate, pair.n) == ("pytorch fp32", "onnxruntime fp32", 12)
    assert [gate.name for gate in pair.gates] == ["finite", "cosine", "agreement", "zero_shot_drop"]
    assert {gate.status for gate in pair.gates} == {"pass"}
    raise_gates([pair], tmp_path, strict=True)


def test_compare_pair__a_form_that_differs_fails_in_words(
    eager: Form, shipped: Form, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    worse = rows_of(shipped).copy()
    worse[3] = -worse[3]
    pair = compare_pair(eager, Form("student", "onnxruntime", embeddings=worse), EXPORT, vocabulary)
    failed = gate_failures([pair])
    assert failed[0] == "onnxruntime fp32: cosine is -1, must be at least 0.99999"
    assert failed[1] == "onnxruntime fp32: agreement is 0.9166667, must be at least 1"
    with pytest.raises(GateError, match=r"cosine is -1, must be at least 0.99999") as caught:
        raise_gates([pair], tmp_path)
    assert caught.value.exit_code == 3
    assert len(caught.value.lines()) <= 3


def test_compare_pair__an_engine_that_does_not_run_here_is_not_measured(
    shipped: Form, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    plan = Form("student", "tensorrt_rtx", reason="built, not run here: no driver")
    pair = compare_pair(shipped, plan, limits_of("engine", "fp32", GatesConfig()), vocabulary)
    plain = pair.to_dict()
    assert plain["status"] == "not measured"
    assert plain["reason"] == "built, not run here: no driver"
    assert "cosine_min" not in plain
    assert {gate.status for gate in pair.gates} == {"not measured"}
    assert gate_failures([pair]) == []
    assert gates_not_measured([pair])[0].endswith("(built, not run here: no driver)")
    raise_gates([pair], tmp_path)
    with pytest.raises(GateError, match="tensorrt_rtx fp32: mean_abs is not measured"):
        raise_gates([pair], tmp_path, strict=True)


def test_compare_pair__nan_fails_and_does_not_hide_the_rest(
    eager: Form, shipped: Form, vocabulary: Vocabulary
) -> None:
    damaged = rows_of(shipped).copy()
    damaged[5, 2] = np.nan
    pair = compare_pair(eager, Form("student", "onnxruntime", embeddings=damaged), EXPORT, vocabulary)
    assert gate_failures([pair]) == [
        "onnxruntime fp32: finite is 1 (embeddings with NaN or infinity), must be at most 0"
    ]
    all_nan = Form("student", "onnxruntime", embeddings=np.full_like(damaged, np.nan))
    lost = compare_pair(eager, all_nan, EXPORT, vocabulary)
    assert [gate.status for gate in lost.gates] == ["fail", *["not measured"] * 3]
    json.dumps([pair.to_dict(), lost.to_dict()], allow_nan=False)


def test_compare_pair__embeddings_alone(eager: Form, shipped: Form) -> None:
    pair = compare_pair(eager, shipped, EXPORT)
    statuses = {gate.name: gate.status for gate in pair.gates}
    assert statuses["cosine"] == "pass"
    assert statuses["agreement"] == statuses["zero_shot_drop"] == "not measured"
    assert "top1_agreement" not in pair.to_dict()


def test_compare_pair__the_teacher_is_only_reported(eager: Form, vocabulary: Vocabulary) -> None:
    rows = np.random.default_rng(1).standard_normal(rows_of(eager).shape).astype(np.float32)
    pair = compare_pair(
        Form("teacher", embeddings=rows), eager, limits_of("distil", "fp32", GatesConfig()), vocabulary
    )
    assert [gate.name for gate in pair.gates] == ["finite"]
    plain = pair.to_dict()
    assert plain["reference"] == "teacher"
    assert plain["cosine_mean"] < 0.9
    assert plain["flips"]


def test_batch_gate__onnx_gives_the_same_in_every_batch(onnx_file: Path, inputs: np.ndarray) -> None:
    session = make_engine("onnxruntime").open(onnx_file, threads=1)
    gate = batch_gate(session, inputs, (1, 5, 8))
    assert gate.status == "pass"
    assert gate.name == "batch_cosine"


class Neighbours(Session):
    """A model that subtracts the mean of the batch, as batch norm left in training mode does."""

    def __init__(self) -> None:
        self.inputs = {"image": (-1, 3, -1, -1)}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = inputs["image"].reshape(len(inputs["image"]), -1)
        return {"embedding": rows - 0.5 * rows.mean(axis=0)}

    def close(self) -> None:
        """Nothing to free."""


def test_batch_gate__a_model_that_looks_at_the_neighbours_fails(inputs: np.ndarray) -> None:
    gate = batch_gate(Neighbours(), inputs, (4,))
    assert gate.status == "fail"


def test_limits__a_looser_recipe_lets_a_worse_form_pass(eager: Form, shipped: Form) -> None:
    noisy = rows_of(shipped) + np.float32(0.05) * np.random.default_rng(0).standard_normal(
        rows_of(shipped).shape
    ).astype(np.float32)
    form = Form("student", "onnxruntime", embeddings=noisy)
    assert gate_failures([compare_pair(eager, form, EXPORT)])
    assert not gate_failures([compare_pair(eager, form, Limits(cosine=0.9))])


def test_compare_pair__edge_images_have_gates_of_their_own(eager: Form, shipped: Form) -> None:
    names = ("black.png", "exif.jpg", "tiny.png")
    edges = rows_of(eager)[:3]
    whole, same = replace(eager, edges=edges), replace(shipped, edges=edges * 2)
    pair = compare_pair(whole, same, EXPORT, None, names)
    statuses = {gate.name: gate.status for gate in pair.gates}
    assert (statuses["edge_finite"], statuses["edge_cosine"]) == ("pass", "pass")
    assert [edge["image"] for edge in pair.to_dict()["edges"]] == list(names)
    wrong = edges.copy()
    wrong[0], wrong[2, 1] = -edges[0], np.inf
    pair = compare_pair(whole, replace(shipped, edges=wrong), EXPORT, None, names)
    meant = "embeddings of edge images with NaN or infinity"
    assert gate_failures([pair]) == [
        f"onnxruntime fp32: edge_finite is 1 ({meant}), must be at most 0",
        "onnxruntime fp32: edge_cosine is -1, must be at least 0.9999",
    ]
    assert pair.edges[2] == {"image": "tiny.png", "cosine": None, "max_abs": None}
    json.dumps(pair.to_dict(), allow_nan=False)


def test_compare_pair__int8_promises_nothing_for_edge_images_but_numbers(eager: Form, shipped: Form) -> None:
    limits = limits_of("shipped", "int8", GatesConfig())
    far = replace(shipped, edges=-rows_of(eager)[:1])
    pair = compare_pair(replace(eager, edges=rows_of(eager)[:1]), far, limits, None, ("black.png",))
    names = [gate.name for gate in pair.gates]
    assert "edge_finite" in names
    assert "edge_cosine" not in names
    assert pair.edges[0]["cosine"] == pytest.approx(-1)


def test_compare_pair__objects_are_judged_by_what_they_find_in_the_gallery(head: ZeroShotHead) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(8) % 2
    width = head.weight.shape[1]
    centres = rng.standard_normal((2, width))
    rows, searched = (centres[labels] + 0.1 * rng.standard_normal((8, width)) for _ in range(2))
    objects = Vocabulary(
        head.labels, head.weight, labels, tuple("abcdefgh"), of_objects=True, gallery_labels=labels
    )
    before = Form("student", "pytorch", embeddings=rows, gallery=searched)
    exchanged = replace(before, engine="onnxruntime", gallery=searched[::-1].copy())
    limits = Limits(map_drop=0.01)
    gates = {gate.name: gate for gate in compare_pair(before, exchanged, limits, objects).gates}
    # The test objects are where they were, and those of the gallery lie where the other class was.
    assert gates["map_drop"].status == "fail"
    alone = replace(objects, gallery_labels=None)
    gates = {gate.name: gate for gate in compare_pair(before, exchanged, limits, alone).gates}
    assert (gates["map_drop"].status, str(gates["map_drop"].value)) == ("pass", "0.0")
    broken = searched.copy()
    broken[3] = np.nan
    found = compare_pair(before, replace(exchanged, gallery=broken), limits, objects)
    gates = {gate.name: gate for gate in found.gates}
    assert (gates["finite"].status, gates["finite"].value) == ("fail", 1.0)
    assert gates["map_drop"].status == "pass"
