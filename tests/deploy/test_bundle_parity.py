from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.deploy.bundles import make_bundle, make_damaged_bundle, write_model, write_photos

from edgeproof.bundle_checks import lines_of
from edgeproof_configs.errors import DataError, EdgeproofError, GateError, MissingPackageError, UsageError
from edgeproof_deploy.bundle_parity import check_bundle
from edgeproof_deploy.runtime.bundle import manifest_digest
from edgeproof_deploy.runtime.tensorrt_package import why_not_here

HERE = ("onnxruntime",)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    sparse = write_model(folder / "more" / "model.sparse.onnx", lambda weights: weights + 0.02)
    return make_bundle(folder / "tiny", {"model.sparse.onnx": sparse})


def test_check_bundle__what_it_gave_when_it_was_made(bundle: Path) -> None:
    found = check_bundle(bundle, engines=HERE, threads=1)
    assert found.failures() == []
    found.raise_failures(strict=True)
    found.assert_parity(strict=True)
    assert [(pair.reference, pair.candidate) for pair in found.pairs] == [
        ("model.onnx when made", "onnxruntime fp32"),
        ("model.sparse.onnx when made", "sparse onnxruntime fp32"),
        ("pytorch fp32", "sparse onnxruntime fp32"),
    ]
    gates = {gate.name: gate.status for gate in found.pairs[0].gates}
    assert gates == dict.fromkeys(["finite", "edge_finite", "cosine", "edge_cosine", "batch_cosine"], "pass")
    assert found.pairs[0].n == 4
    assert len(found.pairs[0].edges) == 7
    assert found.said == ["4 photos and 7 drawn images that the bundle carries"]
    assert [gate.name for gate in found.gates] == ["pixels"]
    assert {claim.claim for claim in found.claims} == {"2:4 weights", "2:4 kernels"}


def test_check_bundle__every_engine_that_runs_here(bundle: Path) -> None:
    pytest.importorskip("openvino")
    found = check_bundle(bundle, threads=1)
    assert found.failures() == []
    assert {"onnxruntime fp32", "openvino fp32"} <= {pair.candidate for pair in found.pairs}


def test_check_bundle__a_model_that_drifted_is_named_with_its_gates(tmp_path: Path) -> None:
    found = check_bundle(make_damaged_bundle(tmp_path / "b"), engines=HERE, threads=1)
    assert found.failures()[0].startswith("model.onnx when made -> onnxruntime fp32: cosine is ")
    with pytest.raises(GateError, match=r"cosine is .*, must be at least 0.9999") as caught:
        found.raise_failures()
    assert caught.value.exit_code == 3
    with pytest.raises(AssertionError, match="2 gates failed"):
        found.assert_parity()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("", r"labels\.txt: has no labels"),
        ("red ball\n", r"labels\.txt: has 1 labels, expected 3, all different"),
        ("red ball\n\nring\n", r"labels\.txt: line 2 is empty"),
    ],
)
def test_check_bundle__labels_that_do_not_fit_the_head(
    bundle: Path, tmp_path: Path, labels: str, words: str
) -> None:
    """Under a manifest that fits; no engine reads them, but nothing can be predicted."""
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    (copy / "labels.txt").write_text(labels)
    manifest = json.loads((copy / "manifest.json").read_text())
    digest = hashlib.sha256(labels.encode()).hexdigest()
    manifest["files"]["labels.txt"] = {"size": len(labels), "sha256": digest}
    manifest["manifest_sha256"] = manifest_digest(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EdgeproofError, match=f"the bundle cannot be used: {words}"):
        check_bundle(copy, engines=HERE, threads=1)


def test_check_bundle__a_model_with_nan_weights(tmp_path: Path) -> None:
    damaged = make_damaged_bundle(tmp_path / "b", lambda weights: weights * np.nan)
    found = check_bundle(damaged, engines=HERE, threads=1)
    assert "finite is 4 (embeddings with NaN or infinity), must be at most 0" in found.failures()[0]
    assert "fail  model.onnx when made -> onnxruntime fp32: 4 of 4 embeddings hold NaN" in "\n".join(
        lines_of(found)
    )


