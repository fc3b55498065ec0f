from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from safetensors.numpy import save
from tests.deploy.small_text import TOKENS, encoder_bytes, table, write_text_tower

from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.runtime.errors import BundleError, LabelError, UnavailableError
from edgeproof_deploy.runtime.head import ZeroShotHead as RuntimeHead
from edgeproof_deploy.runtime.head import read_head
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess, open_image
from edgeproof_deploy.runtime.text_encoder import unit_rows
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


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("a\nb\n", "has 2 labels, expected 6, all different"),
        ("a\nb\nc\nd\ne\na\n", "has 6 labels, expected 6, all different"),
        ("a\nb\nc\n\ne\nf\n", "line 4 is empty"),
        ("", "has no labels"),
    ],
)
def test_open__labels_that_do_not_fit(
    remade: Callable[..., Path], parts: BundleParts, tmp_path: Path, labels: str, words: str
) -> None:
    folder = Path(shutil.copytree(parts.head, tmp_path / "head"))
    (folder / "labels.txt").write_text(labels)
    with pytest.raises(BundleError, match=rf"labels\.txt: {words}"):
        Predictor.open(remade(head=folder))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("preprocess.json", b'{"image_size": 32}', "missing keys"),
        ("preprocess.json", b"[1, 2]", "expected a table, got list"),
        ("preprocess.json", b"7", "expected a table, got int"),
        ("preprocess.json", b"{", "is not JSON"),
        ("labels.txt", b"\xff\n" * 6, "is not UTF-8"),
        ("head.safetensors", b"", "is cut"),
        ("head.safetensors", save({"weight": np.ones((6, 16), np.float32)}), "has no array 'logit_scale'"),
        ("head.safetensors", save({"weight": np.ones(6), "logit_scale": np.ones(1)}), "has the shape"),
        ("model.onnx", b"no model", "cannot be loaded by ONNX Runtime"),
    ],
)
def test_open__files_that_make_no_sense(
    rewritten: Callable[[str, bytes], Path], name: str, content: bytes, words: str
) -> None:
    with pytest.raises(BundleError, match=rf"{name}: .*{words}"):
        Predictor.open(rewritten(name, content))


