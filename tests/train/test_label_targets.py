from __future__ import annotations

import torch
from torch import Tensor

from edgeproof_train.label_targets import label_targets, mean_over
from edgeproof_train.outputs import Mix, ModelOutputs, StepOutputs


def outputs(label: list[int], mix: Mix | None = None) -> StepOutputs:
    return StepOutputs(ModelOutputs(), label=torch.tensor(label), mix=mix)


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def test_label_targets__by_hand() -> None:
    target, labelled = label_targets(outputs([2, -1, 0]), 4)
    torch.testing.assert_close(target[[0, 2]], rows([0, 0, 1, 0], [1, 0, 0, 0]))
    assert labelled.tolist() == [True, False, True]


def test_label_targets__smoothed_by_hand() -> None:
    target, _ = label_targets(outputs([2]), 4, smoothing=0.2)
    torch.testing.assert_close(target, rows([0.05, 0.05, 0.85, 0.05]))


def test_label_targets__mixed_by_hand() -> None:
    mix = Mix(torch.tensor([0, 1, 3]), torch.tensor([0.75, 0.5, 1.0]))
    target, labelled = label_targets(outputs([2, 1, 0], mix), 4)
    torch.testing.assert_close(target, rows([0.25, 0, 0.75, 0], [0, 1, 0, 0], [1, 0, 0, 0]))
    assert labelled.all()


def test_label_targets__mixed_then_smoothed_sums_to_one() -> None:
    mix = Mix(torch.tensor([0, 1, 3]), torch.tensor([0.7, 0.5, 0.1]))
    target, _ = label_targets(outputs([2, 0, 0], mix), 4, smoothing=0.1)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(target[0], torch.tensor([0.295, 0.025, 0.655, 0.025]))


def test_label_targets__a_part_without_a_label_makes_the_image_unknown() -> None:
    mix = Mix(torch.tensor([1, -1, -1, 2]), torch.tensor([0.5, 0.5, 1.0, 0.0]))
    _, labelled = label_targets(outputs([-1, 2, 3, -1], mix), 4)
    assert labelled.tolist() == [False, False, True, True]


def test_mean_over__left_out_values_do_not_matter() -> None:
    cost = torch.tensor([1.0, torch.nan, 5.0], requires_grad=True)
    mean = mean_over(cost, torch.tensor([True, False, True]))
    mean.backward()
    assert mean.item() == 3
    assert cost.grad is not None
    assert cost.grad.tolist() == [0.5, 0, 0.5]
    assert mean_over(cost, torch.zeros(3, dtype=torch.bool)).item() == 0
