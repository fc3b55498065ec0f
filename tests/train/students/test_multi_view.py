from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from edgeproof_compress.channel_spaces import channel_spaces, permute_space
from edgeproof_compress.eligibility import eligibility
from edgeproof_compress.graph import trace
from edgeproof_compress.quantized_student import QuantizationSpec, QuantizedStudent
from edgeproof_configs.compress_schema import SparsityConfig
from edgeproof_configs.errors import UsageError
from edgeproof_train.freeze import frozen_parts
from edgeproof_train.student import Student
from edgeproof_train.students.multi_view import MultiViewStudent
from edgeproof_train.students.timm import TimmStudent

DIM, SIDE = 12, 32
PLACES = [
    ("test_resnet", "features", 32),
    ("test_resnet", "layer2", 32),
    ("test_vit", "features", 160),
    ("test_vit", "blocks.1", 160),
    ("test_convnext", "stages.1", 64),
]


def make(**settings: Any) -> MultiViewStudent:
    torch.manual_seed(0)
    student = MultiViewStudent(config(**settings), DIM).eval()
    if student.view_pool.kind == "attention":
        # At its start it is the mean, which would hide what it does.
        last: Any = student.view_pool.score[2]
        nn.init.normal_(last.weight, std=5)
    return student


def config(**settings: Any) -> MultiViewStudent.Config:
    return MultiViewStudent.Config.model_validate({"model": "test_resnet", "image_size": SIDE} | settings)


def views(count: int = 3, objects: int = 2, side: int = SIDE) -> Tensor:
    return torch.randn(objects, count, 3, side, side, generator=torch.Generator().manual_seed(count))


def embedded(student: Student, image: Tensor) -> Tensor:
    with torch.no_grad():
        return student(image).embedding


@pytest.mark.parametrize("pooling", ["max", "mean", "attention"])
@pytest.mark.parametrize(("model", "place", "side"), PLACES)
def test_forward__the_order_of_views_does_not_matter(model: str, place: str, side: int, pooling: str) -> None:
    student = make(model=model, pool_at=place, pooling=pooling, image_size=side)
    given = views(4, side=side)
    found = embedded(student, given)
    torch.testing.assert_close(embedded(student, given[:, [2, 0, 3, 1]]), found, atol=1e-5, rtol=1e-4)
    # All views twice are the same mean; another number of views is fine, and gives something else.
    torch.testing.assert_close(embedded(student, given.repeat(1, 2, 1, 1, 1)), found, atol=1e-5, rtol=1e-4)
    assert (embedded(student, given[:, :3]) - found).abs().max() > 1e-4