@pytest.fixture(scope="module")
def worded(parts: BundleParts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a text tower."""
    folder = tmp_path_factory.mktemp("worded")
    text = write_text_tower(folder, ("{}", "a {} thing"))
    write_bundle(folder / "b", replace(parts, text=text))
    return folder / "b"


def test_predict__one_image_of_every_kind(predictor: Predictor, photos: list[Path], tmp_path: Path) -> None:
    expected = predictor.predict(photos[:1])[0].labels
    pixels = np.array(Image.open(photos[0]))
    for image in (photos[0], str(photos[0]), photos[0].read_bytes(), Image.open(photos[0]), pixels):
        (found,) = predictor.predict(image)
        assert found.labels == expected
    both = predictor.predict(np.stack([pixels, pixels[::-1]]))
    assert [item.path for item in both] == ["image 0", "image 1"]
    assert both[0].labels == expected
    assert both[1].labels != expected


def test_predict__a_folder_gives_its_images_in_order(
    predictor: Predictor, photos: list[Path], tmp_path: Path
) -> None:
    for place in ("b/c.PNG", "a.png", "b/a.png"):
        target = tmp_path / "folder" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photos[0], target)
    (tmp_path / "folder/notes.txt").write_text("no image")
    found = predictor.predict(tmp_path / "folder")
    assert [Path(item.path).relative_to(tmp_path / "folder").as_posix() for item in found] == [
        "a.png",
        "b/a.png",
        "b/c.PNG",
    ]
    assert predictor.predict([photos[0], tmp_path / "folder/b"])[1:] == found[1:]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="empty: holds no image file"):
        predictor.predict(tmp_path / "empty")


def test_predict__batches_and_workers_give_the_same(predictor: Predictor, photos: list[Path]) -> None:
    one_by_one = predictor.embed(photos)
    for batch_size, workers in ((5, 0), (5, 3), (1, 2), (64, 1)):
        rows = predictor.embed(photos, batch_size=batch_size, workers=workers)
        np.testing.assert_allclose(rows, one_by_one, atol=1e-6)
        found = predictor.predict(photos, 1, batch_size=batch_size, workers=workers)
        assert [item.path for item in found] == [str(photo) for photo in photos]


def test_predict__workers_and_broken_images(predictor: Predictor, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    mixed = [*photos[:3], tmp_path / "broken.jpg", *photos[3:]]
    broken: list[ImageError] = []
    found = predictor.predict(mixed, batch_size=4, workers=2, broken=broken)
    assert [item.path for item in found] == [str(photo) for photo in photos]
    assert [Path(error.name).name for error in broken] == ["broken.jpg"]
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        predictor.predict(mixed, batch_size=4, workers=2)


def test_predict__from_many_threads(predictor: Predictor, photos: list[Path]) -> None:
    expected = predictor.predict(photos)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda photo: predictor.predict(photo)[0], photos * 3))
    assert found == expected * 3


@pytest.mark.parametrize(
    "settings", [{"top_k": 0}, {"batch_size": 0}, {"workers": -1}], ids=["top_k", "batch_size", "workers"]
)
def test_predict__settings_that_make_no_sense(
    predictor: Predictor, photos: list[Path], settings: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        predictor.predict(photos, **settings)  # pyright: ignore[reportArgumentType]


def test_open__warm_and_closed_by_with(bundle: Path, photos: list[Path]) -> None:
    with Predictor.open(bundle, threads=1) as opened:
        opened.warm_up()
        opened.warm_up(batch_size=3)
        assert len(opened.predict(photos[0])) == 1
    with pytest.raises(ValueError, match="device must be cpu or cuda, got 'tpu'"):
        Predictor.open(bundle, device="tpu")


def test_set_labels__without_a_text_tower_the_bundles_own(bundle: Path, photos: list[Path]) -> None:
    with Predictor.open(bundle, threads=1) as opened:
        assert not opened.has_text_encoder
        opened.set_labels(["ring", "ball"])
        assert opened.labels == ("ring", "ball")
        assert {label for label, _ in opened.predict(photos[0])[0].labels} == {"ring", "ball"}
        opened.set_labels(["käse"])
        with pytest.raises(LabelError, match=r"'red cub' is not among the 6 .* Did you mean 'red cube'\?"):
            opened.set_labels(["red cub"])
        assert opened.labels == ("käse",)
        opened.reset_labels()
        assert len(opened.labels) == 6


def test_set_labels__any_words_by_the_text_tower(worded: Path, photos: list[Path]) -> None:
    with Predictor.open(worded, threads=1) as opened:
        assert opened.has_text_encoder
        own = opened.predict(photos[0], labels=["ball", "ring"])[0].labels
        words = ["blue", "ball", "a_red_owl"]
        opened.set_labels(words)
        assert opened.labels == tuple(words)
        head = opened.head
        assert isinstance(head, RuntimeHead)
        np.testing.assert_allclose(np.linalg.norm(head.weight, axis=1), 1, atol=1e-6)
        bundled = read_head(opened.bundle)
        assert isinstance(bundled, RuntimeHead)
        np.testing.assert_allclose(head.weight[1], bundled.weight[2], atol=1e-7)
        prompts = [text.replace("{}", "a red owl") for text in ("{}", "a {} thing")]
        rows = unit_rows(opened._text_encoder().raw(prompts))
        np.testing.assert_allclose(head.weight[2], unit_rows(rows.mean(axis=0)), atol=1e-6)
        assert {label for label, _ in opened.predict(photos[0])[0].labels} == set(words)
        opened.reset_labels()
        assert opened.predict(photos[0], labels=["ball", "ring"])[0].labels == own
        assert opened.predict(photos[0], labels=["green"])[0].labels == [("green", 1.0)]


def test_set_labels__the_tokens_are_summed_as_the_tower_does(worded: Path) -> None:
    with Predictor.open(worded, threads=1) as opened:
        red, blue = 512 + 1, 512 + 4
        start, end = TOKENS - 2, TOKENS - 1
        found = opened._text_encoder().raw(["Red  BLUE"])[0]
        np.testing.assert_allclose(found, table()[[start, red, blue, end]].sum(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], "no labels were given"),
        (["red", "red"], "given twice"),
        (["red", " "], "empty or no text"),
        ([3], "empty or no text"),
        ("red", "expected a list of labels, got the text 'red'"),
        (["x" * 10_001], "at most 10000 are read"),
    ],
)
def test_set_labels__what_is_refused(worded: Path, labels: Any, words: str) -> None:
    with Predictor.open(worded, threads=1) as opened, pytest.raises(LabelError, match=words):
        opened.set_labels(labels)


def test_set_text_embeddings__rows_of_ones_own(
    predictor: Predictor, bundle: Path, photos: list[Path]
) -> None:
    rows = 3 * np.random.default_rng(2).standard_normal((2, 16))
    with Predictor.open(bundle, threads=1) as opened:
        opened.set_text_embeddings(["one", "two"], rows)
        embedding = opened.embed(photos[0])[0]
        unit = embedding / np.linalg.norm(embedding)
        logits = 20 * (rows / np.linalg.norm(rows, axis=1, keepdims=True)) @ unit
        shares = np.exp(logits) / np.exp(logits).sum()
        assert dict(opened.predict(photos[0])[0].labels) == pytest.approx(
            {"one": shares[0], "two": shares[1]}, rel=1e-4
        )
        opened.set_labels(["ball"])
        assert opened.labels == ("ball",)


@pytest.mark.parametrize(
    ("names", "rows", "words"),
    [
        (["a"], np.ones((2, 16)), r"1 labels and text embeddings of shape \(2, 16\): expected \(1, 16\)"),
        (["a"], np.ones((1, 15)), r"expected \(1, 16\)"),
        (["a", "a"], np.ones((2, 16)), "given twice"),
        ([], np.ones((0, 16)), "no labels"),
        (["a"], np.zeros((1, 16)), "zero, NaN or infinite"),
        (["a"], np.full((1, 16), np.nan), "zero, NaN or infinite"),
        (["a"], np.full((1, 16), "x"), "expected numbers"),
    ],
)
def test_set_text_embeddings__what_is_refused(
    bundle: Path, names: list[str], rows: np.ndarray, words: str
) -> None:
    with Predictor.open(bundle, threads=1) as opened, pytest.raises(LabelError, match=words):
        opened.set_text_embeddings(names, rows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("encoder.json", b"[]"), r"text/encoder\.json: expected a table with the keys cleaning"),
        (("encoder.json", b'{"cleaning": ["x"]}'), "expected a table with the keys"),
        (("merges.txt", b"a b c\n"), r"text/merges\.txt: line 1 is no pair of symbols: 'a b c'"),
        (("merges.txt", b"\xff"), "is not UTF-8"),
        (("merges.txt", b"a b\n" * 100), r"cannot run on text/merges\.txt"),
        (("encoder.onnx", b"no model"), r"text/encoder\.onnx: cannot be loaded by ONNX Runtime"),
        (("encoder.onnx", encoder_bytes(length=7)), r"expected \(batch, 10\) into \(batch, 16\)"),
        (("encoder.onnx", encoder_bytes(table()[:, :8])), r"expected \(batch, 10\) into \(batch, 16\)"),
        (("encoder.onnx", encoder_bytes(table() * np.nan)), "gives NaN, infinity or nothing but zeros"),
        (("encoder.onnx", encoder_bytes(table() * 0)), "gives NaN, infinity or nothing but zeros"),
    ],
)
def test_set_labels__a_text_tower_that_makes_no_sense(
    parts: BundleParts, tmp_path: Path, change: tuple[str, bytes], words: str
) -> None:
    text = write_text_tower(tmp_path)
    (tmp_path / change[0]).write_bytes(change[1])
    write_bundle(tmp_path / "b", replace(parts, text=text))
    with Predictor.open(tmp_path / "b", threads=1) as opened, pytest.raises(BundleError, match=words):
        opened.set_labels(["green"])


def test_open__weights_that_are_nan(
    rewritten: Callable[[str, bytes], Path], bundle: Path, photos: list[Path]
) -> None:
    model = onnx.load(bundle / "model.onnx")
    weights = max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))
    values = numpy_helper.to_array(weights)
    weights.CopyFrom(numpy_helper.from_array(np.full_like(values, np.nan), weights.name))
    place = rewritten("model.onnx", model.SerializeToString())
    words = r"model\.onnx: gives NaN or infinity for .*photo 0"
    with Predictor.open(place, threads=1) as opened, pytest.raises(BundleError, match=words):
        opened.predict(photos[:2])
