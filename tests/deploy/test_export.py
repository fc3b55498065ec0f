from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgeproof_configs.errors import EdgeproofError, GateError
from edgeproof_deploy.export import export_onnx, weights_digest
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.outputs import ModelOutputs
from edgeproof_train.student import Student
from edgeproof_train.students.timm import TimmStudent

StudentOf = Callable[..., Student]


class Changed(TimmStudent):
    """Gives something else while it is being exported, as a re-parametrised block may."""

    def forward(self, image: torch.Tensor) -> ModelOutputs:
        embedding = super().forward(image).embedding
        if torch.compiler.is_exporting():
            embedding = embedding + 0.2 * torch.roll(embedding, 1, 1)
        return ModelOutputs(embedding=embedding)


class Branching(TimmStudent):
    """Asks for a value of a tensor, which no exporter can follow."""

    def forward(self, image: torch.Tensor) -> ModelOutputs:
        return super().forward(image if image.mean().item() > 0 else -image)


def shape_of(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def run(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": images})[0])


def eager(student: Student, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return student(torch.from_numpy(images)).embedding.numpy()


def test_export_onnx__one_file_with_only_the_batch_dynamic(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    onnx.checker.check_model(model, full_check=True)
    assert [shape_of(value) for value in model.graph.input] == [["batch", 3, 32, 32]]
    assert [shape_of(value) for value in model.graph.output] == [["batch", 16]]
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["image", "embedding"]
    assert [file.name for file in onnx_file.parent.iterdir()] == ["model.onnx"]
    assert model.opset_import[0].version == 18
    assert model.ir_version <= 10
    assert not [node for node in model.graph.node if node.op_type == "BatchNormalization"]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_export_onnx__gives_what_the_student_gives(student: Student, onnx_file: Path, batch: int) -> None:
    images = np.random.default_rng(batch).standard_normal((batch, 3, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(run(onnx_file, images), eager(student, images), atol=2e-6)


def test_export_onnx__says_in_the_file_what_it_is(student: Student, onnx_file: Path) -> None:
    texts = {prop.key: prop.value for prop in onnx.load(onnx_file).metadata_props}
    assert texts["recipe"] == "test"
    assert texts["input_normalisation"] == "external"
    assert texts["embedding_normalised"] == "false"
    assert texts["weights_sha256"] == weights_digest(student)
    assert Preprocess.from_dict(json.loads(texts["preprocess"])) == student.preprocess


def test_export_onnx__holds_no_path_of_the_machine(onnx_file: Path) -> None:
    data = onnx_file.read_bytes()
    assert b".py" not in data
    assert b"site-packages" not in data


def test_export_onnx__the_student_stays_as_it_is(student_of: StudentOf, tmp_path: Path) -> None:
    student = student_of("test_efficientnet", kwargs={"pad_type": "same"}).to(
        memory_format=torch.channels_last
    )
    student.train()
    before = weights_digest(student)
    images = np.random.default_rng(1).standard_normal((3, 3, 32, 32)).astype(np.float32)
    result = export_onnx(student, tmp_path / "model.onnx", opset=20, images=images)
    assert student.training
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert weights_digest(student) == before
    assert result.cosine_min > 0.999999
    assert result.size_bytes == (tmp_path / "model.onnx").stat().st_size
    np.testing.assert_allclose(run(tmp_path / "model.onnx", images), eager(student.eval(), images), atol=2e-6)


def test_export_onnx__a_file_that_differs_is_not_written(student: Student, tmp_path: Path) -> None:
    changed = Changed(student.config, 16)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    with pytest.raises(GateError, match=r"differs from the student in PyTorch: cosine 0\.9") as caught:
        export_onnx(changed, tmp_path / "model.onnx")
    assert caught.value.exit_code == 3
    assert not list(tmp_path.iterdir())


def test_export_onnx__a_student_that_cannot_be_traced(student: Student, tmp_path: Path) -> None:
    branching = Branching(student.config, 16)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    with pytest.raises(EdgeproofError, match="cannot be exported to ONNX"):
        export_onnx(branching, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_export_onnx__nan_weights(student_of: StudentOf, tmp_path: Path) -> None:
    student: Any = student_of()
    with torch.no_grad():
        student.head.weight[0, 0] = float("nan")
    with pytest.raises(EdgeproofError, match="gives NaN or infinity"):
        export_onnx(student, tmp_path / "model.onnx")


def test_export_onnx__inputs_of_another_shape(student: Student, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected float32 images"):
        export_onnx(student, tmp_path / "model.onnx", images=np.zeros((2, 3, 16, 16), np.float32))


def test_export_onnx__full_disk(student: Student, small_disk: Path) -> None:
    with pytest.raises(EdgeproofError, match="cannot write: No space left on device"):
        export_onnx(student, small_disk / "model.onnx")
    assert not list(small_disk.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize(
    ("model", "side", "settings"),
    [
        ("mobilenetv2_100", 160, {"kwargs": {"pad_type": "same"}}),
        ("resnet18", 64, {}),
        ("resnet10t", 64, {}),
        ("test_vit", 160, {"head": "mlp"}),
        ("convnext_atto", 64, {}),
    ],
)
def test_export_onnx__students_of_the_recipes(
    student_of: StudentOf, tmp_path: Path, model: str, side: int, settings: dict[str, Any], opset: int
) -> None:
    result = export_onnx(student_of(model, side, **settings), tmp_path / "model.onnx", opset=opset)
    assert result.cosine_min > 0.999999
