from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from edgeproof_deploy.export import export_onnx
from edgeproof_train.architectures.cifar_resnet import CifarResNet, halved
from edgeproof_train.architectures.resnet12_wide import ResNet12Wide
from edgeproof_train.student import Student
from edgeproof_train.students.timm import TimmStudent
from edgeproof_train.teacher import TeacherPlaces
from edgeproof_train.teachers.timm import TimmTeacher

CIFAR = ("cifar_resnet8", "cifar_resnet20", "cifar_resnet56")
WIDE = ("resnet12_wide", "swin_tiny_wide")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


NARROW: dict[str, Any] = {
    **{"embed_dim": 16, "depths": [2, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
    "window_size": 4,  # of 8 x 8 patches at 32 pixels, so that windows are shifted
}


def student_of(model: str, **arguments: Any) -> TimmStudent:
    torch.manual_seed(0)
    return TimmStudent(TimmStudent.Config(model=model, image_size=32, kwargs=arguments), 12)


def images(count: int = 3, side: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("model", "parameters", "width", "maps"),
    [
        ("cifar_resnet20", 269_722 - 650, 64, (64, 8, 8)),
        ("cifar_resnet56", 853_018 - 650, 64, (64, 8, 8)),
        ("resnet12_wide", 32_051_008, 1024, (1024, 12, 12)),
        ("swin_tiny_wide", 48_899_740, 1024, (12, 12, 1024)),
    ],
)
def test_create_model__size_and_maps(
    model: str, parameters: int, width: int, maps: tuple[int, int, int]
) -> None:
    with torch.device("meta"):
        network: Any = timm.create_model(model, num_classes=0)
        found = network.forward_features(torch.zeros(1, *network.pretrained_cfg["input_size"]))
    assert sum(value.numel() for value in network.parameters()) == parameters
    assert network.num_features == network.head_hidden_size == width
    assert found.shape == (1, *maps)


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        (CIFAR[0], {}),
        ("swin_tiny_wide", NARROW),
        *(pytest.param(model, {}, marks=pytest.mark.slow) for model in WIDE),
    ],
)
def test_student__is_saved_loaded_and_exported(model: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    student = student_of(model, **arguments)
    with torch.no_grad():
        for _ in range(3):
            student(images(8))  # moves the running statistics of batch norms away from their start
        student.eval().save(tmp_path)
        expected = student(images()).embedding
        assert torch.equal(Student.load(tmp_path)(images()).embedding, expected)
    path = tmp_path / "model.onnx"
    export_onnx(student, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    exported = np.asarray(session.run(None, {"image": images().numpy()})[0])
    np.testing.assert_allclose(exported, expected.numpy(), atol=2e-4)


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        (CIFAR[0], {}),
        ("swin_tiny_wide", {"img_size": 64, "embed_dim": 32}),
        pytest.param("resnet12_wide", {}, marks=pytest.mark.slow),
    ],
)
def test_teacher__embedding_stands_before_the_classifier(
    model: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    reference: Any = timm.create_model(model, num_classes=7, **arguments).eval()
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    config = TimmTeacher.Config(model=model, weights=str(tmp_path), kwargs=arguments)
    teacher = TimmTeacher(config, TeacherPlaces())
    image = images(2, 64)
    with torch.no_grad():
        logits = reference(image)
    reference.reset_classifier(0)
    with torch.no_grad():
        features = reference(image)
    assert (teacher.embedding_dim, teacher.num_classes) == (features.shape[1], 7)
    torch.testing.assert_close(teacher.encode_image(image), features)
    torch.testing.assert_close(teacher.encode_logits(image), logits)


@pytest.mark.parametrize("model", [CIFAR[0], WIDE[0]])
def test_reset_classifier__takes_it_off_and_puts_another_on(model: str) -> None:
    network: Any = timm.create_model(model, num_classes=0)
    assert isinstance(network.get_classifier(), nn.Identity)
    network.reset_classifier(5, "max")
    assert network.num_classes == 5
    features = network.eval().forward_head(network.forward_features(images()), pre_logits=True)
    torch.testing.assert_close(features, network.forward_features(images()).amax(dim=(2, 3)))
    assert network(images()).shape == (3, 5)


def test_halved__option_a() -> None:
    maps = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    found = halved(maps, 4)
    assert found.shape == (1, 4, 2, 2)
    assert not found[:, [0, 3]].any()
    assert found[0, 1].tolist() == [[0, 2], [8, 10]]
    assert found[0, 2].tolist() == [[16, 18], [24, 26]]


def test_resnet12_wide__drops_in_training_only() -> None:
    torch.manual_seed(0)
    network = ResNet12Wide(num_classes=0)
    maps = torch.ones(2, 8, 12, 12)
    assert torch.equal(network.eval().layer3.drop(maps), maps)
    network.train()
    pieces = network.layer3.drop(maps)
    gone = pieces == 0
    assert 0 < gone.float().mean() < 0.4
    # Squares of 5 x 5 leave no lonely hole: each has a neighbour that is a hole too.
    beside = nn.functional.max_pool2d(gone.float(), (1, 3), 1, (0, 1)).bool()
    assert (gone.float().sum(dim=-1)[gone.any(dim=-1)] >= 3).all()
    assert (beside & ~gone).any()
    shares = [(getattr(network, f"layer{n}").drop(torch.ones(9999)) == 0).float().mean() for n in (1, 2)]
    assert shares == pytest.approx([0.1, 0.1], abs=0.02)


def test_cifar_resnet__drops_pooled_features_if_asked() -> None:
    network = CifarResNet(1, num_classes=0, drop_rate=0.5)
    assert (network(images(8)) == 0).float().mean() > 0.2
    assert "drop_rate" not in str(CifarResNet(1).state_dict().keys())


@pytest.mark.parametrize(("model", "accuracy"), [("resnet20", 0.8103), ("resnet56", 0.8320)])
def test_cifar_resnet__published_weights(model: str, accuracy: float, real_data: Path) -> None:
    """They fit to the last tensor, and reach on 500 photos about what they reach on all."""
    weights = real_data / "cifar10_resnets" / f"{model}.safetensors"
    network = timm.create_model(f"cifar_{model}")
    network.load_state_dict(load_file(weights), strict=True)
    config = TimmTeacher.Config(model=f"cifar_{model}", weights=str(weights))
    teacher = TimmTeacher(config, TeacherPlaces())
    assert (teacher.embedding_dim, teacher.num_classes) == (64, 10)
    photos, labels = photos_of(real_data / "cifar10_jpg.tar.gz", 50)
    assert teacher.preprocess is not None
    batch = np.stack([teacher.preprocess(photo) for photo in photos])
    found = teacher.encode_logits(torch.from_numpy(batch)).argmax(dim=1)
    right = (found == torch.tensor(labels)).float().mean().item()
    assert right == pytest.approx(accuracy, abs=0.05)


def photos_of(archive: Path, each: int) -> tuple[list[Image.Image], list[int]]:
    """Return the first test photos of each class in the archive, with their labels."""
    photos: list[Image.Image] = []
    labels: list[int] = []
    with tarfile.open(archive) as opened:
        for member in opened:
            parts = Path(member.name).parts
            if not member.isfile() or parts[-1][-4:] != ".jpg" or "test" not in parts:
                continue
            label = CLASSES.index(parts[-2])
            if labels.count(label) < each:
                content = opened.extractfile(member)
                assert content is not None
                photos.append(Image.open(io.BytesIO(content.read())).convert("RGB"))
                labels.append(label)
            if len(labels) == each * len(CLASSES):
                break
    return photos, labels