def test_check_bundle__on_the_users_images_by_the_gates_of_the_recipe(bundle: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "mine", 12)
    (tmp_path / "mine" / "notes.txt").write_text("no image")
    (tmp_path / "mine" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    found = check_bundle(bundle, tmp_path / "mine", engines=HERE, threads=1)
    pair = next(pair for pair in found.pairs if pair.reference == "onnxruntime unoptimised fp32")
    limits = {gate.name: (gate.limit, gate.status) for gate in pair.gates}
    assert limits["cosine"] == (0.999, "pass")
    assert limits["agreement"] == (1.0, "pass")
    assert limits["zero_shot_drop"] == (0.0, "pass")
    assert pair.n == 12
    assert pair.decisions is not None
    assert set(pair.decisions.intervals) >= {"top1", "mean_per_class"}
    assert found.said[1] == f"12 images of {tmp_path / 'mine'}, 12 of them with a label of the bundle"
    assert "1 images cannot be read, the first: " in found.said[2]


def test_check_bundle__images_without_labels_are_not_scored(bundle: Path, tmp_path: Path) -> None:
    for number, file in enumerate(write_photos(tmp_path / "photos", 5)):
        shutil.move(file, tmp_path / "photos" / f"{number}.png")
    found = check_bundle(bundle, tmp_path / "photos", engines=HERE, threads=1)
    pair = next(pair for pair in found.pairs if pair.reference == "onnxruntime unoptimised fp32")
    assert "zero_shot_drop" not in {gate.name for gate in pair.gates}
    assert found.failures(strict=True) == []


@pytest.mark.parametrize("content", [None, "empty", "broken"])
def test_check_bundle__no_image_to_compare_on(content: str | None, bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    if content is not None:
        folder.mkdir()
    if content == "broken":
        (folder / "a.png").write_bytes(b"nothing")
    with pytest.raises(DataError):
        check_bundle(bundle, folder, engines=HERE, threads=1)


def test_check_bundle__a_bundle_without_images_runs_on_noise(tmp_path: Path) -> None:
    found = check_bundle(make_bundle(tmp_path / "b", self_test=False), engines=HERE, threads=1)
    assert found.failures(strict=True) == []
    assert [one.name for one in found.others] == ["noise -> onnxruntime fp32"]
    assert "give some with --images" in found.said[0]


def test_check_bundle__other_pixels_are_found_before_the_engines_are_blamed(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Pillow that resizes otherwise, as an older or patched one on a device may."""
    resize = Image.Image.resize

    def other(
        image: Image.Image, size: tuple[int, int], *arguments: object, **options: object
    ) -> Image.Image:
        made = resize(image, size, *arguments, **options)  # pyright: ignore[reportArgumentType]
        return Image.fromarray((np.asarray(made) ^ 1).astype(np.uint8))

    monkeypatch.setattr(Image.Image, "resize", other)
    found = check_bundle(bundle, engines=HERE, threads=1)
    assert found.failures()[0].startswith("preprocessing: pixels is ")
    assert "their pixels differ from those when it was made: self_test/00.png" in found.said[1]


def test_check_bundle__an_engine_that_is_not_here(bundle: Path) -> None:
    if why_not_here("tensorrt") is not None:
        with pytest.raises(MissingPackageError, match="no model of the bundle runs in tensorrt here: "):
            check_bundle(bundle, engines=("tensorrt",))
    with pytest.raises(UsageError, match=r"'openvin' is none of .* Did you mean 'openvino'\?"):
        check_bundle(bundle, engines=("openvin",))


def test_check_bundle__gates_of_another_version_are_refused(bundle: Path, tmp_path: Path) -> None:
    from edgeproof_configs.files import write_json
    from edgeproof_deploy.runtime.bundle import manifest_digest

    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["recipe"]["gates"] = {"beauty": 0.9}
    write_json(copy / "manifest.json", manifest | {"manifest_sha256": manifest_digest(manifest)})
    write_photos(tmp_path / "mine")
    with pytest.raises(EdgeproofError, match="the gates of the bundle's recipe cannot be read: beauty"):
        check_bundle(copy, tmp_path / "mine", engines=HERE, threads=1)
