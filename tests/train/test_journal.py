from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgeproof_configs.errors import EdgeproofError
from edgeproof_train.journal import EpochSums, Journal


def make(folder: Path, rows: list[dict[str, Any]], read_each_step: bool = False) -> Journal:
    weights = {"a": 1.0, "b": 10.0}
    return Journal(
        weights, folder, rows.append, lambda values: values, EpochSums(), 0, read_each_step=read_each_step
    )


def add(journal: Journal, step: int, a: float = 1.0, b: float = 2.0, gradient: float | None = 3.0) -> None:
    norm = None if gradient is None else torch.tensor(gradient)
    journal.add(1, step, 0.1, 8, torch.tensor([a, b]), norm)


def test_add__on_a_gpu_steps_are_read_together_and_summed(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    journal = make(tmp_path, rows)
    for step in range(1, 31):
        add(journal, step, a=step)
    assert journal.sums.steps == 20
    row = journal.close_epoch(1, 30, 0.05)
    assert row["losses"]["a"] == {"raw": 15.5, "weighted": 15.5}
    assert row["losses"]["b"] == {"raw": 2.0, "weighted": 20.0}
    assert row["loss"] == 35.5
    assert [(each["event"], each["step"], each["grad_norm"]) for each in rows] == [("step", 20, 3.0)]
    assert journal.sums == EpochSums()
    journal.close()


def test_read__names_the_step_that_went_wrong_though_it_is_read_later(tmp_path: Path) -> None:
    journal = make(tmp_path, [])
    add(journal, 1)
    add(journal, 2, b=float("inf"))
    add(journal, 3, a=float("nan"))
    with pytest.raises(EdgeproofError, match="loss 'b' became infinite at step 2, epoch 1"):
        journal.read()
    journal.close()


def test_checked__a_cpu_does_not_wait(tmp_path: Path) -> None:
    bad = [torch.tensor(1.0), torch.tensor(float("nan"))]
    journal = make(tmp_path, [], read_each_step=True)
    with pytest.raises(EdgeproofError, match="loss 'b' became NaN at step 5, epoch 2"):
        journal.checked(2, 5, bad)
    journal.close()
    later = make(tmp_path, [])
    assert later.checked(2, 5, bad).isnan().tolist() == [False, True]
    later.close()


def test_add__a_loss_scaler_deals_with_the_gradient(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    journal = make(tmp_path, rows)
    add(journal, 20, gradient=None)
    assert "grad_norm" not in rows[0]
    journal.close()


def test_write__only_the_first_process_reports(tmp_path: Path) -> None:
    journal = Journal({"a": 1.0}, tmp_path, None, lambda v: v, EpochSums(), 0, read_each_step=True)
    journal.add(1, 20, 0.1, 8, torch.tensor([1.0]), None)
    journal.close()
    assert not list(tmp_path.iterdir())
