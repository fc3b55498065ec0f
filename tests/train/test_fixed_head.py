from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from edgeproof_configs.errors import DataError, EdgeproofError
from edgeproof_train.fixed_head import FixedHead, chunk_classes, head_losses, read_classifier

BATCH, DIM, CLASSES = 6, 5, 23
TEMPERATURE, SCALE, MARGIN = 3.0, 8.0, 1.6
LABEL = torch.tensor([0, 22, -1, 7, 6, 7])
CASES = [("cosine", False), ("linear", False), ("linear", True)]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(form: str, bias: bool, dtype: torch.dtype) -> tuple[FixedHead, Tensor, Tensor]:
    """Return a head and the features of student and teacher."""
    weight = drawn(1, CLASSES, DIM).to(dtype)
    features = 2 * drawn(2, 2, BATCH, DIM).to(dtype)
    if form == "cosine":
        student, teacher = F.normalize(features, dim=-1)
        return FixedHead.of_cosines(weight, SCALE), student, teacher
    student, teacher = features
    return FixedHead(weight, drawn(3, CLASSES).to(dtype) if bias else None), student, teacher


def dense_scores(head: FixedHead, features: Tensor) -> Tensor:
    gain = 1.0 if head.gain is None else SCALE / head.weight.norm(dim=1)
    return features @ head.weight.T * gain + (0.0 if head.bias is None else head.bias)


