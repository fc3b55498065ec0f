"""Bundles whose head asks specialists: who is asked, what comes out, and files that do not fit."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.configs.small_bundle import write_model
from tests.deploy.runtime.cascade_bundle import (
    DOG_SIDE,
    LABELS,
    make_cascade_bundle,
    photos,
    small_cascade,
    write_head,
)

from edgeproof_deploy.bundle import BundleParts, manifest_of, write_tar
from edgeproof_deploy.runtime.bundle import MANIFEST, Bundle
from edgeproof_deploy.runtime.cascade_head import CascadeHead
from edgeproof_deploy.runtime.errors import BundleError, LabelError
from edgeproof_deploy.runtime.head import parse_head
from edgeproof_deploy.runtime.head_form import softmax
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_deploy.runtime.preprocess import Preprocess, open_image
from edgeproof_deploy.runtime.session import OnnxSession


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cascade_bundle(tmp_path_factory.mktemp("cascade") / "bundle")


def best(predictor: Predictor, **settings: Any) -> list[list[tuple[str, float]]]:
    return [found.labels for found in predictor.predict(photos(), **settings)]


def by_hand(bundle: Path, head: CascadeHead, images: list[np.ndarray]) -> np.ndarray:
    """Return the probabilities of images, each model run on each image."""
    rows = {}
    for name, side in (("model.onnx", 16), ("specialists/dogs/model.onnx", DOG_SIDE)):
        preprocess, session = Preprocess(side, side), OnnxSession(bundle / name, threads=1)
        inputs = [preprocess(open_image(image))[None] for image in images]
        rows[name] = np.concatenate([session.run({"image": one})["embedding"] for one in inputs])
    embeddings, dogs = rows["model.onnx"], rows["specialists/dogs/model.onnx"]
    return softmax(head.routed(embeddings, lambda name, at: dogs[at]).logits)


@pytest.mark.parametrize("combine", ["switch", "product"])
def test_predict__equals_both_models_by_hand(tmp_path: Path, combine: str) -> None:
    head = small_cascade(combine=combine)
    bundle = make_cascade_bundle(tmp_path / "bundle", head)
    wanted = by_hand(bundle, head, photos())
    assert 0 < (wanted.argmax(axis=1) > 1).sum() < 12
    for batch in (1, 5):
        with Predictor.open(bundle, threads=1) as predictor:
            found = best(predictor, batch_size=batch)
        for shares, labels in zip(wanted, found, strict=True):
            assert [label for label, _ in labels] == [
                LABELS[row] for row in np.argsort(-shares, kind="stable")
            ]
            assert [share for _, share in labels] == pytest.approx(sorted(shares, reverse=True), abs=1e-5)


def test_predict__the_specialist_is_loaded_by_the_first_image_that_reaches_it(bundle: Path) -> None:
    wanted = by_hand(bundle, small_cascade(), photos())
    dogs = wanted.argmax(axis=1) > 1
    with Predictor.open(bundle, threads=1) as predictor:
        assert predictor._specialists is not None
        predictor.predict([image for image, dog in zip(photos(), dogs, strict=True) if not dog])
        assert predictor._specialists.opened == ()
        predictor.predict([image for image, dog in zip(photos(), dogs, strict=True) if dog])
        assert predictor._specialists.opened == ("dogs",)


def test_predict__from_a_tar_and_from_files(bundle: Path, tmp_path: Path) -> None:
    names = [*Bundle(bundle).listed, MANIFEST]
    write_tar(bundle, names, "tiny", tmp_path / "bundle.tar")
    with (
        Predictor.open(bundle, threads=1) as one,
        Predictor.open(tmp_path / "bundle.tar", threads=1) as other,
    ):
        assert best(one) == best(other)


def test_predict__fewer_labels(bundle: Path) -> None:
    with Predictor.open(bundle, threads=1) as predictor:
        found = predictor.predict(photos(), labels=["poodle", "pug"], top_k=1)
        assert {label for one in found for label, _ in one.labels} <= {"poodle", "pug"}
        found = predictor.predict(photos(), labels=["cup"], top_k=1)
        assert all(one.labels == [("cup", 1.0)] for one in found)
        predictor.set_labels(["beagle", "jug"])
        assert {label for one in best(predictor) for label, _ in one} == {"beagle", "jug"}
        with pytest.raises(LabelError, match="fitted on their labels"):
            predictor.predict(photos(), labels=["cup", "teapot"])


def test_parse_head__reads_what_was_written(tmp_path: Path) -> None:
    head = small_cascade(combine="product")
    write_head(head, tmp_path)
    again = parse_head((tmp_path / "head.safetensors").read_bytes(), (tmp_path / "labels.txt").read_bytes())
    assert isinstance(again, CascadeHead)
    assert again.labels == head.labels
    rows = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)

    def ask(name: str, at: np.ndarray) -> np.ndarray:
        return rows[at]

    assert np.array_equal(again.routed(rows, ask).logits, head.routed(rows, ask).logits)


def changed(bundle: Path, folder: Path, change: Callable[[Path], object]) -> Path:
    """Return a copy of a bundle with something else in it, and a manifest that fits."""
    copy = folder / "changed"
    shutil.copytree(bundle, copy)
    change(copy)
    (copy / MANIFEST).unlink()
    parts = BundleParts(
        "tiny", [], copy, Preprocess(16, 16), copy / "parity.json", facts={"verdict": "Ship it."}
    )
    (copy / MANIFEST).write_text(json.dumps(manifest_of(copy, parts)))
    return copy


DOGS = "specialists/dogs"
CHANGES: tuple[tuple[Callable[[Path], object], str], ...] = (
    (
        lambda at: (at / DOGS / "labels.txt").write_text("pug\nbeagle\npoodle\n"),
        "line 2 is 'beagle', the head",
    ),
    (lambda at: (at / DOGS / "labels.txt").write_text("pug\n"), "has 1 labels, expected 3"),
    (lambda at: (at / DOGS / "labels.txt").write_bytes(b"\xff\xfe"), "is not UTF-8"),
    (lambda at: (at / DOGS / "labels.txt").unlink(), "labels.txt: is not in the manifest"),
    (lambda at: (at / DOGS / "model.onnx").unlink(), "model.onnx: is not in the manifest"),
    (lambda at: (at / DOGS / "model.onnx").write_bytes(b"x" * 99), "cannot be loaded"),
    (lambda at: write_model(at / DOGS / "model.onnx", side=20), "expected 3 x 24 x 24 pixels"),
    (lambda at: (at / DOGS / "preprocess.json").write_text("[]"), "preprocess.json"),
    (lambda at: (at / DOGS / "preprocess.json").write_text("{"), "is not JSON"),
    (lambda at: shutil.rmtree(at / DOGS), "is not in the manifest"),
)


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_predict__refuses_what_does_not_fit(
    bundle: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    copy = changed(bundle, tmp_path, change)
    with pytest.raises(BundleError, match=message), Predictor.open(copy, threads=1) as predictor:
        predictor.predict(photos())


def test_predict__notices_a_changed_specialist(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    model = copy / DOGS / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError, match="was changed"), Predictor.open(copy, threads=1) as predictor:
        predictor.predict(photos())


def test_parse_head__damaged_bytes_give_a_head_or_an_error(tmp_path: Path) -> None:
    write_head(small_cascade(), tmp_path)
    whole = (tmp_path / "head.safetensors").read_bytes()
    labels = (tmp_path / "labels.txt").read_bytes()
    rows = np.ones((2, 3), np.float32)
    values = 8 + int.from_bytes(whole[:8], "little")
    draw, read = random.Random(11), 0
    for turn in range(400):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(values if turn % 2 else 0, len(data))] = draw.randrange(256)
        try:
            head = parse_head(bytes(data), labels)
        except BundleError:
            continue
        read += 1
        if isinstance(head, CascadeHead) and head.dim == 3:
            counts = head.specialists
            head.routed(rows, lambda name, at, counts=counts: np.ones((len(at), counts[name]), np.float32))
    assert read > 20


def test_engine__a_plan_of_the_student_leaves_specialists_to_onnx_runtime(bundle: Path) -> None:
    from edgeproof_deploy.runtime.specialists import Specialists

    opened = Bundle(bundle)
    specialists = Specialists(opened, small_cascade(), "tensorrt_rtx", 1)
    assert specialists.scores("dogs", photos(3)).shape == (3, 3)
    specialists.close()
    assert specialists.opened == ()


def test_predictor__other_heads_import_no_specialists() -> None:
    head: Any = SimpleNamespace(specialists={})
    from edgeproof_deploy.runtime.predictor import _specialists_of

    bundle: Any = None
    assert _specialists_of(bundle, head, "onnxruntime", None) is None
