from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgeproof_configs.errors import EdgeproofError
from edgeproof_train.checkpoint import (
    BEFORE,
    NEWEST,
    load_checkpoint,
    load_optimizer,
    optimizer_tensors,
    prefixed,
    remove_checkpoints,
    remove_unfinished,
    save_checkpoint,
    under,
)


def write(folder: Path, number: int) -> None:
    save_checkpoint(folder, {"a": torch.full((3,), float(number))}, {"number": number, "text": "ä"})


def number_of(folder: Path) -> int:
    found = load_checkpoint(folder)
    assert found is not None
    tensors, state = found
    assert torch.equal(tensors["a"], torch.full((3,), float(state["number"])))
    return state["number"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_load__nothing_there(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


def test_save__the_newest_is_read_and_the_one_before_is_kept(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(tmp_path, number)
        assert number_of(tmp_path) == number
    (tmp_path / NEWEST).unlink()
    assert number_of(tmp_path) == 2


def test_load__a_cut_file_falls_back_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)
    cut(tmp_path / NEWEST)
    assert number_of(tmp_path) == 1
    said = capsys.readouterr().err
    assert NEWEST in said
    assert f"going on from {BEFORE}" in said


@pytest.mark.parametrize(
    "damage", [cut, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x" * 99)]
)
def test_load__nothing_readable(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    write(tmp_path, 1)
    damage(tmp_path / NEWEST)
    with pytest.raises(EdgeproofError, match="cut or damaged") as caught:
        load_checkpoint(tmp_path)
    assert "delete" in str(caught.value.fix)


@pytest.mark.integration
def test_save__a_full_disk_leaves_what_was_there(small_disk: Path) -> None:
    write(small_disk, 1)
    write(small_disk, 2)
    with pytest.raises(EdgeproofError, match="No space left") as caught:
        save_checkpoint(small_disk, {"a": torch.zeros(1 << 20)}, {"number": 3})
    assert "free some space" in str(caught.value.fix)
    assert number_of(small_disk) == 2
    assert {file.name for file in small_disk.iterdir()} == {NEWEST, BEFORE}


def test_remove__leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)
    remove_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())


def test_remove_unfinished__takes_only_temporary_files(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "last").mkdir()
    for name in (f".{NEWEST}.x7k2", "last/.model.safetensors.abcd"):
        (tmp_path / name).write_bytes(b"half")
    remove_unfinished(tmp_path)
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {NEWEST}


def test_prefixed__under_takes_it_off_again() -> None:
    tensors = {"x/y": torch.ones(1)}
    assert under("p", prefixed("p", tensors)) == tensors
    assert under("q", prefixed("p", tensors)) == {}


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_load_optimizer__goes_on_as_if_never_stopped(kind: Any) -> None:
    settings: dict[str, Any] = {"lr": 0.1} | ({"momentum": 0.9} if kind is torch.optim.SGD else {})
    networks = []
    for stop in (False, True):
        torch.manual_seed(0)
        network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        optimizer = kind(network.parameters(), **settings)
        for step in range(4):
            if stop and step == 2:
                kept = {
                    name: value.contiguous().clone() for name, value in optimizer_tensors(optimizer).items()
                }
                optimizer = kind(network.parameters(), **settings)
                load_optimizer(optimizer, kept)
                state = optimizer.state[network.weight]
                layout = state.get("exp_avg", state.get("momentum_buffer"))
                assert layout.is_contiguous(memory_format=torch.channels_last)
            network(torch.randn(2, 3, 8, 8)).square().mean().backward()
            optimizer.step()
        networks.append(network)
    assert torch.equal(networks[0].weight, networks[1].weight)
