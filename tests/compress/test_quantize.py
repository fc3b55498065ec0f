from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from tests.compress.small_students import layers_of, make_student, quantised, write_images

from edgeproof_compress.quantize import Quantizing, choose_layers, quantize, summary
from edgeproof_compress.quantized_student import QuantizedStudent
from edgeproof_configs.compress_schema import QuantizationConfig
from edgeproof_configs.errors import UsageError
from edgeproof_data.sets import ImageSet
from edgeproof_train.embeddings import embed_images, pooled_features
from edgeproof_train.student import Student


def with_head(student: Student, images: ImageSet) -> Student:
    """Return the student with the linear head that best tells the classes of these images apart."""
    features = pooled_features(student, images, label=None)
    ones = np.ones((len(features), 1))
    targets = np.eye(student.embedding_dim)[images.labels]
    rows = np.hstack([features, ones])
    gram = rows.T @ rows + 1e-2 * np.eye(rows.shape[1])
    found = torch.tensor(np.linalg.solve(gram, rows.T @ targets), dtype=torch.float32)
    with torch.no_grad():
        student.get_parameter("head.weight").copy_(found[:-1].T)
        student.get_parameter("head.bias").copy_(found[-1])
    return student


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return write_images(tmp_path_factory.mktemp("pictures"), 48, classes=4)


@pytest.fixture(scope="module")
def trained(pictures: ImageSet) -> Student:
    return with_head(make_student(), pictures)


def figures(images: ImageSet, plain: np.ndarray) -> Any:
    def evaluate(student: Student) -> dict[str, float]:
        rows = embed_images(student, images)
        cosines = (rows * plain).sum(axis=1)
        cosines /= np.linalg.norm(rows, axis=1) * np.linalg.norm(plain, axis=1)
        return {"top1": float((rows.argmax(axis=1) == images.labels).mean()), "cosine": float(cosines.mean())}

    return evaluate


def untouched(student: QuantizedStudent) -> QuantizedStudent:
    raise AssertionError("nothing is tuned after calibration alone")


def work(
    train: ImageSet, base: Student, tune: Any = untouched, select: str = "cosine", **settings: Any
) -> Quantizing:
    config = QuantizationConfig(**{"method": "ptq", "calibration": "max", "images": 32, **settings})
    evaluate = figures(train, embed_images(base, train))
    return Quantizing(config, train, evaluate, select, tune, "cpu", 0)


def test_quantize__keeps_what_a_trained_student_knows(trained: Student, pictures: ImageSet) -> None:
    for target in ("onnxruntime", "tensorrt"):
        _, told = quantize(trained, work(pictures, trained, target=target, calibration="entropy"))
        assert told["val"]["fp32"]["top1"] >= 0.9
        assert abs(told["val"]["calibrated"]["top1"] - told["val"]["fp32"]["top1"]) <= 1 / 48 + 1e-9
        assert told["val"]["calibrated"]["cosine"] > 0.99


def test_quantize__tells_everything(trained: Student, pictures: ImageSet) -> None:
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    student, told = quantize(trained, work(pictures, trained, exclude=("stem",), select="top1"))
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert set(told["val"]) == {"fp32", "calibrated"}
    assert told["images"]["asked"] == told["images"]["used"] == 32
    assert (told["method"], told["backend"], told["target"]) == ("ptq", "modelopt", "onnxruntime")
    assert (told["calibration"], told["select"], told["max_drop"]) == ("max", "top1", None)
    assert told["unfolded_batch_norms"] == []
    rows = {row["name"]: row for row in told["layers"]}
    assert list(rows) == list(layers_of(trained))
    assert rows["backbone.conv1"] == {
        "name": "backbone.conv1",
        "kind": "Conv2d",
        "shape": [16, 3, 3, 3],
        "quantised": False,
        "reason": "excluded by name",
        "sensitivity": None,
    }
    assert rows["head"]["kind"] == "Linear"
    assert all(
        row["quantised"] and not row["reason"] for name, row in rows.items() if name != "backbone.conv1"
    )
    assert {row["name"]: row["amax"] for row in told["values"]} == {
        name: quantizer.amax for name, quantizer in student.quantizers().items()
    }
    assert all(row["amax"] > 0 and row["targets"] for row in told["values"])
    assert any(row["never_negative"] for row in told["values"])
    assert "7 of 8 layers in INT8, top1 on val: fp32 " in summary(told)


