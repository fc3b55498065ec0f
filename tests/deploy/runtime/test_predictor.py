from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save

from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.runtime.errors import BundleError, LabelError, UnavailableError
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess, open_image
from edgeproof_train.heads.zero_shot import ZeroShotHead
from edgeproof_train.student import Student


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return Predictor.open(bundle, threads=1)


@pytest.fixture
def remade(parts: BundleParts, tmp_path: Path) -> Callable[..., Path]:
    """Return a bundle whose manifest fits, with one part exchanged."""

    def make(**changes: Any) -> Path:
        write_bundle(tmp_path / "remade", replace(parts, **changes))
        return tmp_path / "remade"

    return make


def test_predict__what_torch_and_the_head_say(
    predictor: Predictor, student: Student, head: ZeroShotHead, photos: list[Path]
) -> None:
    inputs = np.stack([student.preprocess(open_image(photo)) for photo in photos])
    with torch.inference_mode():
        embeddings = student(torch.from_numpy(inputs)).embedding.numpy()
    logits = torch.from_numpy(head.logits(embeddings))
    expected = torch.softmax(logits, dim=1).numpy()
    predictions = predictor.predict(photos, top_k=6)
    assert [prediction.path for prediction in predictions] == [str(photo) for photo in photos]
    for prediction, shares in zip(predictions, expected, strict=True):
        order = np.argsort(-shares, kind="stable")
        assert [label for label, _ in prediction.labels] == [head.labels[i] for i in order]
        np.testing.assert_allclose([value for _, value in prediction.labels], shares[order], atol=1e-5)
    np.testing.assert_allclose(predictor.embed(photos), embeddings, atol=2e-6)


def test_predict__from_a_tar_the_same(predictor: Predictor, bundle: Path, photos: list[Path]) -> None:
    packed = Predictor.open(bundle.with_suffix(".tar"), threads=1)
    assert packed.predict(photos) == predictor.predict(photos)


def test_predict__does_not_depend_on_the_other_images(predictor: Predictor, photos: list[Path]) -> None:
    alone = [predictor.predict([photo])[0] for photo in photos]
    assert predictor.predict(photos) == alone


def test_predict__top_k(predictor: Predictor, photos: list[Path]) -> None:
    assert [len(predictor.predict(photos[:1], top_k=k)[0].labels) for k in (1, 3, 99)] == [1, 3, 6]


def test_predict__bytes_and_opened_images(predictor: Predictor, photos: list[Path]) -> None:
    sources = [photos[0].read_bytes(), Image.open(photos[0])]
    found = predictor.predict(sources)
    assert [prediction.path for prediction in found] == ["image 0", "image 1"]
    assert all(item.labels == predictor.predict(photos[:1])[0].labels for item in found)


def test_predict__between_some_labels(predictor: Predictor, photos: list[Path]) -> None:
    whole = dict(predictor.predict(photos[:1], top_k=6)[0].labels)
    some = dict(predictor.predict(photos[:1], labels=["käse", "ball"])[0].labels)
    total = whole["käse"] + whole["ball"]
    assert some == pytest.approx({"käse": whole["käse"] / total, "ball": whole["ball"] / total}, rel=1e-4)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["bal"], "label 'bal' is not among the 6 labels of this bundle. Did you mean 'ball'"),
        (["zebra"], "label 'zebra' is not among"),
        (["ball", "ball"], "a label was given twice"),
        ([], "no labels were given"),
    ],
)
def test_predict__labels_that_are_not_there(
    predictor: Predictor, photos: list[Path], labels: list[str], words: str
) -> None:
    with pytest.raises(LabelError, match=words) as caught:
        predictor.predict(photos, labels=labels)
    assert caught.value.exit_code == 2


def test_predict__a_broken_image_is_raised_or_collected(
    predictor: Predictor, photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(photos[0].read_bytes()[:100])
    mixed = [photos[0], tmp_path / "broken.jpg", photos[1]]
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        predictor.predict(mixed)
    broken: list[ImageError] = []
    assert predictor.predict(mixed, broken=broken) == predictor.predict(photos[:2])
    assert [error.name for error in broken] == [str(tmp_path / "broken.jpg")]


def test_embed__no_images(predictor: Predictor) -> None:
    assert predictor.embed([]).shape == (0, 16)


def test_embed_image__nan_is_an_error(predictor: Predictor) -> None:
    huge = Predictor(
        predictor.bundle,
        Preprocess(32, 32, mean=(0.0, 0.0, 0.0), std=(1e-40, 1.0, 1.0)),
        predictor.session,
        predictor.head,
    )
    with pytest.raises(BundleError, match="gives NaN or infinity for white"), np.errstate(all="ignore"):
        huge.embed_image(Image.new("RGB", (32, 32), "white"), "white")


@pytest.mark.parametrize("engine", ["pytorch", "unknown"])
def test_open__an_engine_that_the_runtime_does_not_have(bundle: Path, engine: str) -> None:
    with pytest.raises(UnavailableError, match=f"does not run '{engine}'"):
        Predictor.open(bundle, engine)


def test_open__preprocessing_of_another_size(remade: Callable[..., Path]) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx: takes images of shape"):
        Predictor.open(remade(preprocess=Preprocess(48, 48)))


def test_open__a_head_of_another_width(remade: Callable[..., Path], tmp_path: Path) -> None:
    rows = np.eye(6, 20, dtype=np.float32)
    ZeroShotHead(ZeroShotHead.Config(), list("abcdef"), rows).save(tmp_path / "head")
    with pytest.raises(BundleError, match=r"head\.safetensors: takes embeddings of 20 numbers"):
        Predictor.open(remade(head=tmp_path / "head"))


@pytest.mark.parametrize("labels", ["a\nb\n", "a\nb\nc\nd\ne\na\n", ""])
def test_open__labels_that_do_not_fit(
    remade: Callable[..., Path], parts: BundleParts, tmp_path: Path, labels: str
) -> None:
    folder = Path(shutil.copytree(parts.head, tmp_path / "head"))
    (folder / "labels.txt").write_text(labels)
    with pytest.raises(BundleError, match=r"labels\.txt: has \d labels, expected 6, all different"):
        Predictor.open(remade(head=folder))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("preprocess.json", b'{"image_size": 32}', "missing keys"),
        ("preprocess.json", b"[1, 2]", "unknown keys"),
        ("preprocess.json", b"7", "not iterable"),
        ("preprocess.json", b"{", "is not JSON"),
        ("labels.txt", b"\xff\n" * 6, "is not UTF-8"),
        ("head.safetensors", b"", "is cut"),
        ("head.safetensors", save({"weight": np.ones((6, 16), np.float32)}), "has no array 'logit_scale'"),
        ("head.safetensors", save({"weight": np.ones(6), "logit_scale": np.ones(1)}), "are not a head"),
        ("model.onnx", b"no model", "cannot be loaded by ONNX Runtime"),
    ],
)
def test_open__files_that_make_no_sense(
    rewritten: Callable[[str, bytes], Path], name: str, content: bytes, words: str
) -> None:
    with pytest.raises(BundleError, match=rf"{name}: .*{words}"):
        Predictor.open(rewritten(name, content))
