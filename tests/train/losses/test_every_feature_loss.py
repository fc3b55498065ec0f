"""What holds for every registered loss that compares feature maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from edgeproof_configs.registry import component_class, discover
from edgeproof_train.feature_loss import FeatureLoss
from edgeproof_train.loss import Loss, LossContext, check_needs
from edgeproof_train.outputs import ModelOutputs, StepOutputs

KINDS = [
    *(kind for kind, found in discover("loss").items() if issubclass(found, FeatureLoss)),
    "relational",
]
LEARNT = {"masked_generative": 6, "hint": 2, "simkd": 9}
ONE_PAIR = [{"student": "s", "teacher": "t"}]


def settings(kind: str) -> dict[str, Any]:
    """Nothing is hidden at random, so that a value can be compared with another one."""
    return {"mask_ratio": 0.0} if kind == "masked_generative" else {}


def test_discover__finds_them() -> None:
    expected = {"attention_transfer", "similarity_preserving", "masked_generative", "hint", "simkd"}
    assert expected < set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_forward__gradcheck_with_a_resize(
    kind: str, feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 3, 1, 4, 4).double().requires_grad_(), maps(2, 3, 2, 2, 2).double()
    loss = feature_loss(kind, student, teacher).double()

    def evaluate(features: Tensor) -> Tensor:
        torch.manual_seed(0)
        return of_maps(loss, features, teacher)

    assert torch.autograd.gradcheck(evaluate, (student,))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_forward__half_precision_maps_of_a_real_size(
    kind: str, dtype: torch.dtype, feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    # Up to about 1,000: squares are above what float16 can hold, and so is each sum over a map.
    student = (250 * maps(1, 4, 64, 7, 7)).to(dtype).requires_grad_()
    teacher = (250 * maps(2, 4, 32, 7, 7)).to(dtype)
    loss = feature_loss(kind, student, teacher, **settings(kind))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = of_maps(loss, student, teacher)
    result.backward()
    full = of_maps(loss, student.detach().float(), teacher.float())
    assert result.dtype == torch.float32
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.abs().sum() > 0
    torch.testing.assert_close(result.detach(), full.detach(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_forward__no_gradient_to_the_teacher(
    kind: str, feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 4, 3, 4, 4).requires_grad_(), maps(2, 4, 6, 2, 2).requires_grad_()
    of_maps(feature_loss(kind, student, teacher), student, teacher).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("student_side", "teacher_side"), [(8, 4), (4, 8)])
def test_forward__the_larger_map_is_averaged_down(
    kind: str,
    student_side: int,
    teacher_side: int,
    feature_loss: Callable[..., Loss],
    of_maps: Any,
    maps: Any,
) -> None:
    # Each value of a small map stands four times in the large one, whose averages it therefore is.
    student, teacher = maps(1, 3, 2, 4, 4), maps(2, 3, 4, 4, 4)
    loss = feature_loss(kind, student, teacher, **settings(kind)).eval()
    expected = of_maps(loss, student, teacher)
    if student_side > 4:
        student = student.repeat_interleave(2, 2).repeat_interleave(2, 3)
    if teacher_side > 4:
        teacher = teacher.repeat_interleave(2, 2).repeat_interleave(2, 3)
    other = feature_loss(kind, student, teacher, **settings(kind)).eval()
    other.load_state_dict(loss.state_dict())
    torch.testing.assert_close(of_maps(other, student, teacher), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "relational"])
def test_forward__doubling_the_batch_changes_nothing(
    kind: str, feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 4, 3, 4, 4), maps(2, 4, 6, 4, 4)
    loss = feature_loss(kind, student, teacher, **settings(kind))
    once, twice = (of_maps(loss, student.repeat(n, 1, 1, 1), teacher.repeat(n, 1, 1, 1)) for n in (1, 2))
    factor = 2 if kind == "similarity_preserving" else 1
    # A row of similarities of a doubled batch is as long again by sqrt 2, so its values are smaller by that.
    torch.testing.assert_close(once, factor * twice)


@pytest.mark.parametrize("kind", KINDS)
def test_forward__another_number_of_images_is_refused(
    kind: str, feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 4, 3, 4, 4), maps(2, 3, 6, 4, 4)
    with pytest.raises(ValueError, match=r"\(4, 3, 4, 4\) at 's'.*\(3, 6, 4, 4\) at 't'"):
        of_maps(feature_loss(kind, student, teacher), student, teacher)


@pytest.mark.parametrize("kind", KINDS)
def test_build__what_is_learnt_belongs_to_the_loss(
    kind: str, feature_loss: Callable[..., Loss], of_maps: Any, maps: Any
) -> None:
    student, teacher = maps(1, 4, 3, 4, 4), maps(2, 4, 6, 4, 4)
    loss = feature_loss(kind, student, teacher)
    own = dict(loss.named_parameters())
    assert len(own) == LEARNT.get(kind, 0)
    assert set(own) <= set(loss.state_dict())
    of_maps(loss, student.requires_grad_(), teacher).backward()
    assert all(parameter.grad is not None for parameter in own.values())


@pytest.mark.parametrize("kind", KINDS)
def test_needs_of__names_the_nodes(kind: str, feature_loss: Callable[..., Loss], maps: Any) -> None:
    student, teacher = maps(1, 4, 3, 4, 4), maps(2, 4, 6, 4, 4)
    loss = feature_loss(kind, student, teacher)
    assert type(loss).needs_of(loss.config) == ("student.features[s]", "teacher.features[t]")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([], "at least 1"),
        ([*ONE_PAIR, *ONE_PAIR], "stands there twice"),
        ({"s": "t"}, r"a list of pairs, such as \[\{student: blocks.4, teacher: layer3\}\], got a mapping"),
        ([{"student": "", "teacher": "t"}], "at least 1"),
    ],
)
def test_config__bad_nodes_are_refused(kind: str, nodes: Any, message: str) -> None:
    component: Any = component_class("loss", kind)
    with pytest.raises(ValidationError, match=message):
        component.Config(nodes=nodes)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "simkd"])
def test_forward__several_pairs_are_summed(kind: str, make_loss: Callable[..., Loss], maps: Any) -> None:
    student, teacher = ({name: maps(ord(name), 4, 3, 4, 4) for name in names} for names in ("ab", "cd"))
    shapes = dict.fromkeys("abcd", (3, 4, 4))
    context = LossContext(8, 8, student_features=shapes, teacher_features=shapes)
    pairs = [{"student": "a", "teacher": "c"}, {"student": "b", "teacher": "d"}]
    extra = {"hint": {"regressor": "none"}}.get(kind, settings(kind))
    both = make_loss(kind, context, nodes=pairs, **extra)
    check_needs({kind: type(both).needs_of(both.config)}, context)
    outputs = StepOutputs(ModelOutputs(features=student), ModelOutputs(features=teacher))
    parts = []
    for index, pair in enumerate(pairs):
        one = make_loss(kind, context, nodes=[pair], **extra)
        # `generators.1.2.weight` of the loss of both is `generators.0.2.weight` of the second one's.
        named = ((name.split(".", 2), value) for name, value in both.state_dict().items())
        one.load_state_dict({f"{part}.0.{rest}": v for (part, i, rest), v in named if i == str(index)})
        parts.append(one(outputs))
    assert all(part.item() > 0 for part in parts)
    torch.testing.assert_close(both(outputs), torch.stack(parts).sum())
