"""`verify` of bundles and recipes: what is printed, what is written, the exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.deploy.bundles import make_bundle, make_damaged_bundle, write_photos

from edgeproof.__main__ import main
from edgeproof_deploy.runtime.cuda_device import why_no_cuda

HERE = ("--engine", "onnxruntime", "--threads", "1")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


def verify(*arguments: object) -> int:
    return main(["verify", *(str(argument) for argument in arguments)])


def test_verify__a_bundle_in_an_engine(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(bundle, *HERE) == 0
    out = capsys.readouterr().out
    assert "files are those of the manifest, by size and sha256" in out
    assert "compared on 4 photos and 7 drawn images that the bundle carries" in out
    assert "pass  model.onnx when made -> onnxruntime fp32: cosine min 1.000000" in out
    assert "when it was made: Ship it." in out


def test_verify__a_drifted_bundle_fails_and_every_report_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    drifted = make_damaged_bundle(tmp_path / "käse")
    assert verify(drifted, *HERE, "--junit", tmp_path / "out" / "parity.xml", "--github", "--bisect") == 3
    out, err = capsys.readouterr()
    assert "model.onnx when made -> onnxruntime fp32: cosine is " in err
    assert len(err.splitlines()) <= 3
    assert "fail  model.onnx when made -> onnxruntime fp32" in out
    assert "::error title=edgeproof%3A cosine::model.onnx when made" in out
    assert "bisect: model.onnx: onnxruntime unoptimised and onnxruntime agree at every node" in out
    root = ElementTree.parse(tmp_path / "out" / "parity.xml").getroot()
    assert root.attrib["name"] == "parity of käse"
    assert int(root.attrib["failures"]) == len(root.findall(".//failure")) == 2
    assert "| cosine |" in (tmp_path / "summary.md").read_text()


def test_verify__on_images(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(tmp_path / "mine", 9)
    assert verify(bundle, *HERE, "--images", tmp_path / "mine", "--strict") == 0
    out = capsys.readouterr().out
    assert "9 images of" in out
    assert "pass  onnxruntime unoptimised fp32 -> onnxruntime fp32" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--images", "nowhere"), 2, "no such folder of images"),
        (("--set", "a=1"), 2, "--set has no effect on a bundle"),
        (("--engine", "openvin"), 2, "'openvin' is none of the engines of a bundle: onnxruntime, "),
        (("--engine", "pytorch"), 2, "'pytorch' is none of the engines of a bundle: onnxruntime, "),
        pytest.param(
            ("--engine", "tensorrt_rtx", "--engine", "onnxruntime_cuda"),
            5,
            "no model of the bundle runs in tensorrt_rtx, onnxruntime_cuda here: ",
            marks=pytest.mark.skipif(why_no_cuda() is None, reason="this machine has a CUDA device"),
        ),
    ],
)
def test_verify__what_cannot_be_done(
    arguments: tuple[str, ...],
    code: int,
    words: str,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert verify(bundle, *arguments) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--images", "x"), ("--engine", "openvino"), ("--rebuild",)])
def test_verify__options_of_bundles_are_refused_for_recipes(
    option: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify("quickstart", *option) == 2
    assert f"{option[0]} has no effect on a recipe" in capsys.readouterr().err


@pytest.mark.integration
def test_verify__a_recipe_writes_reports_whether_gates_hold_or_not(
    shipped: Path,
    photo_recipe: Path,
    edgeproof: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
) -> None:
    junit = tmp_path / "parity.xml"
    code, out, _ = edgeproof("verify", photo_recipe, "--run", shipped, "--junit", junit, "--bisect")
    assert code == 0
    assert "bisect: model.onnx: onnxruntime unoptimised and onnxruntime agree" in out
    names = {suite.attrib["name"] for suite in ElementTree.parse(junit).getroot().findall("testsuite")}
    assert {"preprocessing", "pytorch fp32 -> onnxruntime fp32"} <= names
    copy = Path(shutil.copytree(shipped, tmp_path / "run"))
    # No two engines give the same to the last bit.
    setting = ("--set", "gates={cosine: 1.0}")
    assert edgeproof("ship", photo_recipe, "--run", copy, "--from", "verify", *setting)[0] == 3
    code, _, err = edgeproof("verify", photo_recipe, "--run", copy, *setting, "--junit", junit)
    failed = ElementTree.parse(junit).getroot().findall(".//failure")
    assert code == 3
    assert "cosine is" in err
    assert "pytorch fp32 -> onnxruntime fp32: cosine is" in failed[0].attrib["message"]


@pytest.mark.integration
def test_ship__the_bundle_carries_a_self_test_and_parity_says_everything(
    shipped: Path, edgeproof: Callable[..., tuple[int, str, str]]
) -> None:
    bundle = shipped / "bundle"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert "self_test/outputs.safetensors" in manifest["files"]
    parity = json.loads((bundle / "parity.json").read_text())
    exported = next(pair for pair in parity["pairs"] if pair["candidate"] == "onnxruntime fp32")
    assert len(exported["edges"]) == 12
    assert {"edge_finite", "edge_cosine"} <= {gate["name"] for gate in exported["gates"]}
    assert {"top1", "mean_per_class"} <= set(exported["intervals"])
    assert exported["retrieval"]["image_to_index"]["queries"] > 0
    assert parity["claims"] == []
    code, out, _ = edgeproof("verify", bundle, "--strict", "--engine", "onnxruntime")
    assert code == 0, out
    assert "compared on" in out
