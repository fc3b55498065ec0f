from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgeproof_configs.errors import UsageError
from edgeproof_train.ema import Ema
from edgeproof_train.keeper import Keeper
from edgeproof_train.position import Position
from edgeproof_train.student import Student


def head_of(student: Student) -> float:
    return float(student.state_dict()["head.bias"][0])


def keeper(case: Any, folder: Path, figures: list[float], ema: bool = False) -> Keeper:
    """Return a keeper whose evaluation gives these figures one after the other."""
    task, given = case.make_task(model="test_vit"), iter(figures)
    average = Ema(task, 0.5) if ema else None
    return Keeper(
        task, average, folder, lambda student: {"top1": next(given)}, "top1", main=True, compiled=False
    )


def set_head(kept: Keeper, value: float) -> None:
    with torch.no_grad():
        kept.task.student.state_dict()["head.bias"].fill_(value)


def test_evaluate__keeps_the_earliest_best_and_keep_last_the_last(case: Any, tmp_path: Path) -> None:
    kept, at = keeper(case, tmp_path, [0.5, 0.7, 0.7, 0.6]), Position()
    for epoch in (1, 2, 3, 4):
        set_head(kept, epoch)
        at.epoch = epoch
        kept.evaluate(at)
    kept.keep_last()
    assert (at.best_epoch, at.best) == (2, {"top1": 0.7})
    assert head_of(Student.load(tmp_path)) == 2
    assert head_of(Student.load(tmp_path / "last")) == 4


def test_evaluate__averaged_weights_are_kept_and_training_goes_on_with_its_own(
    case: Any, tmp_path: Path
) -> None:
    kept = keeper(case, tmp_path, [0.5], ema=True)
    start = head_of(kept.task.student)
    set_head(kept, 100)
    kept.evaluate(Position(epoch=1))
    assert head_of(Student.load(tmp_path)) == start
    assert head_of(kept.task.student) == 100


def test_evaluate__processes_but_the_first_write_nothing(case: Any, tmp_path: Path) -> None:
    kept = keeper(case, tmp_path, [0.5])
    kept.evaluate(Position(epoch=1))
    other = Keeper(kept.task, None, tmp_path / "other", kept.score, "top1", main=False, compiled=False)
    other.keep_last()
    assert not (tmp_path / "other").exists()


def test_evaluate__a_figure_that_is_not_there(case: Any, tmp_path: Path) -> None:
    kept = keeper(case, tmp_path, [0.5])
    kept.select = "cosine_mean"
    with pytest.raises(UsageError, match="'cosine_mean' chooses the best epoch, but evaluation gives top1"):
        kept.evaluate(Position(epoch=1))