@pytest.mark.parametrize("pooling", ["max", "mean", "attention"])
@pytest.mark.parametrize(("model", "place", "side"), PLACES)
def test_forward__one_view_is_the_network_for_single_images(
    model: str, place: str, side: int, pooling: str
) -> None:
    student = make(model=model, pool_at=place, pooling=pooling, image_size=side)
    single = TimmStudent(TimmStudent.Config(model=model, image_size=side), DIM).eval()
    single.backbone.load_state_dict(student.backbone.state_dict())
    single.head.load_state_dict(student.head.state_dict())
    image = views(1, side=side)
    expected = embedded(single, image[:, 0])
    torch.testing.assert_close(embedded(student, image), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(embedded(student, image[:, 0]), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("place", ["features", "layer3"])
def test_forward__duplicated_views_change_no_maximum(place: str) -> None:
    student = make(pool_at=place, pooling="max")
    given = views(3)
    torch.testing.assert_close(embedded(student, given[:, [0, 1, 2, 1, 1]]), embedded(student, given))


def test_forward__no_view_gets_colours_of_another() -> None:
    """`permute(0, 2, 1, 3, 4).reshape(-1, 3, H, W)` would mix the colours of a grey set of views."""
    student = make(pooling="max")
    grey = torch.stack([torch.full((3, SIDE, SIDE), level) for level in (-1.0, 0.0, 1.0)])[None]
    one_by_one = torch.stack([student.encode_views(grey[:, number]) for number in range(3)])
    with torch.no_grad():
        expected = student.head(one_by_one.amax(dim=0))
    torch.testing.assert_close(embedded(student, grey), expected)


@pytest.mark.parametrize("pooling", ["max", "mean", "attention"])
def test_pool_views__of_features_encoded_one_by_one(pooling: str) -> None:
    student = make(pooling=pooling, head="mlp")
    given = views(5)
    with torch.no_grad():
        features = student.encode_views(given.flatten(0, 1)).unflatten(0, (2, 5))
        found = student.pool_views(features).embedding
    assert student.pools_late
    torch.testing.assert_close(found, embedded(student, given))


def test_pool_views__not_where_a_node_pools() -> None:
    student = make(pool_at="layer2")
    assert not student.pools_late
    with pytest.raises(ValueError, match="does not encode views one by one"):
        student.encode_views(views()[:, 0])
    with pytest.raises(ValueError, match="does not encode views one by one"):
        student.pool_views(torch.zeros(1, 2, 3))


@pytest.mark.parametrize(
    ("model", "side", "places"),
    [
        ("vit_base_patch32_clip_224", 64, 4),
        ("vit_small_patch14_dinov2", 56, 16),
        ("samvit_base_patch16", 64, 16),
    ],
)
def test_forward__encoders_of_clip_dinov2_and_sam(model: str, side: int, places: int) -> None:
    narrow = {"embed_dim": 32, "depth": 1, "num_heads": 2}
    student = make(model=model, image_size=side, kwargs=narrow, tokens=True)
    with torch.no_grad():
        assert student(views(3, side=side)).tokens.shape == (2, 1 + places, DIM)
    pooled_early = make(model=model, image_size=side, kwargs=narrow, pool_at="blocks.0")
    assert embedded(pooled_early, views(3, side=side)).shape == (2, DIM)


@pytest.mark.parametrize("place", [pytest.param("features", marks=pytest.mark.slow), "layer2"])
def test_compile__as_one_graph_for_any_number_of_views(place: str) -> None:
    student, compiled = (make(pool_at=place, pooling="attention", tokens=True) for _ in range(2))
    compiled.load_state_dict(student.state_dict())
    compiled.compile(backend="eager", fullgraph=True)
    for count in (2, 3, 5):
        torch.testing.assert_close(embedded(compiled, views(count)), embedded(student, views(count)))


@pytest.mark.parametrize(("model", "place", "side"), PLACES)
def test_tokens__the_embedding_first_then_each_place(model: str, place: str, side: int) -> None:
    student = make(model=model, pool_at=place, image_size=side, tokens=True)
    with torch.no_grad():
        outputs = student(views(3, side=side))
    assert student.token_shape is not None
    assert outputs.tokens.shape == (2, *student.token_shape)
    assert torch.equal(outputs.tokens[:, 0], outputs.embedding)
    side_of_map = round((student.token_shape[0] - 1) ** 0.5)
    assert side_of_map**2 == student.token_shape[0] - 1


def test_tokens__a_place_of_the_picture_is_a_token() -> None:
    """A change in the lower right corner reaches the last token most."""
    student = make(tokens=True, image_size=64)
    given = views(1, side=64)
    changed = given.clone()
    changed[..., 48:, 48:] += 3
    with torch.no_grad():
        difference = (student(changed).tokens - student(given).tokens).norm(dim=-1).mean(dim=0)[1:]
    assert int(difference.argmax()) == len(difference) - 1


@pytest.mark.parametrize("place", ["features", "layer2"])
@pytest.mark.parametrize("pooling", ["max", "attention"])
def test_save__load_gives_the_same_student(pooling: str, place: str, tmp_path: Path) -> None:
    settings = {"pooling": pooling, "pool_at": place, "head": "mlp", "hidden_layers": 3, "tokens": True}
    student = make(**settings)
    student.save(tmp_path)
    again = Student.load(tmp_path)
    assert isinstance(again, MultiViewStudent)
    assert (again.input_name, again.token_shape) == ("views", student.token_shape)
    with torch.no_grad():
        first, second = student(views()), again(views())
    assert torch.equal(first.embedding, second.embedding)
    assert torch.equal(first.tokens, second.tokens)


@pytest.mark.parametrize("layers", [None, 1, 2, 3])
def test_head__so_many_hidden_layers(layers: int | None) -> None:
    student = make(head="mlp", hidden_layers=layers)
    linear = [part for part in student.head.modules() if isinstance(part, nn.Linear)]
    assert len(linear) == (layers or 1) + 1
    assert embedded(student, views()).shape == (2, DIM)


def test_head__none_gives_the_pooled_features() -> None:
    width = make().head.in_features
    assert isinstance(width, int)
    student = MultiViewStudent(config(head="none"), width).eval()
    torch.testing.assert_close(embedded(student, views()), student.pooled(views()).detach())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "linear", "hidden_layers": 2}, "hidden_layers has no effect"),
        ({"pooling": "sum"}, "'max', 'mean' or 'attention'"),
        ({"pool_at": ""}, "at least 1 character"),
    ],
)
def test_config__refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**settings)


