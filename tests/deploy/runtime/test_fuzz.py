"""Seeded damage to all that the runtime reads: a result or an error of ours, nothing written, no hang."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save
from tests.configs.small_bundle import make_bundle
from tests.deploy.small_text import MERGES

from edgeproof_deploy.bundle import write_tar
from edgeproof_deploy.runtime.bundle import Bundle, manifest_digest
from edgeproof_deploy.runtime.errors import BundleError, LabelError
from edgeproof_deploy.runtime.head import read_head
from edgeproof_deploy.runtime.image import ImageError
from edgeproof_deploy.runtime.plan_sidecar import PlanSettings, Sidecar
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_deploy.runtime.text_encoder import TextSettings, read_merges
from edgeproof_deploy.runtime.tokenizer import Tokenizer

COUNT = 1000
STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 3.5, 2**63, 1e308, float("nan"), float("inf"), "", "..", "../evil", "/etc/passwd"),
    *("a\0b", "\ud800", [], {}, [[]], {"": ""}, "x" * 5000, [1] * 100, ["a", 1], "model.onnx"),
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a few kilobytes."""
    return make_bundle(tmp_path_factory.mktemp("fuzz"), models={"model.onnx": 1})


def damaged_bytes(data: bytes, draw: random.Random) -> bytes:
    """Return data after one to four changes: bits, values, cuts, repetitions, insertions."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(changed) + 1)
        stop = min(len(changed), place + draw.choice((1, 1, 2, 4, 16, 256)))
        change = draw.randrange(6)
        if change == 0 and place < len(changed):
            changed[place] ^= 1 << draw.randrange(8)
        elif change == 1:
            changed[place:stop] = bytes(draw.choice((0, 255, 127, 128, 10, 32)) for _ in range(stop - place))
        elif change == 2:
            del changed[place:stop]
        elif change == 3:
            changed[place:place] = changed[place:stop] * draw.choice((1, 1, 50))
        elif change == 4:
            changed[place:place] = draw.randbytes(stop - place)
        else:
            del changed[place + draw.randrange(200) :]
    return bytes(changed)


def damaged_json(plain: Any, draw: random.Random) -> Any:
    """Return plain data with one to three places exchanged, removed, renamed or doubled."""
    plain = copy.deepcopy(plain)
    for _ in range(draw.randint(1, 3)):
        tables = [place for place in places_of(plain) if len(place)]
        if not tables:
            return strange(draw)
        table = draw.choice(tables)
        key = draw.choice(list(table) if isinstance(table, dict) else list(range(len(table))))
        change = draw.randrange(4)
        if change == 0:
            del table[key]
        elif change == 1 and isinstance(table, dict):
            table[str(strange(draw))] = table.pop(key)
        elif change == 2 and isinstance(table, list):
            table.append(copy.deepcopy(table[key]))
        else:
            table[key] = strange(draw)
    return plain


def strange(draw: random.Random) -> Any:
    """Return a value that is not expected."""
    return copy.deepcopy(draw.choice(STRANGE))


def places_of(plain: Any) -> Iterator[Any]:
    """Yield every table and list of plain data."""
    if isinstance(plain, dict | list):
        yield plain
        for item in plain.values() if isinstance(plain, dict) else plain:
            yield from places_of(item)


def texts_of(plain: Any, count: int, seed: int) -> Iterator[bytes]:
    """Yield damaged forms of a JSON document, half of them damaged as data, half as bytes."""
    draw = random.Random(seed)
    data = json.dumps(plain).encode()
    for number in range(count):
        yield json.dumps(damaged_json(plain, draw)).encode() if number % 2 else damaged_bytes(data, draw)


def refusals(attempts: Iterator[Callable[[], object]], *ours: type[Exception]) -> int:
    """Return how many attempts ended in an error of ours; any other error fails the test."""
    said: list[str] = []
    for attempt in attempts:
        try:
            attempt()
        except ours as error:
            said.append(str(error))
    assert all(text.strip() for text in said)
    assert all(len(text) < 1200 for text in said)
    return len(said)


def read_plain(data: bytes) -> Any:
    """Return JSON as `Bundle.read_json` does, with its error."""
    holder: Any = SimpleNamespace(read=lambda name: data)
    return Bundle.read_json(holder, "x.json")


def explained(make: Callable[[], Any]) -> Any:
    """Return what is made; what makes no sense becomes an error of the bundle, as where it is opened."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise BundleError("x.json", str(error)) from error


