from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.compress.earlier_checkpoints import State, quantized_network, small_student, timm_network, with_asp
from tests.compress.small_students import images, make_student
from torchvision.models import resnet18

from edgeproof_compress.import_student import Imported, Wanted, import_student
from edgeproof_compress.masks import is_2_4, load_masks
from edgeproof_configs.errors import UsageError
from edgeproof_train.student import Student

SMALL = "cifar_resnet8"


@pytest.fixture(scope="module")
def resnet() -> State:
    """Return what a ResNet-18 leaves that was pruned with ASP and calibrated with pytorch-quantization."""
    return with_asp(quantized_network(small_student()).state_dict(), put_aside=True)


@pytest.fixture(scope="module")
def imported(resnet: State, tmp_path_factory: pytest.TempPathFactory) -> tuple[Imported, Path]:
    folder = tmp_path_factory.mktemp("import")
    # The two layers that read the first value of a stage; they were calibrated apart.
    state = resnet | {
        "layer2.0.conv1._input_quantizer._amax": torch.tensor(2.0),
        "layer2.0.downsample.0._input_quantizer._amax": torch.tensor(3.0),
    }
    wrapped = {f"module.{name}": value for name, value in state.items()}
    torch.save({"epoch": 7, "state_dict": wrapped}, folder / "resnet.pth")
    return import_student(folder / "resnet.pth", folder / "out", Wanted("resnet18", 32)), folder / "out"


def import_small(folder: Path, state: State, **wanted: Any) -> tuple[Student, Imported]:
    """Import a state dict of the small network and return the student as the folder gives it."""
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "a.safetensors")
    found = import_student(folder / "a.safetensors", folder / "out", Wanted(SMALL, 32, **wanted))
    return Student.load(folder / "out"), found


def test_import_student__gives_what_the_pruned_network_gave(
    imported: tuple[Imported, Path], resnet: State
) -> None:
    student = Student.load(imported[1])
    network = timm_network(small_student())
    network.load_state_dict({name: value for name, value in resnet.items() if name in network.state_dict()})
    photos = images()
    with torch.no_grad():
        torch.testing.assert_close(student(photos).embedding, network(photos), rtol=1e-4, atol=1e-4)
    assert (student.embedding_dim, student.preprocess.image_size) == (16, 32)


def test_import_student__keeps_masks_by_the_names_of_parameters(imported: tuple[Imported, Path]) -> None:
    student, masks = Student.load(imported[1]), load_masks(imported[1] / "masks.safetensors")
    # 20 of ResNet-18's 21 layers: the stem has three input channels.
    assert len(masks) == 20
    assert "head.weight" in masks
    for name, mask in masks.items():
        weight = student.get_parameter(name).detach()
        assert is_2_4(weight)
        assert not weight[~mask].any()


def test_import_student__keeps_ranges_beside_the_student(imported: tuple[Imported, Path]) -> None:
    ranges = json.loads((imported[1] / "earlier_ranges.json").read_text())
    assert len(ranges["weights"]) == 21
    assert len(ranges["weights"]["backbone.layer4.1.conv2"]) == 512
    # Three shortcuts read what the convolution beside them reads.
    assert len(ranges["activations"]) == 18
    assert ranges["missing"]
    assert not ranges["missing"].keys() & ranges["activations"].keys()
    assert ranges["read_by"]["image"] == ["backbone.conv1"]
    shared = next(v for v, layers in ranges["read_by"].items() if "backbone.layer2.0.conv1" in layers)
    assert ranges["read_by"][shared] == ["backbone.layer2.0.conv1", "backbone.layer2.0.downsample.0"]
    assert ranges["activations"][shared] == 3


def test_import_student__says_what_was_in_the_file(imported: tuple[Imported, Path]) -> None:
    told = "\n".join(imported[0].told)
    for words in (
        "under 'state_dict', 'module.' taken off",
        "not used: epoch",
        "student: resnet18, gives 16 values (of 'fc'; no --classes",
        "20 masks of the 2:4 pattern kept",
        "43 of 43 quantisers have a range",
        "no layer of the student, not kept: global_pool.pool",
        "disagreed, the larger range was taken: student_backbone_layer1_1_act2 (2 and 3)",
        "have no range in the file",
        "not used: 20 entries",
        "name " + str(imported[1]) + " as student.weights",
    ):
        assert words in told
    report = json.loads((imported[1] / "import.json").read_text())
    assert report["told"] == imported[0].told
    assert report["checkpoint"]["file"] == "resnet.pth"
    assert len(report["checkpoint"]["sha256"]) == 64


