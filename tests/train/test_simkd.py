from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import timm
import torch
from torch import Tensor, nn

from edgeproof_configs.errors import UsageError
from edgeproof_train.loss import LossContext
from edgeproof_train.losses.cross_entropy import CrossEntropy
from edgeproof_train.losses.simkd import SimKD
from edgeproof_train.outputs import ModelOutputs
from edgeproof_train.simkd import PROJECTED, Projector, ReusedHead, check_reusable
from edgeproof_train.student import Student
from edgeproof_train.students.timm import TimmStudent
from edgeproof_train.task import DistillTask


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def teacher() -> Any:
    torch.manual_seed(0)
    return timm.create_model("resnet10t", num_classes=5).eval()


def nearly_identity(channels: int, size: tuple[int, int]) -> Projector:
    """A projector that gives back a map of values of at least 0."""
    projector = Projector(channels, channels, size, factor=1).eval()
    for part in projector.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.dirac_(part.weight)
        elif isinstance(part, nn.BatchNorm2d):
            part.eps = 0.0
    return projector


class Maps:
    """A teacher's last map and class scores."""

    embedding_dim = 5

    def __init__(self, teacher: Any) -> None:
        self.teacher = teacher

    def __call__(self, batch: Any) -> ModelOutputs:
        with torch.no_grad():
            found, scores = self.teacher.forward_features(batch["image"]), self.teacher(batch["image"])
        return ModelOutputs(scores, scores, {"layer4": found})


def simkd_task(teacher: Any) -> tuple[Any, ReusedHead]:
    """Return the task of a student that reuses the teacher's classifier, and that head of the student."""
    torch.manual_seed(1)
    student = TimmStudent(TimmStudent.Config(model="test_resnet", image_size=64), 5)
    student.classes = tuple("abcde")
    context = LossContext(
        *(5, 5, 5, None, None, True),
        student_features={"layer4": (96, 2, 2)},
        teacher_features={"layer4": (512, 2, 2)},
        teacher_head=teacher.get_classifier(),
    )
    nodes = [{"student": "layer4", "teacher": "layer4"}]
    configs = [CrossEntropy.Config(), SimKD.Config.model_validate({"nodes": nodes})]
    task = DistillTask(student, configs, context, Maps(teacher))
    loss: Any = task.losses["simkd"]
    head = loss.reused_head(copy.deepcopy(teacher.get_classifier()).requires_grad_(False))
    student.reuse_head(head, "layer4")
    return task, head


def test_reused_head__on_the_teachers_own_map_gives_its_scores(teacher: Any, image: Tensor) -> None:
    head = ReusedHead(nearly_identity(512, (2, 2)), teacher.get_classifier())
    torch.testing.assert_close(head(teacher.forward_features(image)), teacher(image))


@pytest.mark.parametrize("inputs", [(24, 8, 8), (24, 2, 2)])
def test_projector__a_map_of_the_common_size(inputs: tuple[int, int, int]) -> None:
    side = min(inputs[1], 4)
    projector = Projector(24, 32, (side, side))
    features = torch.randn(3, *inputs)
    assert projector(features).shape == (3, 32, side, side)
    assert projector(features).min() >= 0


def test_reused_head__is_copied_and_exported(image: Tensor) -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=16), nn.ReLU())
    # The student's map is 4 x 4: 3 x 3 means that overlap.
    head = ReusedHead(Projector(8, 6, (3, 3)), nn.Linear(6, 5))
    student = copy.deepcopy(nn.Sequential(backbone, head)).eval()
    with torch.no_grad():
        expected = student(image)
    program = torch.onnx.export(
        *(student, (image,)),
        dynamo=True,
        opset_version=18,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto.SerializeToString()
    session: Any = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = session.run(["logits"], {"image": image[:1].numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), expected[:1], rtol=1e-4, atol=1e-5)


def test_check_reusable__the_last_map_is_accepted_as_it_was(teacher: Any, image: Tensor) -> None:
    teacher.train().layer1.eval()
    modes = [part.training for part in teacher.modules()]
    check_reusable(teacher, "layer4", teacher.get_classifier(), image[:1])
    assert [part.training for part in teacher.modules()] == modes
    assert not any(part._forward_hooks for part in teacher.modules())


def test_check_reusable__another_way_to_the_scores_is_refused(image: Tensor) -> None:
    torch.manual_seed(0)
    # ConvNeXt norms the means before its classifier reads them; its map also goes below 0.
    network: Any = timm.create_model("convnext_atto", num_classes=5, depths=(1, 1, 1, 1), dims=(8, 8, 8, 8))
    with pytest.raises(UsageError, match="not its classifier on the mean"):
        check_reusable(network, "stages.3", network.get_classifier(), image[:1])


def test_check_reusable__values_below_zero_need_a_projector_without_the_last_relu(image: Tensor) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    classifier: Any = network[3]
    with pytest.raises(UsageError, match="last_relu: false"):
        check_reusable(network, "0", classifier, image[:1])
    check_reusable(network, "0", classifier, image[:1], last_relu=False)


def test_task__a_step_runs_the_projector_once_and_trains_it(image: Tensor, teacher: Any) -> None:
    task, head = simkd_task(teacher)
    calls: list[Any] = []
    head.projector.register_forward_hook(lambda module, args, output: calls.append(output))
    batch: Any = {"image": image, "label": torch.tensor([0, 1]), "index": torch.tensor([0, 1])}
    losses = task(batch)
    assert len(calls) == 1
    target = teacher.forward_features(image)
    torch.testing.assert_close(losses["simkd"], nn.functional.mse_loss(calls[0], target))
    scores = head.classifier(calls[0].mean(dim=(2, 3)))
    expected = nn.functional.cross_entropy(scores, batch["label"])
    torch.testing.assert_close(losses["cross_entropy"], expected)
    losses["simkd"].backward()
    trained = [*head.projector.parameters(), next(task.student.backbone.parameters())]
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in trained)
    assert head.classifier.weight.grad is None


def test_student__saved_and_loaded_it_gives_the_projected_map_too(
    image: Tensor, teacher: Any, tmp_path: Path
) -> None:
    task, head = simkd_task(teacher)
    task.student.save(tmp_path)
    task.eval()
    with torch.no_grad():
        found, again = task.student(image), Student.load(tmp_path)(image)
    torch.testing.assert_close(found.features[PROJECTED], head.projector(task.student.last_map(image)))
    torch.testing.assert_close(again.features[PROJECTED], found.features[PROJECTED])
    torch.testing.assert_close(again.logits, head(task.student.last_map(image)))
