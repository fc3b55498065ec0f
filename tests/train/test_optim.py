from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from edgeproof_configs.schema import TrainConfig
from edgeproof_train.optim import learning_rate_scale, make_optimizer, set_learning_rate


def config(**settings: Any) -> TrainConfig:
    return TrainConfig.model_validate({"epochs": 2, "lr": 0.1, "weight_decay": 0.5} | settings)


def test_make_optimizer__biases_and_norms_are_not_decayed(case: Any) -> None:
    task = case.make_task()
    decayed = {
        id(parameter)
        for group in make_optimizer(task, config()).param_groups
        if group["weight_decay"]
        for parameter in group["params"]
    }
    for name, parameter in task.named_parameters():
        assert (id(parameter) in decayed) == (parameter.ndim > 1), name


def test_make_optimizer__holds_everything_that_is_trained_once(case: Any) -> None:
    task = case.make_task()
    held = [p for group in make_optimizer(task, config()).param_groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(task.parameters()))
    assert any(p is task.losses["text_cross_entropy"].log_scale for p in held)


def test_make_optimizer__the_backbone_has_its_own_rate(case: Any) -> None:
    task = case.make_task()
    optimizer = make_optimizer(task, config(backbone_lr_scale=0.1))
    set_learning_rate(optimizer, 0.02)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    slow = {rates[id(p)] for _, p in task.student.backbone_parameters()}
    assert list(slow) == pytest.approx([0.002])
    assert {rates[id(p)] for _, p in task.student.head_parameters()} == {0.02}


def test_make_optimizer__a_scale_of_zero_freezes_the_backbone(case: Any) -> None:
    task = case.make_task()
    held = make_optimizer(task, config(backbone_lr_scale=0)).param_groups
    assert not any(p.requires_grad for _, p in task.student.backbone_parameters())
    assert sum(len(group["params"]) for group in held) == 3


@pytest.mark.parametrize(("name", "kind"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_make_optimizer__kinds(name: str, kind: str, case: Any) -> None:
    assert type(make_optimizer(case.make_task(), config(optimizer=name))).__name__ == kind


def test_learning_rate_scale__rises_then_falls_to_its_end() -> None:
    scales = [learning_rate_scale(step, 100, 10, 0.01) for step in range(101)]
    assert scales[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert scales[10] == 1
    assert scales[55] == pytest.approx(0.01 + 0.99 * 0.5)
    assert scales[100] == pytest.approx(0.01)
    assert all(a > b for a, b in itertools.pairwise(scales[10:]))


def test_learning_rate_scale__matches_torch_without_warm_up() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.05)
    for step in range(40):
        assert learning_rate_scale(step, 40, 0, 0.05) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert math.isclose(optimizer.param_groups[0]["lr"], 0.05)