def test_import_student__tells_of_quantisers_that_were_never_calibrated(tmp_path: Path) -> None:
    torch.save(quantized_network(make_student(SMALL), calibrated=False).state_dict(), tmp_path / "a.pth")
    found = import_student(tmp_path / "a.pth", tmp_path / "out", Wanted(SMALL))
    # Two for each of eight layers, and one of the pooling.
    assert any(line.startswith("INT8: never calibrated: 17 quantisers and not one") for line in found.told)
    assert not (tmp_path / "out/earlier_ranges.json").exists()


def test_import_student__reads_learned_ranges(tmp_path: Path) -> None:
    torch.save(quantized_network(make_student(SMALL), False, True).state_dict(), tmp_path / "a.pth")
    import_student(tmp_path / "a.pth", tmp_path / "out", Wanted(SMALL))
    ranges = json.loads((tmp_path / "out/earlier_ranges.json").read_text())
    assert set(ranges["activations"].values()) == {1.5}
    assert not ranges["weights"]


def test_import_student__says_so_where_there_are_neither_masks_nor_ranges(tmp_path: Path) -> None:
    student, found = import_small(tmp_path, make_student(SMALL).tensors())
    assert "sparsity: there are no masks in the file" in found.told
    assert "INT8: there are no ranges in the file, and it names no quantisers" in found.told
    assert sorted(file.name for file in found.files) == ["config.json", "import.json", "model.safetensors"]
    torch.testing.assert_close(student(images()).embedding, make_student(SMALL)(images()).embedding)


def test_import_student__reads_a_residual_network_of_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = resnet18(num_classes=7).eval()
    torch.save({"model": network.state_dict()}, tmp_path / "a.pth")
    student = import_student(tmp_path / "a.pth", tmp_path / "out", Wanted("resnet18", 32)).student
    with torch.no_grad():
        torch.testing.assert_close(student(images()).embedding, network(images()))


def test_import_student__classes_make_a_classifier_of_it(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("".join(f"thing {letter}\n" for letter in "abcdefghijklmnop"))
    student, found = import_small(tmp_path, make_student(SMALL).tensors(), classes=tmp_path / "classes.txt")
    assert student.classes[:2] == ("thing a", "thing b")
    assert student(images()).logits is not None
    assert "student: cifar_resnet8, gives scores of 16 classes (of 'linear')" in found.told


def test_import_student__without_a_classifier_it_gives_the_features(tmp_path: Path) -> None:
    plain = make_student(SMALL)
    student, found = import_small(tmp_path, dict(plain.backbone.state_dict()), embedding_dim=64)
    torch.testing.assert_close(student(images()).embedding, plain.pooled(images()))
    assert any("gives 64 values (of the backbone, there is no classifier)" in line for line in found.told)


def test_import_student__a_classifier_without_bias_gets_one_of_zeros(tmp_path: Path) -> None:
    state = make_student(SMALL).tensors()
    del state["linear.bias"]
    student, found = import_small(tmp_path, state)
    assert any("has no bias, zeros are put there" in line for line in found.told)
    assert not student.get_parameter("head.bias").detach().any()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted("resnet18x"), "timm has no model 'resnet18x'"),
        (Wanted("resnet18", 32), "the weights are of another model"),
        (Wanted(SMALL, 8), "greater than or equal to 16"),
        (Wanted(SMALL, embedding_dim=17), "--embedding-dim is 17, the checkpoint gives 16 values"),
    ],
)
def test_import_student__refuses_what_does_not_fit(tmp_path: Path, wanted: Wanted, words: str) -> None:
    torch.save(make_student(SMALL).tensors(), tmp_path / "a.pth")
    with pytest.raises(UsageError, match=words):
        import_student(tmp_path / "a.pth", tmp_path / "out", wanted)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("classifier", [True, False])
def test_import_student__refuses_classes_that_do_not_fit(tmp_path: Path, classifier: bool) -> None:
    (tmp_path / "classes.txt").write_text("a\nb\n")
    plain = make_student(SMALL)
    state = plain.tensors() if classifier else dict(plain.backbone.state_dict())
    has = "a classifier of 16 classes" if classifier else "no classifier"
    with pytest.raises(UsageError, match=f"names 2 classes, the checkpoint has {has}"):
        import_small(tmp_path, state, classes=tmp_path / "classes.txt")


def test_import_student__does_not_write_over_a_student(tmp_path: Path) -> None:
    import_small(tmp_path, make_student(SMALL).tensors())
    with pytest.raises(UsageError, match="not overwritten"):
        import_small(tmp_path, make_student(SMALL).tensors())
