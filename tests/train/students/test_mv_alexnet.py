from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import alexnet

from edgeproof_compress.graph import trace
from edgeproof_configs.errors import UsageError
from edgeproof_train.student import Student
from edgeproof_train.students.mv_alexnet import MultiViewAlexNetStudent

DIM, SIDE = 12, 64


def make(root: Path | None = None, **settings: Any) -> MultiViewAlexNetStudent:
    torch.manual_seed(0)
    return MultiViewAlexNetStudent(config(**settings), DIM, root).eval()


def config(**settings: Any) -> MultiViewAlexNetStudent.Config:
    return MultiViewAlexNetStudent.Config.model_validate({"image_size": SIDE} | settings)


def views(count: int = 3, objects: int = 2, side: int = SIDE) -> Tensor:
    return torch.randn(objects, count, 3, side, side, generator=torch.Generator().manual_seed(count))


def tokens(student: Student, given: Tensor) -> Tensor:
    with torch.no_grad():
        return student(given).tokens


def test_forward__as_many_tokens_as_a_transformer_with_patches_of_32_pixels() -> None:
    student = MultiViewAlexNetStudent(config(image_size=224), 768)
    assert student.token_shape == (50, 768)
    shapes = {name: tuple(value.shape) for name, value in student.tensors().items() if value.ndim > 1}
    assert shapes["fc1.weight"] == (1024, 12544)
    assert shapes["local.weight"] == (256, 256, 3, 3)
    assert shapes["head.weight"] == (768, 256)


def test_forward__another_grid() -> None:
    assert make(grid=16).token_shape == (257, DIM)
    assert tokens(make(grid=4), views()).shape == (2, 17, DIM)


def test_forward__the_convolutions_are_those_of_alexnet_without_the_last_pooling() -> None:
    student, reference = make(), alexnet().eval()
    reference.features.load_state_dict(student.network.features.state_dict())
    image = views(1)[:, 0]
    with torch.no_grad():
        torch.testing.assert_close(student.network.features(image), reference.features[:-1](image))


def test_forward__the_global_token_is_first_and_is_the_embedding() -> None:
    student = make()
    with torch.no_grad():
        outputs = student(views())
        expected = student.head(student.pooled(views()))
    assert torch.equal(outputs.tokens[:, 0], outputs.embedding)
    torch.testing.assert_close(outputs.embedding, expected)


def test_forward__a_local_token_is_one_place_of_the_map() -> None:
    student = make()
    with torch.no_grad():
        places = student.network.place_map(views())
        expected = student.head(places[:, :, 1, 0])
    side = places.shape[-1]
    torch.testing.assert_close(tokens(student, views())[:, 1 + side], expected)


def test_forward__tokens_have_negative_values() -> None:
    assert (tokens(make(), views()) < 0).any()


def test_forward__order_and_repetition_of_views_do_not_matter() -> None:
    student, given = make(), views(4)
    found = tokens(student, given)
    torch.testing.assert_close(tokens(student, given[:, [3, 1, 0, 2]]), found)
    torch.testing.assert_close(tokens(student, given[:, [0, 1, 2, 3, 3, 1]]), found)
    torch.testing.assert_close(tokens(student, given[:, :1]), tokens(student, given[:, 0]))


def test_compat__mixes_places_with_channels_and_ends_in_a_relu() -> None:
    plain, compat = make(), make(compat=True)
    compat.load_tensors(plain.tensors(), Path("memory"))
    with torch.no_grad():
        places = plain.network.place_map(views())
        mixed = torch.relu(plain.head(places.reshape(2, -1, 256)))
    found = tokens(compat, views())
    torch.testing.assert_close(found[:, 1:], mixed)
    torch.testing.assert_close(found[:, 0], tokens(plain, views())[:, 0].relu())
    assert not torch.allclose(found[:, 1:], tokens(plain, views())[:, 1:].relu())


@pytest.mark.parametrize("grid", [None, 5])
def test_save__load_gives_the_same_student(grid: int | None, tmp_path: Path) -> None:
    student = make(grid=grid, mean=(0.1, 0.2, 0.3), resize_size=70, interpolation="nearest")
    student.save(tmp_path)
    again = Student.load(tmp_path)
    assert isinstance(again, MultiViewAlexNetStudent)
    assert (again.preprocess, again.token_shape) == (student.preprocess, student.token_shape)
    assert torch.equal(tokens(again, views()), tokens(student, views()))


def test_weights__the_convolutions_of_torchvisions_alexnet(tmp_path: Path) -> None:
    reference = alexnet()
    save_file(reference.state_dict(), tmp_path / "alexnet.safetensors")
    student = make(tmp_path, weights="alexnet.safetensors")
    for name, value in reference.features.state_dict().items():
        assert torch.equal(student.network.features.state_dict()[name], value)


def test_weights__all_layers_of_an_earlier_student_whatever_their_names(tmp_path: Path) -> None:
    earlier = make()
    for part in earlier.parameters():
        nn.init.normal_(part, generator=torch.Generator().manual_seed(1))
    names = {"fc1": "classifier.1", "fc2": "classifier.4", "head": "proj", "local": "down.0"}
    state: dict[str, Tensor] = {}
    for name, value in earlier.tensors().items():
        layer, _, part = name.rpartition(".")
        state[f"net.{names.get(layer, layer)}.{part}"] = value
    save_file(state, tmp_path / "earlier.safetensors")
    student = make(tmp_path, weights="earlier.safetensors", compat=True)
    for name, value in earlier.tensors().items():
        assert torch.equal(student.tensors()[name], value)


def test_weights__of_something_else(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="not the convolutions of AlexNet"):
        make(tmp_path, weights="other.safetensors")


@pytest.mark.parametrize("settings", [{"image_size": 32}, {"grid": 0}, {"std": (0, 1, 1)}])
def test_config__refuses(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**settings)


def test_trace__the_graph_gives_the_embedding() -> None:
    student = make(grid=4)
    with torch.no_grad():
        torch.testing.assert_close(trace(student)(views(5)), student(views(5)).embedding)


def test_export__onnx_with_any_number_of_objects_and_views() -> None:
    student = make()

    class Embedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = student

        def forward(self, views: Tensor) -> Tensor:
            return self.student(views).embedding

    axes = {"views": {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("views", min=1)}}
    program = torch.onnx.export(
        Embedding().eval(), (views(),), dynamo=True, dynamic_shapes=axes, input_names=["views"], verbose=False
    )
    assert program is not None
    model = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for objects, count in ((1, 1), (3, 5)):
        given = views(count, objects)
        found = np.asarray(session.run(None, {"views": given.numpy()})[0])
        np.testing.assert_allclose(found, tokens(student, given)[:, 0].numpy(), atol=1e-4)