@pytest.mark.parametrize(
    ("place", "message"),
    [("layer9", "no node 'layer9'"), ("conv1.0", "single layer"), ("fc", "single layer")],
)
def test_pool_at__refuses_what_is_no_stage(place: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make(pool_at=place)
    assert "layer1" in str(caught.value)


@pytest.mark.parametrize(
    ("place", "pooling"),
    [pytest.param("features", "attention", marks=pytest.mark.slow), ("layer2", "max")],
)
def test_export__onnx_with_any_number_of_objects_and_views(place: str, pooling: str) -> None:
    student = make(pool_at=place, pooling=pooling)

    class Embedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = student

        def forward(self, views: Tensor) -> Tensor:
            return self.student(views).embedding

    axes = {"views": {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("views", min=1)}}
    program = torch.onnx.export(
        Embedding().eval(),
        (torch.zeros(2, 3, 3, SIDE, SIDE),),
        dynamo=True,
        input_names=["views"],
        dynamic_shapes=axes,
        verbose=False,
    )
    assert program is not None
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for objects, count in ((1, 1), (2, 3), (3, 7), (1, 4)):
        given = views(count, objects)
        found = np.asarray(session.run(None, {"views": given.numpy()})[0])
        np.testing.assert_allclose(found, embedded(student, given).numpy(), atol=1e-4)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize(("model", "place", "side"), PLACES)
def test_trace__the_graph_takes_any_number_of_views(model: str, place: str, side: int, tokens: bool) -> None:
    student = make(model=model, pool_at=place, image_size=side, pooling="attention", tokens=tokens)
    graph = trace(student)
    for count in (1, 3, 5):
        given = views(count, side=side)
        torch.testing.assert_close(graph(given), embedded(student, given), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("place", [pytest.param("features", marks=pytest.mark.slow), "layer2"])
def test_compress__prunes_and_permutes_and_rounds(place: str) -> None:
    student = make(pool_at=place, head="mlp", tokens=True)
    layers = {layer.name: layer for layer in eligibility(student, SparsityConfig())}
    assert layers["backbone.layer3.0.conv2"].eligible
    # What losses alone need is no part of what is shipped.
    assert layers["token_head"].reason == "not exported"
    expected = embedded(student, views())
    for space in channel_spaces(student, []):
        permute_space(student, space, list(range(space.channels))[::-1])
    torch.testing.assert_close(embedded(student, views()), expected, atol=1e-5, rtol=1e-4)
    quantized = QuantizedStudent(student, QuantizationSpec(("backbone.layer3.0.conv1",))).eval()
    assert quantized.input_name == "views"
    torch.testing.assert_close(embedded(quantized, views()), expected, atol=1e-4, rtol=1e-3)


def test_copy__pools_with_its_own_pooling() -> None:
    student = make(pool_at="layer2", pooling="attention")
    before = embedded(student, views())
    other = copy.deepcopy(student)
    last: Any = other.view_pool.score[2]
    nn.init.zeros_(last.weight)
    assert torch.equal(embedded(student, views()), before)
    assert not torch.allclose(embedded(other, views()), before)
    assert other.node_pooling.pool is other.view_pool


def test_freeze__parts_by_the_names_of_the_network() -> None:
    student = make(pool_at="layer2")
    frozen_parts(student, ["backbone.layer1", "backbone.layer2"])
    trained = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith(("backbone.layer1", "backbone.layer2")) for name in trained)
    assert any(name.startswith("backbone.layer3") for name in trained)


def test_reuse_head__is_for_single_images() -> None:
    with pytest.raises(UsageError, match="single images"):
        make().reuse_head(nn.Identity(), "layer4")
