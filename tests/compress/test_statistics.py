from __future__ import annotations

from pathlib import Path

import torch
from tests.compress.small_students import make_student, write_images
from torch import nn

from edgeproof_compress.statistics import estimate_statistics
from edgeproof_data.loader import eval_batches


def test_estimate_statistics__are_those_of_the_images(tmp_path: Path) -> None:
    student, pictures = make_student(), write_images(tmp_path)
    first = next(module for module in student.modules() if isinstance(module, nn.BatchNorm2d))
    momentum, weight = first.momentum, first.weight.detach().clone()
    seen: list[torch.Tensor] = []
    handle = first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    assert estimate_statistics(student, pictures, "cpu")
    handle.remove()
    values = torch.cat(seen).transpose(0, 1).flatten(1)
    torch.testing.assert_close(first.running_mean, values.mean(1))
    torch.testing.assert_close(first.running_var, values.var(1))
    assert first.momentum == momentum
    assert torch.equal(first.weight, weight)
    assert not any(module.training for module in student.modules())


def test_estimate_statistics__makes_up_for_scaled_weights(tmp_path: Path) -> None:
    student, pictures = make_student(), write_images(tmp_path)
    estimate_statistics(student, pictures, "cpu")
    image = next(iter(eval_batches(pictures, student.preprocess, batch_size=8)))["image"]
    with torch.no_grad():
        before = student(image).embedding
        for module in student.module().modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(0.5)
        changed = student(image).embedding
        estimate_statistics(student, pictures, "cpu")
        after = student(image).embedding
    assert not torch.allclose(changed, before, atol=0.1)
    torch.testing.assert_close(after, before, atol=2e-3, rtol=2e-3)


def test_estimate_statistics__a_network_without_batch_norms_stays_as_it_is(tmp_path: Path) -> None:
    student = make_student("test_vit", side=160)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    assert not estimate_statistics(student, write_images(tmp_path), "cpu")
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
