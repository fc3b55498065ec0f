"""Objects with several views: shipped with a gallery, and asked about by folders of views from outside."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.train.object_case import COLOURS, make_objects, make_recipe

from edgeproof.__main__ import main
from edgeproof_deploy.runtime.predictor import Predictor

pytestmark = pytest.mark.integration

DEPLOY = {"batch": [1, 2], "engines": ["onnxruntime"], "self_test_images": 6}
BENCH = {"seconds": 0.05, "warmup_seconds": 0.01, "threads": 1}
Shipped = tuple[Path, Path]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """Return the data, and the run that shipped a student of them with a gallery of the training objects."""
    folder = tmp_path_factory.mktemp("views")
    root = make_objects(folder / "data")
    compress = {"quantization": {"method": "ptq", "images": 16}}
    # A student of three epochs may lose to rounding what it pleases: what is tested is that it is told.
    gates = {"agreement": 0.0, "cosine": 0.5, "zero_shot_drop": 1.0, "map_drop": 1.0}
    recipe = make_recipe(folder, root, deploy=DEPLOY, bench=BENCH, compress=compress, gates=gates)
    assert main(["ship", str(recipe), "--run", str(folder / "run")]) == 0
    return root, folder / "run"


def plain(file: Path) -> Any:
    return json.loads(file.read_text())


def test_ship__compares_forms_by_their_searches(shipped: Shipped) -> None:
    run = shipped[1]
    rows = {(row["engine"], row["precision"]): row for row in plain(run / "result.json")["rows"]}
    assert {("onnxruntime", "fp32"), ("onnxruntime", "int8")} <= set(rows)
    for row in rows.values():
        assert 0 < row["metrics"]["map"] <= 1
        assert row["metrics"]["queries"] == 8
    pairs = plain(run / "verify" / "parity.json")["pairs"]
    exported = next(pair for pair in pairs if pair["candidate"] == "onnxruntime fp32")
    gates = {gate["name"]: gate["status"] for gate in exported["gates"]}
    assert {gates[name] for name in ("map_drop", "batch_cosine", "order_cosine", "edge_finite")} == {"pass"}
    for search in ("image_to_image", "image_to_index"):
        for name in ("map", "ndcg", "anmrr"):
            found = exported["ranking"][search][name]
            assert found["candidate"] == pytest.approx(found["reference"], abs=1e-6)
            assert found["interval"][0] <= found["delta"] <= found["interval"][1]


def test_ship__the_bundle_says_that_it_looks_at_views(shipped: Shipped) -> None:
    bundle = shipped[1] / "bundle"
    assert plain(bundle / "preprocess.json")["views"] == 3
    said = (bundle / "README.md").read_text()
    assert "`views`, float32 (batch, views, 3, 32, 32)" in said
    assert "evaluated with 3" in said
    assert "Its head is a gallery" in said
    listed = [
        image for image in plain(bundle / "self_test" / "self_test.json")["images"] if not image["edge"]
    ]
    assert [len(image["views"]) for image in listed] == [3, 3]


def test_predict__a_folder_of_views_is_an_object(
    shipped: Shipped, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = shipped
    folders = [root / "test" / name / f"{name}0" for name in COLOURS]
    words = ["predict", str(run), *map(str, folders), "--json", "--top", "2"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert [one["path"] for one in found] == [str(folder) for folder in folders]
    for one in found:
        assert one["views"] == 4
        assert len(one["nearest"]) == 2
        nearest = one["nearest"][0]
        assert nearest["label"] == one["labels"][0]["label"]
        assert (root / nearest["object"]).is_dir()
        assert nearest["object"].startswith("train/")
    assert main([*words, "--engine", "pytorch"]) == 0
    again = json.loads(capsys.readouterr().out)["predictions"]
    cosines, others = ([one["nearest"][0]["cosine"] for one in told] for told in (found, again))
    # The bundle may recommend the model in INT8.
    assert cosines == pytest.approx(others, abs=0.02)


def test_predict__any_number_of_views_in_any_order(shipped: Shipped) -> None:
    root, run = shipped
    files = sorted((root / "test" / "cup" / "cup1").iterdir())
    with Predictor.open(run / "bundle") as predictor:
        whole = predictor.embed(root / "test" / "cup" / "cup1")
        turned, one, alone = (predictor.embed([some]) for some in (files[::-1], files[:1], [files[0]] * 3))
        both = predictor.predict([files[:2], files[2:], root / "test" / "owl" / "owl0"], batch_size=3)
    np.testing.assert_allclose(turned, whole, atol=1e-5)
    np.testing.assert_allclose(one, alone, atol=1e-5)
    assert not np.allclose(one, whole, atol=1e-3)
    assert [found.views for found in both] == [2, 2, 4]


def test_predict__wrong_use_is_told(
    shipped: Shipped, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = shipped
    (tmp_path / "none").mkdir()
    damaged = tmp_path / "damaged"
    shutil.copytree(root / "test" / "dog" / "dog0", damaged)
    (damaged / "9.png").write_bytes(b"no image")
    photo = root / "test" / "dog" / "dog0" / "0.png"
    asked = [tmp_path / "none", root / "test", damaged, photo]
    assert main(["predict", str(run), *map(str, asked)]) == 1
    printed = capsys.readouterr()
    assert f"{damaged} (4 views)" in printed.out
    assert f"{photo} (1 view)" in printed.out
    said = printed.err.splitlines()
    assert said[0].startswith(f"error: {tmp_path / 'none'}: holds no image file")
    assert "a folder is one object, so name each of those" in said[1]
    assert said[2].startswith(f"error: {damaged / '9.png'}: is not an image")
    assert main(["predict", str(run), str(photo), str(photo.with_name("1.png")), "--object"]) == 0
    assert f"{photo} and 1 more (2 views)" in capsys.readouterr().out
    assert main(["predict", str(run), str(damaged), "--object"]) == 2
    assert "leave --object away" in capsys.readouterr().err


def test_runtime__without_edgeproof_s_command_line(shipped: Shipped) -> None:
    root, run = shipped
    words = [sys.executable, "-m", "edgeproof_deploy.runtime", str(run / "bundle")]
    done = subprocess.run([*words, str(root / "test" / "owl" / "owl1")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nearest objects, by cosine:" in done.stdout
    tested = subprocess.run([*words, "--self-test"], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "2 objects: cosine to what it gave when it was made" in tested.stdout


def test_verify_and_bench__of_the_bundle(shipped: Shipped, capsys: pytest.CaptureFixture[str]) -> None:
    root, run = shipped
    bundle = str(run / "bundle")
    words = ["verify", bundle, "--engine", "onnxruntime", "--images", str(root / "test"), "--threads", "1"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"8 objects of {root / 'test'}, 8 of them with a label of the bundle" in said
    assert "mAP" in said
    words = ["bench", bundle, "--engine", "onnxruntime", "--seconds", "0.05", "--threads", "1", "--json"]
    assert main(words) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert set(models["onnxruntime fp32"]["phases_ms"]) == {"decode", "preprocess", "compute", "head"}


def test_head__a_gallery_of_the_test_objects_in_which_none_finds_itself(
    shipped: Shipped, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = shipped
    again = ["--run", str(run), "--from", "head", "--set", "head.of=test"]
    assert main(["ship", str(run.parent / "objects.yaml"), *again]) == 0
    for row in plain(run / "result.json")["rows"]:
        if row["form"] != "teacher":
            assert row["metrics"]["top1"] == pytest.approx(row["metrics"]["nn"])
    assert main(["evaluate", str(run)]) == 0
    scored = plain(run / "evaluate" / "test" / "metrics.json")["student"]
    shipped_row = next(row for row in plain(run / "result.json")["rows"] if row["engine"] == "pytorch")
    assert scored["top1"] == pytest.approx(shipped_row["metrics"]["top1"])
    capsys.readouterr()
    assert main(["predict", str(run), str(root / "test" / "dog" / "dog1"), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["predictions"]
    assert all(one["object"].startswith("test/") for one in found["nearest"])
