from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from tests.compress.small_students import layers_of, make_student, write_images

from edgeproof_compress.calibration import Calibrated, calibrate, calibration_images
from edgeproof_compress.quantized_student import QuantizationSpec
from edgeproof_compress.quantizers import Backend, Calibration
from edgeproof_configs.compress_schema import QuantizationConfig
from edgeproof_configs.errors import DataError, EdgeproofError
from edgeproof_data.sets import ImageSet
from edgeproof_train.embeddings import embed_images
from edgeproof_train.student import Student

BACKENDS: tuple[Backend, ...] = get_args(Backend)
METHODS: tuple[Calibration, ...] = get_args(Calibration)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return write_images(tmp_path_factory.mktemp("pictures"), 40)


def calibrated(
    base: Student, images: ImageSet, method: Calibration = "max", backend: Backend = "modelopt"
) -> Calibrated:
    config = QuantizationConfig(calibration=method, backend=backend, method="ptq")
    return calibrate(base, QuantizationSpec(layers_of(base), backend), images, config, "cpu")


def embedded(student: Student, images: ImageSet) -> np.ndarray:
    rows = embed_images(student, images)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_calibration_images__draws_without_replacement_in_order() -> None:
    images = ImageSet(Path(), tuple(f"{number:03d}" for number in range(50)), np.zeros(50, np.int64), ("a",))
    drawn = calibration_images(images, 20, seed=1)
    assert len(set(drawn.paths)) == 20
    assert list(drawn.paths) == sorted(drawn.paths)
    assert drawn.paths == calibration_images(images, 20, seed=1).paths
    assert drawn.paths != calibration_images(images, 20, seed=2).paths


def test_calibration_images__are_all_where_there_are_fewer(pictures: ImageSet) -> None:
    assert calibration_images(pictures, 512, seed=0).paths == pictures.paths
    assert calibrated(make_student(), pictures.subset(range(5))).images == 5


def test_calibration_images__refuses_none(pictures: ImageSet) -> None:
    with pytest.raises(DataError, match="no image to calibrate with"):
        calibration_images(pictures.subset([]), 512, seed=0)


def test_calibrate__max_is_the_largest_value_seen(pictures: ImageSet) -> None:
    base = make_student()
    found = calibrated(base, pictures).student
    largest = 0.0
    first = base.module().get_submodule("conv1")

    def note(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        nonlocal largest
        largest = max(largest, float(given[0].abs().max()))

    with first.register_forward_pre_hook(note):
        embed_images(base, pictures)
    assert found.quantizers()["image"].amax == pytest.approx(largest)
    assert all(one.active for one in found.quantizers().values() if "onnxruntime" in one.targets)


@pytest.mark.parametrize("method", METHODS)
def test_calibrate__both_backends_agree(method: Calibration, pictures: ImageSet) -> None:
    base = make_student()
    plain = embedded(base, pictures)
    ranges, cosines, rows = {}, {}, {}
    for backend in BACKENDS:
        student = calibrated(base, pictures, method, backend).student
        ranges[backend] = {name: float(one.amax or 0) for name, one in student.quantizers().items()}
        rows[backend] = embedded(student, pictures)
        cosines[backend] = (rows[backend] * plain).sum(axis=1)
    ours, earlier = (ranges[backend] for backend in BACKENDS)
    assert ours == pytest.approx(earlier, rel=1e-5)
    assert (rows["modelopt"] * rows["pytorch_quantization"]).sum(axis=1).min() > 0.9999
    assert all(cosine.mean() > 0.99 for cosine in cosines.values())


def test_calibrate__methods_cut_off_what_max_keeps(pictures: ImageSet) -> None:
    base = make_student()
    largest = calibrated(base, pictures).student.ranges()
    for method in METHODS[1:]:
        ranges = calibrated(base, pictures, method).student.ranges()
        below = [float(ranges[name] / largest[name]) for name in largest if name.startswith("activation")]
        assert min(below) < 0.99, method
        assert max(below) <= 1.001, method
        assert min(below) > 0.2, method


def test_calibrate__gives_back_layers_around_a_value_that_is_always_zero(pictures: ImageSet) -> None:
    base = make_student()
    with torch.no_grad():
        # The ReLU after the first convolution of the second stage gives only zeros.
        base.get_parameter("backbone.layer2.0.bn1.weight").zero_()
        base.get_parameter("backbone.layer2.0.bn1.bias").fill_(-1)
    found = calibrated(base, pictures)
    assert set(found.returned) == {"backbone.layer2.0.conv1", "backbone.layer2.0.conv2"}
    assert all("is zero on every image" in reason for reason in found.returned.values())
    assert set(found.student.spec.layers) == set(layers_of(base)) - set(found.returned)
    assert all(torch.isfinite(value).all() and value.min() > 0 for value in found.student.ranges().values())
    assert (embedded(found.student, pictures) * embedded(base, pictures)).sum(axis=1).mean() > 0.99


def test_calibrate__gives_back_what_makes_a_sum_that_is_always_zero(pictures: ImageSet) -> None:
    base = make_student()
    with torch.no_grad():
        base.get_parameter("backbone.layer2.0.bn2.bias").fill_(-1e4)
    found = calibrated(base, pictures)
    assert {"backbone.layer2.0.conv2", "backbone.layer3.0.conv1"} <= set(found.returned)
    assert "backbone.conv1" in found.student.spec.layers


@pytest.mark.parametrize("method", METHODS)
def test_calibrate__refuses_a_student_that_gives_no_numbers(method: Calibration, pictures: ImageSet) -> None:
    base = make_student()
    with torch.no_grad():
        base.get_parameter("backbone.layer1.0.conv1.weight")[0] = torch.nan
    with pytest.raises(EdgeproofError, match="the student gives no numbers"):
        calibrated(base, pictures, method)


def test_calibrate__refuses_a_student_of_which_nothing_is_left(pictures: ImageSet) -> None:
    base = make_student()
    with torch.no_grad():
        base.get_parameter("backbone.layer3.0.bn2.bias").fill_(-1e4)
    config = QuantizationConfig(calibration="max")
    with pytest.raises(EdgeproofError, match="no layer can be quantised") as caught:
        calibrate(base, QuantizationSpec(("head",)), pictures, config, "cpu")
    assert "zero on all 40 images" in str(caught.value)
