from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeproof_configs.schema import AugmentConfig
from edgeproof_data.draws import uniforms
from edgeproof_data.policies import Policy, seed_of

FILL = [51.0, 102.0, 153.0]
POLICIES: list[dict[str, Any]] = [
    {"policy": "auto_augment"},
    {"policy": "rand_augment"},
    {"policy": "rand_augment", "policy_magnitude": 20, "policy_operations": 3},
    {"policy": "trivial_augment"},
    {"policy": "aug_mix"},
    {"policy": "aug_mix", "policy_magnitude": 7},
]
DRAWS = uniforms(3, 0, np.arange(20), 1)[:, 0].tolist()


def photo() -> Tensor:
    """Return smooth colours, so that every change shows."""
    down, across = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
    return torch.stack([5 * down + 60, 7 * across + 20, 200 - 4 * (down + across)]).to(torch.uint8)


def changed(settings: dict[str, Any]) -> list[Tensor]:
    policy = Policy(AugmentConfig(**settings), FILL)
    return [policy(photo(), draw) for draw in DRAWS]


@pytest.mark.parametrize("settings", POLICIES)
def test_policy__is_torchvisions_after_seeding_and_leaves_every_shared_generator_alone(
    settings: dict[str, Any],
) -> None:
    policy = Policy(AugmentConfig(**settings), FILL)
    torch.manual_seed(7)
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    images = [policy(photo(), draw) for draw in DRAWS]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert before[2] == str(np.random.get_state())
    for draw, image in zip(DRAWS, images, strict=True):
        torch.manual_seed(seed_of(draw))
        assert torch.equal(policy.change(photo()), image)


@pytest.mark.parametrize("settings", POLICIES)
def test_policy__changes_most_images_each_in_its_own_way(settings: dict[str, Any]) -> None:
    images = changed(settings)
    assert all(image.shape == (3, 24, 24) and image.dtype == torch.uint8 for image in images)
    assert len({image.numpy().tobytes() for image in images}) > 9


def test_policy__magnitude_and_operations_have_an_effect() -> None:
    rand = ({"policy_operations": 1}, {"policy_operations": 3}, {"policy_magnitude": 0}, {})
    images = [changed({"policy": "rand_augment"} | settings) for settings in rand]
    images += [changed({"policy": "aug_mix", "policy_magnitude": severity}) for severity in (1, 10)]
    seen = [torch.stack(each).numpy().tobytes() for each in images]
    assert len(set(seen)) == len(seen)


def test_policy__what_is_uncovered_has_the_mean_colour() -> None:
    policy = Policy(AugmentConfig(policy="trivial_augment"), FILL)
    white = torch.full((3, 24, 24), 255, dtype=torch.uint8)
    corners = torch.stack([policy(white, draw)[:, 0, 0] for draw in DRAWS])
    assert (corners == torch.tensor([51, 102, 153])).all(dim=1).any()


@pytest.mark.parametrize("settings", POLICIES[:4])
def test_policy__same_in_threads_beside_a_process_that_draws(settings: dict[str, Any]) -> None:
    policy = Policy(AugmentConfig(**settings), FILL)
    alone = changed(settings)
    torch.manual_seed(1)
    undisturbed = torch.rand(2000)
    torch.manual_seed(1)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(policy, photo(), draw) for draw in DRAWS]
        drawn = torch.cat([torch.rand(1) for _ in range(2000)])
        together = [result.result() for result in waiting]
    assert torch.equal(drawn, undisturbed)
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_policy__none_asked_for() -> None:
    with pytest.raises(ValueError, match="no policy"):
        Policy(AugmentConfig(), FILL)


def test_seed_of__different_draws_different_seeds() -> None:
    assert len({seed_of(draw) for draw in DRAWS}) == len(DRAWS)
    assert seed_of(0.0) == 0
    assert seed_of(1 - 2.0**-53) == 2**53 - 1
