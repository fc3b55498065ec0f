from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeproof_configs.errors import UsageError
from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.head import ClassifierHead
from edgeproof_deploy.runtime.image import open_image
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_deploy.triton import with_head, write_triton

TOKEN = re.compile(r'\s*(?:([A-Za-z_]\w*)|"([^"\\\n]*)"|(-?\d+)|([\[\]{}:,]))')


def read_text_format(text: str) -> dict[str, Any]:
    """Read protobuf's text format, as far as names, texts, whole numbers, messages and lists go."""

    def tokens() -> Iterator[tuple[str, Any]]:
        place = 0
        while text[place:].strip():
            found = TOKEN.match(text, place)
            assert found, f"no text format: {text[place : place + 30]!r}"
            place = found.end()
            word, quoted, number, sign = found.groups()
            if sign:
                yield "sign", sign
            elif quoted is not None:
                yield "value", quoted
            else:
                yield ("word", word) if word else ("value", int(number))

    items = [*tokens(), ("sign", "end")]

    def message(place: int, end: str) -> tuple[dict[str, Any], int]:
        fields: dict[str, Any] = {}
        while items[place] != ("sign", end):
            kind, name = items[place]
            assert kind == "word", f"expected a field, got {name!r}"
            assert name not in fields, f"{name} is there twice"
            colon = items[place + 1] == ("sign", ":")
            fields[name], place = value(place + (2 if colon else 1), colon)
        return fields, place + 1

    def value(place: int, colon: bool) -> tuple[Any, int]:
        kind, found = items[place]
        if (kind, found) == ("sign", "{"):
            return message(place + 1, "}")
        if (kind, found) == ("sign", "["):
            values, place = [], place + 1
            while items[place] != ("sign", "]"):
                item, place = value(place, colon)
                values.append(item)
                if items[place] == ("sign", ","):
                    place += 1
                    assert items[place] != ("sign", "]"), "a comma before the end of a list"
                else:
                    assert items[place] == ("sign", "]"), "expected a comma between the items of a list"
            return values, place + 1
        assert kind != "sign", f"expected a value, got {found!r}"
        assert colon, f"{found!r} needs a colon"
        return found, place + 1

    return message(0, "end")[0]


@pytest.mark.parametrize("text", ["a 3", "a: [ 1 2 ]", "a: [ 1, ]", "a: {", "a: 1 a: 2", "a: 'x'", "3: 4"])
def test_read_text_format__refuses_what_is_none(text: str) -> None:
    with pytest.raises((AssertionError, IndexError)):
        read_text_format(text)


def test_write_triton__what_the_config_says(bundle: Path, tmp_path: Path) -> None:
    files = write_triton(Bundle(bundle), tmp_path, model=None, max_batch=4, name=None)
    names = [file.relative_to(tmp_path).as_posix() for file in files]
    assert names == [
        "tiny/1/model.onnx",
        "tiny/config.pbtxt",
        "tiny/head.safetensors",
        "tiny/labels.txt",
        "tiny/preprocess.json",
    ]
    assert read_text_format((tmp_path / "tiny/config.pbtxt").read_text()) == {
        "name": "tiny",
        "platform": "onnxruntime_onnx",
        "max_batch_size": 4,
        "input": [{"name": "image", "data_type": "TYPE_FP32", "dims": [3, 32, 32]}],
        "output": [
            {"name": "embedding", "data_type": "TYPE_FP32", "dims": [16]},
            {
                "name": "probabilities",
                "data_type": "TYPE_FP32",
                "dims": [6],
                "label_filename": "labels.txt",
            },
        ],
        "dynamic_batching": {},
    }


def test_write_triton__the_model_gives_what_the_predictor_says(
    bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    write_triton(Bundle(bundle), tmp_path, model="model.onnx", max_batch=4, name="solids-1")
    config = read_text_format((tmp_path / "solids-1/config.pbtxt").read_text())
    session: Any = onnxruntime.InferenceSession(
        tmp_path / "solids-1/1/model.onnx", providers=["CPUExecutionProvider"]
    )
    for told, found in zip(
        config["input"] + config["output"], [*session.get_inputs(), *session.get_outputs()], strict=True
    ):
        assert (told["name"], told["dims"]) == (found.name, list(found.shape[1:]))
        assert found.type == "tensor(float)"
        assert isinstance(found.shape[0], str)
    labels = (tmp_path / "solids-1/labels.txt").read_text(encoding="utf-8").splitlines()
    with Predictor.open(bundle, threads=1) as predictor:
        inputs = np.stack([predictor.preprocess(image) for image in map(open_image, photos[:3])])
        embeddings, shares = session.run(None, {"image": inputs})
        np.testing.assert_allclose(embeddings, predictor.embed(photos[:3], batch_size=3), atol=1e-5)
        for row, prediction in zip(shares, predictor.predict(photos[:3], top_k=6), strict=True):
            assert dict(zip(labels, row, strict=True)) == pytest.approx(dict(prediction.labels), abs=1e-5)


def test_with_head__class_scores_need_a_softmax_only(bundle: Path) -> None:
    model = onnx.load(bundle / "model.onnx")
    before = len(model.graph.node)
    labels = tuple(map(str, range(16)))
    made = onnx.load_from_string(with_head(model, ClassifierHead(labels, tuple(range(16)), 16)))
    assert len(made.graph.node) == before + 1
    assert made.graph.node[-1].op_type == "Softmax"


@pytest.fixture
def planned(parts: BundleParts, tmp_path: Path) -> Callable[..., Bundle]:
    """Return a bundle with a plan whose sidecar says this; the plan's bytes are never loaded."""

    def make(**sidecar: Any) -> Bundle:
        plan, told = tmp_path / "p.engine", tmp_path / "p.json"
        plan.write_bytes(b"plan")
        always = {"compute_capabilities": ["8.7"], "status": "built, not run here"}
        told.write_text(json.dumps(always | sidecar))
        write_bundle(tmp_path / "b", replace(parts, engines=[plan, told]))
        return Bundle(tmp_path / "b")

    return make


def test_write_triton__a_plan(planned: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle = planned(engine="tensorrt", settings={"batch": [1, 8]})
    write_triton(bundle, tmp_path / "repo", model="engines/p.engine", max_batch=8, name=None)
    assert (tmp_path / "repo/tiny/1/model.plan").read_bytes() == b"plan"
    config = read_text_format((tmp_path / "repo/tiny/config.pbtxt").read_text())
    assert config["platform"] == "tensorrt_plan"
    assert [output["name"] for output in config["output"]] == ["embedding"]
    with pytest.raises(UsageError, match="takes 8 images at most, not 16"):
        write_triton(bundle, tmp_path / "repo", model="engines/p.engine", max_batch=16, name=None)


def test_write_triton__what_is_refused(planned: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle, repo = planned(engine="tensorrt_rtx"), tmp_path / "repo"
    with pytest.raises(UsageError, match="this one is of TensorRT-RTX"):
        write_triton(bundle, repo, model="engines/p.engine", max_batch=1, name=None)
    for name in ("../evil", "a/b", "", ".x"):
        with pytest.raises(UsageError, match="cannot be the name of a model"):
            write_triton(bundle, repo, model=None, max_batch=1, name=name or " ")
    with pytest.raises(BundleError, match="is not in the manifest"):
        write_triton(bundle, repo, model="gone.onnx", max_batch=1, name=None)
    assert not repo.exists()
