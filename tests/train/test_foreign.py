from __future__ import annotations

import argparse
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_train.foreign import read_checkpoint


class Bait:
    """A pickle of this makes a folder when it is read."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def same(found: dict[str, torch.Tensor]) -> bool:
    expected = network().state_dict()
    return list(found) == list(expected) and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("ending", ["pt", "pth", "pth.tar", "ckpt"])
def test_read_checkpoint__reads_a_state_dict_and_the_names_of_its_modules(
    tmp_path: Path, ending: str
) -> None:
    torch.save(network().state_dict(), tmp_path / f"a.{ending}")
    found = read_checkpoint(tmp_path / f"a.{ending}")
    assert same(found.tensors)
    assert found.modules == {"", "0", "1"}
    assert found.told == ("7 tensors",)


def test_read_checkpoint__reads_safetensors(tmp_path: Path) -> None:
    save_file(network().state_dict(), tmp_path / "a.safetensors")
    found = read_checkpoint(tmp_path / "a.safetensors").tensors
    assert same({name: found[name] for name in network().state_dict()})


@pytest.mark.parametrize("nest", [("state_dict",), ("model",), ("ema",), ("student", "state_dict")])
def test_read_checkpoint__finds_nested_weights_under_wrapped_names(
    tmp_path: Path, nest: tuple[str, ...]
) -> None:
    state = network().state_dict()
    wrapped: Any = OrderedDict((f"module._orig_mod.{name}", value) for name, value in state.items())
    for key in reversed(nest):
        wrapped = {key: wrapped, "epoch": 3, "best": torch.tensor(0.5)}
    torch.save(wrapped, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt")
    assert same(found.tensors)
    assert found.told[0] == f"7 tensors under '{'.'.join(nest)}', 'module.' taken off their names"
    assert found.told[1] == f"beside '{nest[0]}' in the file, and not used: best, epoch"


def test_read_checkpoint__takes_averaged_weights_and_says_so(tmp_path: Path) -> None:
    other = {name: value + 1 for name, value in network().state_dict().items()}
    torch.save({"model": other, "model_ema": network().state_dict()}, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt")
    assert same(found.tensors)
    assert found.told[1] == "beside 'model_ema' in the file, and not used: model"


def test_read_checkpoint__a_counter_of_averages_hides_no_prefix(tmp_path: Path) -> None:
    torch.save(AveragedModel(network()).state_dict(), tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt").tensors
    found.pop("n_averaged")
    assert same(found)


def test_read_checkpoint__a_prefix_that_only_some_names_have_stays(tmp_path: Path) -> None:
    torch.save({"backbone.a": torch.zeros(1), "head.a": torch.zeros(1)}, tmp_path / "a.pt")
    assert list(read_checkpoint(tmp_path / "a.pt").tensors) == ["backbone.a", "head.a"]


@pytest.mark.parametrize("raw", [False, True], ids=["torch", "pickle"])
def test_read_checkpoint__runs_nothing_of_a_pickle(tmp_path: Path, raw: bool) -> None:
    file, mark = tmp_path / "a.pth", tmp_path / "ran"
    held = {"state_dict": network().state_dict(), "epoch": Bait(mark)}
    if raw:
        file.write_bytes(pickle.dumps(held["epoch"], protocol=2))
    else:
        torch.save(held, file)
    with pytest.raises(UsageError, match="could run code: not opened") as caught:
        read_checkpoint(file)
    assert not mark.exists()
    assert len(caught.value.lines()) == 3
    # The bait is live: without the restriction it runs.
    torch.load(file, weights_only=False) if not raw else pickle.loads(file.read_bytes())
    assert mark.exists()


def test_read_checkpoint__an_environment_that_allows_everything_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"state_dict": network().state_dict(), "epoch": Bait(tmp_path / "ran")}, tmp_path / "a.pth")
    with pytest.raises(UsageError, match="could run code"):
        read_checkpoint(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("held", "named"),
    [(network(), "torch.nn.modules"), ({"args": argparse.Namespace(lr=1)}, "argparse.Namespace")],
    ids=["module", "arguments"],
)
def test_read_checkpoint__names_what_a_pickle_would_need(tmp_path: Path, held: Any, named: str) -> None:
    torch.save(held, tmp_path / "a.pth")
    with pytest.raises(UsageError, match=f"would need '{named}"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_read_checkpoint__explains_a_cut_file(tmp_path: Path, legacy: bool, kept: float) -> None:
    file = tmp_path / "a.pth"
    torch.save(network().state_dict(), file, _use_new_zipfile_serialization=not legacy)
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(EdgeproofError, match="cut or damaged"):
        read_checkpoint(file)


@pytest.mark.parametrize("content", [b"", b"hello, this is no checkpoint", bytes(4096)])
def test_read_checkpoint__explains_a_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(EdgeproofError, match="cut or damaged"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("held", "shown"),
    [({"epoch": 3, "lr": 0.1}, "epoch, lr"), ([torch.zeros(1)], "a list"), ({0: torch.zeros(1)}, "0")],
)
def test_read_checkpoint__refuses_a_file_without_weights_by_name(
    tmp_path: Path, held: Any, shown: str
) -> None:
    torch.save(held, tmp_path / "a.pth")
    with pytest.raises(UsageError, match=f"no weights by name in this file; it holds: {shown}"):
        read_checkpoint(tmp_path / "a.pth")


def test_read_checkpoint__names_a_missing_file_and_a_strange_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "a.pth")
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(UsageError, match="expected a checkpoint, one of"):
        read_checkpoint(tmp_path / "a.h5")
