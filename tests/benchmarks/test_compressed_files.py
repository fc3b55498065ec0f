from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeproof_benchmarks.compressed_files import count_weights, is_2_4


def pruned(shape: tuple[int, ...]) -> np.ndarray:
    """Return a weight of ones with the last two of every four input channels at zero."""
    weight = np.ones(shape, np.int8)
    weight[:, 2::4] = weight[:, 3::4] = 0
    return weight


@pytest.mark.parametrize("shape", [(8, 16), (8, 16, 3, 3)])
def test_is_2_4__along_the_input_channels(shape: tuple[int, ...]):
    weight = pruned(shape)
    assert is_2_4(weight)
    weight[0, 2] = 1
    assert not is_2_4(weight)
    assert not is_2_4(np.ones(shape, np.int8))


def test_is_2_4__a_matrix_that_is_stored_the_other_way_round():
    assert is_2_4(np.ascontiguousarray(pruned((6, 8)).T))


def test_is_2_4__no_groups_of_four():
    assert not is_2_4(np.zeros((6, 3)))


def test_count_weights__matrices_and_kernels_alone(tmp_path: Path):
    dense = np.ones((4, 3, 3, 3), np.float32)
    dense[0] = 0
    tensors = {
        "stem": dense,
        "bias": np.zeros(4, np.float32),
        "scale": np.float32(1.0),
        "head": pruned((8, 4)),
    }
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["embedding"])],
        "weights",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    assert count_weights(tmp_path / "model.onnx") == {
        "weights": 108 + 32,
        "nonzero": 81 + 16,
        "layers": 2,
        "layers_2_4": 1,
    }