def test_quantize__uses_all_images_where_there_are_fewer(trained: Student, pictures: ImageSet) -> None:
    _, told = quantize(trained, work(pictures, trained, images=512))
    assert told["images"]["asked"] == 512
    assert told["images"]["used"] == 48


def test_quantize__tunes_after_calibration(trained: Student, pictures: ImageSet) -> None:
    def tune(student: QuantizedStudent) -> QuantizedStudent:
        assert all(one.amax for one in student.quantizers().values()), "it is calibrated"
        with torch.no_grad():
            student.get_parameter("graph.head.bias").add_(0.5)
        return student

    student, told = quantize(trained, work(pictures, trained, tune, method="qat"))
    assert set(told["val"]) == {"fp32", "calibrated", "tuned"}
    assert told["val"]["tuned"]["cosine"] < told["val"]["calibrated"]["cosine"]
    bias = trained.get_parameter("head.bias")
    torch.testing.assert_close(student.get_parameter("graph.head.bias"), bias + 0.5)


@pytest.mark.parametrize("method", ["ptq", "qat"])
def test_quantize__gives_back_layers_until_the_budget_holds(
    method: Literal["ptq", "qat"], trained: Student, pictures: ImageSet
) -> None:
    loose, told = quantize(trained, work(pictures, trained, lambda s: s, method=method, max_drop=0.5))
    assert len(loose.spec.layers) == 8
    assert "in budget" in told["val"]
    lost = 1 - told["val"]["calibrated"]["cosine"]
    budget = lost / 3
    student, told = quantize(trained, work(pictures, trained, lambda s: s, method=method, max_drop=budget))
    assert told["val"]["fp32"]["cosine"] - told["val"]["in budget"]["cosine"] <= budget
    assert 1 <= len(student.spec.layers) < 8
    given_back = [row for row in told["layers"] if not row["quantised"]]
    assert all("given back for max_drop" in row["reason"] for row in given_back)
    rest = [row["sensitivity"] for row in told["layers"] if row["quantised"]]
    assert min(row["sensitivity"] for row in given_back) >= max(rest), "the most sensitive go first"


def test_quantize__says_where_no_layer_given_back_is_enough(trained: Student, pictures: ImageSet) -> None:
    def harm(student: QuantizedStudent) -> QuantizedStudent:
        with torch.no_grad():
            student.get_parameter("graph.head.bias").add_(5.0)
        return student

    student, told = quantize(trained, work(pictures, trained, harm, method="qat", max_drop=1e-4))
    assert "in budget" not in told["val"]
    assert told["val"]["over budget"]["cosine"] < told["val"]["fp32"]["cosine"] - 1e-4
    assert len(student.spec.layers) == 1, "all but the least sensitive one were given back"


def test_choose_layers__takes_patterns_and_the_words_for_the_ends() -> None:
    base = make_student()
    every = layers_of(base)
    layers, reasons = choose_layers(base, QuantizationConfig(exclude=("stem", "head")))
    assert layers == every[1:-1]
    assert reasons == {every[0]: "excluded by name", every[-1]: "excluded by name"}
    layers, reasons = choose_layers(base, QuantizationConfig(include=("*.layer2.*",), exclude=("*conv2",)))
    assert layers == ("backbone.layer2.0.conv1",)
    assert reasons["backbone.layer2.0.conv2"] == "excluded by name"
    assert reasons["backbone.layer1.0.conv1"] == "not included"


@pytest.mark.parametrize("key", ["include", "exclude"])
def test_choose_layers__refuses_a_pattern_that_matches_nothing(key: str) -> None:
    wrong: dict[str, Any] = {key: ("backbone.layr1.*",)}
    with pytest.raises(UsageError, match=r"no layer matches 'backbone\.layr1") as caught:
        choose_layers(make_student(), QuantizationConfig(**wrong))
    assert f"compress.quantization.{key}" in str(caught.value)
    norms: dict[str, Any] = {key: ("*.bn1",)}
    with pytest.raises(UsageError, match="no layer matches"):
        choose_layers(make_student(), QuantizationConfig(**norms))


def test_choose_layers__refuses_to_leave_nothing() -> None:
    with pytest.raises(UsageError, match="none of the 8 layers is left to quantise"):
        choose_layers(make_student(), QuantizationConfig(exclude=("*",)))


def test_quantize__refuses_a_quantised_student(trained: Student, pictures: ImageSet) -> None:
    with pytest.raises(UsageError, match="quantised already"):
        quantize(quantised(), work(pictures, trained))