def dense(head: FixedHead, student: Tensor, teacher: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Return the same losses by torch's own functions."""
    said, told = dense_scores(head, student), dense_scores(head, teacher)
    own = F.one_hot(LABEL.clamp_min(0), CLASSES).to(student.dtype)
    entropy = F.cross_entropy(said - margin * own, LABEL, ignore_index=-1, reduction="none")
    said_log, told_log = (F.log_softmax(scores / TEMPERATURE, dim=1) for scores in (said, told))
    return entropy, F.kl_div(said_log, told_log, reduction="none", log_target=True).sum(dim=1)


def streamed(head: FixedHead, student: Tensor, teacher: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
    return head_losses(student, head, teacher_BD=teacher, label_B=LABEL, temperature=TEMPERATURE, **settings)


def with_gradient(losses: Any, student: Tensor) -> list[Tensor]:
    """Return both losses and the gradient of a mix of them with another factor for each image."""
    student = student.clone().requires_grad_()
    entropy, divergence = losses(student)
    factors = torch.linspace(0.5, 2.0, BATCH, dtype=student.dtype)
    (factors * entropy + 3 * factors.flip(0) * divergence).sum().backward()
    assert student.grad is not None
    return [entropy.detach(), divergence.detach(), student.grad]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("chunk", [1, 7, CLASSES, None])
@pytest.mark.parametrize(("form", "bias"), CASES)
def test_head_losses__equal_the_dense_ones(
    form: str, bias: bool, chunk: int | None, dtype: torch.dtype, tolerance: float
) -> None:
    head, student, teacher = problem(form, bias, dtype)
    ours = with_gradient(lambda x: streamed(head, x, teacher, margin=MARGIN, chunk=chunk), student)
    theirs = with_gradient(lambda x: dense(head, x, teacher, MARGIN), student)
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert ours[0][2] == 0


@pytest.mark.parametrize(("form", "bias"), CASES)
def test_head_losses__gradcheck(form: str, bias: bool) -> None:
    head, student, teacher = problem(form, bias, torch.float64)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: streamed(head, x, teacher, margin=MARGIN, chunk=4), (student,))


def test_head_losses__one_part_alone() -> None:
    head, student, teacher = problem("cosine", False, torch.float64)
    both = streamed(head, student, teacher, chunk=9)
    entropy, nothing = head_losses(student, head, label_B=LABEL, chunk=9)
    torch.testing.assert_close(entropy, both[0])
    assert not nothing.any()
    nothing, divergence = head_losses(student, head, teacher_BD=teacher, temperature=TEMPERATURE, chunk=9)
    torch.testing.assert_close(divergence, both[1])
    assert not nothing.any()


def test_head_losses__zero_divergence_of_equals() -> None:
    head, student, _ = problem("linear", True, torch.float32)
    assert not streamed(head, student, student, chunk=4)[1].any()


def test_head_losses__large_scores_do_not_overflow() -> None:
    head, student, teacher = problem("linear", True, torch.float32)
    ours = with_gradient(lambda x: streamed(head, x, 1e3 * teacher, chunk=4), 1e3 * student)
    assert all(part.isfinite().all() for part in ours)
    assert head.bias is not None
    wide = FixedHead(head.weight.double(), head.bias.double())
    expected = dense(wide, 1e3 * student.double(), 1e3 * teacher.double(), 0.0)
    torch.testing.assert_close(ours[0].double(), expected[0], rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(ours[1].double(), expected[1], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("form", ["cosine", "linear"])
def test_head_losses__half_precision_weights_are_summed_in_float32(form: str) -> None:
    head, student, teacher = problem(form, False, torch.float32)
    half = head.weight.half()
    ours = FixedHead.of_cosines(half, SCALE) if form == "cosine" else FixedHead(half)
    wide = half.float()
    reference = FixedHead.of_cosines(wide, SCALE) if form == "cosine" else FixedHead(wide)
    found = with_gradient(lambda x: streamed(ours, x, teacher, chunk=5), student)
    expected = with_gradient(lambda x: streamed(reference, x, teacher, chunk=5), student)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    widened = head_losses(student.bfloat16(), ours, label_B=LABEL)[0]
    assert widened.dtype == torch.float32


def test_head_losses__gradient_to_the_student_alone() -> None:
    head, student, teacher = problem("linear", True, torch.float32)
    assert head.bias is not None
    for tensor in (student, teacher, head.weight, head.bias):
        tensor.requires_grad_()
    sum(part.sum() for part in streamed(head, student, teacher)).backward()  # pyright: ignore[reportAttributeAccessIssue]
    assert student.grad is not None
    assert (teacher.grad, head.weight.grad, head.bias.grad) == (None, None, None)


def test_head_losses__a_label_that_is_no_class_is_not_passed_over() -> None:
    head, student, _ = problem("linear", False, torch.float32)
    entropy = head_losses(student, head, label_B=LABEL + 1)[0]
    assert entropy.isnan().tolist() == [False, True, False, False, False, False]


def test_head_losses__features_of_another_width() -> None:
    head, student, teacher = problem("linear", False, torch.float32)
    with pytest.raises(ValueError, match=r"student: .*\(6, 5\).*\(23, 5\), got \(6, 4\)"):
        head_losses(student[:, :4], head)
    with pytest.raises(ValueError, match=r"teacher: .*got \(5, 5\)"):
        head_losses(student, head, teacher_BD=teacher[:5])


class Largest(TorchDispatchMode):
    """Remembers the most values of any tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in made if isinstance(made, tuple | list) else (made,):
            if isinstance(value, Tensor) and not value._is_view():
                self.values = max(self.values, value.numel())
        return made


@pytest.mark.parametrize("form", ["cosine", "linear"])
@pytest.mark.parametrize("chunk", [10, 40])
def test_head_losses__nothing_grows_with_the_classes(form: str, chunk: int) -> None:
    batch, dim, classes = 32, 16, 400
    weight = torch.randn(classes, dim).half()
    head = FixedHead.of_cosines(weight, SCALE) if form == "cosine" else FixedHead(weight)
    student = torch.randn(batch, dim, requires_grad=True)
    label = torch.arange(batch)
    with Largest() as plain:
        scores = dense_scores(FixedHead(weight.float()), student)
        F.cross_entropy(scores, label).backward()
    assert plain.values >= batch * classes
    with Largest() as ours:
        entropy, divergence = head_losses(
            student, head, teacher_BD=torch.randn(batch, dim), label_B=label, chunk=chunk
        )
        (entropy + divergence).sum().backward()
    assert ours.values == batch * max(chunk, dim)


def test_chunk_classes__bounds_scores_and_rows() -> None:
    assert chunk_classes(1000, 64, 512) == 1000
    assert chunk_classes(252_903, 256, 1024) == 4096
    assert chunk_classes(252_903, 8192, 1024) == 512


def test_of_cosines__a_row_without_direction() -> None:
    weight = torch.ones(5, 3)
    weight[3] = 0
    with pytest.raises(DataError, match=r"1 of 5 rows .* row 3"):
        FixedHead.of_cosines(weight, 1.0)


def test_read_classifier__npy_and_safetensors(tmp_path: Path) -> None:
    rows = drawn(0, 4, 3).half()
    np.save(tmp_path / "w.npy", rows.numpy())
    weight, bias = read_classifier(tmp_path / "w.npy")
    assert weight.dtype == torch.float16
    assert torch.equal(weight, rows)
    assert bias is None
    save_file({"head.fc.weight": rows, "head.fc.bias": torch.arange(4.0)}, tmp_path / "w.safetensors")
    weight, bias = read_classifier(tmp_path / "w.safetensors")
    assert torch.equal(weight, rows)
    assert bias is not None
    assert bias.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "tensors",
    [
        {"a": torch.zeros(4, 3), "b": torch.zeros(3, 3)},
        {"weight": torch.zeros(4, 3), "bias": torch.zeros(3)},
        {"weight": torch.zeros(4, 3), "conv": torch.zeros(1, 3, 3, 3)},
        {"bias": torch.zeros(3)},
    ],
)
def test_read_classifier__something_else(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"expected a weight \(K, D\)"):
        read_classifier(tmp_path / "w.safetensors")


def test_read_classifier__a_pickle_is_not_opened(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(4, 3)}, tmp_path / "w.pt")
    with pytest.raises(EdgeproofError, match="is a pickle"):
        read_classifier(tmp_path / "w.pt")
