from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgeproof_configs.errors import EdgeproofError
from edgeproof_train.weights import load_into, read_weights, weights_digest


def model_of(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def test_read_weights__returns_what_was_saved(tmp_path: Path) -> None:
    state = model_of().state_dict()
    save_file(state, tmp_path / "model.safetensors")
    got = read_weights(tmp_path / "model.safetensors", "teacher.weights")
    assert all(torch.equal(got[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".ckpt"])
def test_read_weights__opens_no_pickle(tmp_path: Path, ending: str) -> None:
    torch.save(model_of().state_dict(), tmp_path / f"model{ending}")
    with pytest.raises(EdgeproofError, match=f"teacher.weights: a '{ending}' file is a pickle"):
        read_weights(tmp_path / f"model{ending}", "teacher.weights")


def test_read_weights__explains_a_checkpoint_cut_in_half(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(model_of().state_dict(), file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(EdgeproofError, match="the checkpoint is cut or damaged"):
        read_weights(file, "teacher.weights")


def test_read_weights__names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EdgeproofError, match="there is no such file"):
        read_weights(tmp_path / "model.safetensors", "teacher.weights")


def test_load_into__does_not_ask_for_batch_counters() -> None:
    state = {name: tensor for name, tensor in model_of().state_dict().items() if "tracked" not in name}
    state["0.bias"] = torch.tensor([1.0, 2.0, 3.0])
    model = model_of()
    load_into(model, state, "teacher.weights", "here")
    assert model.state_dict()["0.bias"].tolist() == [1, 2, 3]


def test_load_into__names_what_does_not_fit() -> None:
    state = model_of(4).state_dict()
    del state["1.running_var"]
    state["head.weight"] = torch.zeros(2)
    with pytest.raises(EdgeproofError) as caught:
        load_into(model_of(3), state, "teacher.weights", "here")
    said = str(caught.value)
    assert "1 missing: 1.running_var" in said
    assert "1 unknown: head.weight" in said
    assert "0.weight is (4, 2), the model has (3, 2)" in said


def test_weights_digest__sees_values_types_and_names_but_no_order() -> None:
    state = model_of().state_dict()
    digest = weights_digest(state)
    assert digest == weights_digest(dict(reversed(state.items())))
    assert digest != weights_digest({**state, "0.bias": state["0.bias"] + 1e-7})
    assert digest != weights_digest({**state, "0.bias": state["0.bias"].half()})
    assert digest != weights_digest({name.replace("0.", "2."): tensor for name, tensor in state.items()})