@pytest.mark.parametrize("count", [100, pytest.param(COUNT, marks=pytest.mark.slow)])
def test_bundle__damaged_manifests(small: Path, tmp_path: Path, count: int) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "b"))
    manifest = json.loads((folder / "manifest.json").read_text())
    before = sorted(tmp_path.rglob("*"))
    draw = random.Random(1)

    def attempts() -> Iterator[Callable[[], object]]:
        for number in range(count):
            if number % 4 == 0:
                data = damaged_bytes(json.dumps(manifest).encode(), draw)
            else:
                plain = damaged_json(manifest, draw)
                if isinstance(plain, dict):
                    plain["manifest_sha256"] = manifest_digest(plain)
                data = json.dumps(plain).encode()
            (folder / "manifest.json").write_bytes(data)
            yield lambda: Bundle(folder).verify()

    assert refusals(attempts(), BundleError) > count // 4
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("count", [100, pytest.param(COUNT, marks=pytest.mark.slow)])
def test_bundle__damaged_tars(small: Path, tmp_path: Path, count: int) -> None:
    names = [file.relative_to(small).as_posix() for file in small.rglob("*") if file.is_file()]
    write_tar(small, sorted(names), "tiny", tmp_path / "whole.tar")
    data, draw = (tmp_path / "whole.tar").read_bytes(), random.Random(2)
    place = tmp_path / "tars" / "b.tar"
    place.parent.mkdir()

    def attempts() -> Iterator[Callable[[], object]]:
        for _ in range(count):
            changed = bytearray(damaged_bytes(data, draw))
            if draw.random() < 0.5:
                # Most damage shall be to headers, which are a small part of the file.
                start = draw.choice([at for at in range(0, len(data), 512) if data[at : at + 5] == b"tiny/"])
                changed = bytearray(data)
                changed[start : start + 512] = damaged_bytes(data[start : start + 512], draw)[:512].ljust(512)
            place.write_bytes(changed)
            yield lambda: Bundle(place).verify()

    assert refusals(attempts(), BundleError) > count // 2
    assert [file.name for file in place.parent.iterdir()] == ["b.tar"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tars", "whole.tar"]


def test_read_head__damaged_heads_and_labels() -> None:
    arrays = {"weight": np.eye(3, dtype=np.float32), "logit_scale": np.array([10.0], np.float32)}
    whole = (save(arrays), save({"classes": np.array([3])}))
    draw = random.Random(3)

    def attempts() -> Iterator[Callable[[], object]]:
        for number in range(2 * COUNT):
            head, labels = draw.choice(whole), "red\ngrün\nblue\n".encode()
            if number % 2:
                head = damaged_bytes(head, draw)
            else:
                labels = damaged_bytes(labels, draw)
            files = {"head.safetensors": head, "labels.txt": labels}
            holder: Any = SimpleNamespace(read=files.__getitem__)
            yield lambda: read_head(holder).probabilities(np.ones((1, 3), np.float32))

    assert refusals(attempts(), BundleError) > COUNT // 2


def test_read_head__headers_of_safetensors_that_lie() -> None:
    """The header is JSON behind its length; here it is damaged as data and its length fits."""
    data = save({"weight": np.eye(3, dtype=np.float32), "logit_scale": np.array([10.0], np.float32)})
    length = int.from_bytes(data[:8], "little")
    header, values = json.loads(data[8 : 8 + length]), data[8 + length :]

    def attempts() -> Iterator[Callable[[], object]]:
        for text in texts_of(header, COUNT, 4):
            files = {"head.safetensors": len(text).to_bytes(8, "little") + text + values}
            files["labels.txt"] = b"red\ngreen\nblue\n"
            holder: Any = SimpleNamespace(read=files.__getitem__)
            yield lambda: read_head(holder).probabilities(np.ones((1, 3), np.float32))

    assert refusals(attempts(), BundleError) > COUNT // 2


@pytest.mark.parametrize("views", [None, 12])
def test_preprocess__damaged(views: int | None) -> None:
    plain = Preprocess(16, 18, "bilinear", (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), views).to_dict()
    image = Image.new("RGB", (20, 30))

    def attempts() -> Iterator[Callable[[], object]]:
        for text in texts_of(plain, COUNT, 5):
            yield lambda: explained(lambda: Preprocess.from_dict(read_plain(text)))(image)

    with np.errstate(all="ignore"):
        assert refusals(attempts(), BundleError) > COUNT // 2


def test_sidecar__damaged() -> None:
    whole = Sidecar(
        "tensorrt",
        "10.3",
        ("8.7",),
        "Orin",
        "linux",
        "m.onnx",
        "0" * 64,
        "p.engine",
        "1" * 64,
        9,
        PlanSettings(),
    )

    def attempts() -> Iterator[Callable[[], object]]:
        for text in texts_of(json.loads(json.dumps(whole.to_dict())), COUNT, 6):
            yield lambda: Sidecar.parse(text, "p.json")

    assert refusals(attempts(), BundleError) > COUNT // 2


@pytest.mark.parametrize("count", [100, pytest.param(COUNT, marks=pytest.mark.slow)])
def test_text_settings__damaged(count: int) -> None:
    known = [*range(520)]
    whole = TextSettings("open_clip", 10, 0, ("{}", "a {}"), tuple(known))
    merges = read_merges("".join(f"{pair}\n" for pair in MERGES).encode())

    def tokenize(text: bytes) -> None:
        found = explained(lambda: TextSettings.from_dict(read_plain(text)))
        tokenizer = explained(
            lambda: Tokenizer(
                merges,
                cleaning=found.cleaning,
                context_length=found.context_length,
                padding=found.padding,
                known=found.known,
            )
        )
        rows = tokenizer(["a red cube", ""])
        assert rows.shape == (2, found.context_length)

    def attempts() -> Iterator[Callable[[], object]]:
        for text in texts_of(whole.to_dict(), count, 7):
            yield lambda: tokenize(text)

    assert refusals(attempts(), BundleError, LabelError) > count // 2


@pytest.mark.parametrize("count", [100, pytest.param(COUNT, marks=pytest.mark.slow)])
def test_merges__damaged(count: int) -> None:
    data, draw = "".join(f"{pair}\n" for pair in MERGES * 20).encode(), random.Random(8)

    def attempts() -> Iterator[Callable[[], object]]:
        for _ in range(count):
            changed = damaged_bytes(data, draw)
            yield lambda: Tokenizer(read_merges(changed))(["a red cube, bluebell", "réd"])

    assert refusals(attempts(), BundleError) > count // 10


def test_tokenizer__any_text() -> None:
    tokenizer, draw = Tokenizer([(pair.split()[0], pair.split()[1]) for pair in MERGES]), random.Random(9)
    for _ in range(COUNT):
        data = damaged_bytes("a photo of “red” &amp; blüe 東京 \x1b[0m".encode(), draw)
        text = data.decode(
            *draw.choice((("utf-8", "replace"), ("utf-8", "surrogateescape"), ("utf-16", "replace")))
        )
        row = tokenizer([text])[0]
        assert row[0] == tokenizer.start
        assert tokenizer.end in row


@pytest.mark.parametrize("count", [105, pytest.param(COUNT, marks=pytest.mark.slow)])
def test_predict__damaged_images(small: Path, tmp_path: Path, count: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    image, draw = Image.fromarray(noise), random.Random(10)
    kinds = []
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        kinds.append(buffer.getvalue())
    with Predictor.open(small, threads=1) as predictor:

        def attempts() -> Iterator[Callable[[], object]]:
            for number in range(count):
                data = damaged_bytes(kinds[number % len(kinds)], draw)
                yield lambda: predictor.predict(data)

        assert refusals(attempts(), ImageError) > count // 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [100, pytest.param(COUNT, marks=pytest.mark.slow)])
def test_predictor__any_file_of_a_bundle_damaged_under_a_manifest_that_fits(
    small: Path, tmp_path: Path, count: int
) -> None:
    """As somebody would who knows the format: sizes and sha256 are right, contents are not."""
    folder = Path(shutil.copytree(small, tmp_path / "b"))
    manifest, draw = json.loads((folder / "manifest.json").read_text()), random.Random(11)
    names = [name for name in sorted(manifest["files"]) if name not in ("README.md", "parity.json")]
    image = np.zeros((20, 20, 3), np.uint8)

    def attempts() -> Iterator[Callable[[], object]]:
        for number in range(count):
            name = names[number % len(names)]
            whole = (small / name).read_bytes()
            data = damaged_bytes(whole, draw)
            (folder / name).write_bytes(data)
            entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            changed = manifest | {"files": manifest["files"] | {name: entry}}
            changed["manifest_sha256"] = manifest_digest(changed)
            (folder / "manifest.json").write_text(json.dumps(changed))
            yield lambda: Predictor.open(folder, threads=1).predict(image)
            (folder / name).write_bytes(whole)

    with np.errstate(all="ignore"):
        assert refusals(attempts(), BundleError) > count // 4
