from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from tests.compress.small_students import quantised, write_images

from edgeproof_compress.quantized_student import QuantizedStudent
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.forms import StudentForm
from edgeproof_deploy.parity import Form
from edgeproof_deploy.verify import Chain
from edgeproof_train.embeddings import embed_images

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
