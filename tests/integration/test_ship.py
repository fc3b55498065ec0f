"""The whole chain on a tiny recipe: what it leaves, what it skips, what it refuses, how it goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.integration.tiny import make_data, make_recipe

from edgeproof.ship import engines_here
from edgeproof_data.cache import EmbeddingCache

pytestmark = pytest.mark.integration

ENGINES = ["onnxruntime", *(["openvino"] if find_spec("openvino") else []), "tensorrt_rtx"]
Shipped = tuple[Path, Path]


def edgeproof(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "edgeproof", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """Return a recipe and the run that shipped it."""
    folder = tmp_path_factory.mktemp("ship")
    deploy = {"batch": [1, 2], "engines": ENGINES, "engines_if_here": ["tensorrt"]}
    recipe = make_recipe(folder, make_data(folder / "data"), deploy=deploy)
    run = folder / "run"
    done = edgeproof("ship", recipe, "--run", run)
    assert done.returncode == 0, done.stderr
    return recipe, run


@pytest.fixture
def copied(shipped: Shipped, tmp_path: Path) -> Shipped:
    """Return the recipe and a copy of the run, times of files kept."""
    shutil.copytree(shipped[1], tmp_path / "run")
    return shipped[0], tmp_path / "run"


def test_ship__leaves_every_artefact(shipped: Shipped) -> None:
    run = shipped[1]
    for name in ("recipe.resolved.yaml", "environment.json", "metrics.jsonl", "result.json"):
        assert (run / name).stat().st_size
    bundle = run / "bundle"
    for name in (
        "manifest.json",
        "model.onnx",
        "head.safetensors",
        "labels.txt",
        "preprocess.json",
        "parity.json",
        "report.html",
        "README.md",
    ):
        assert (bundle / name).stat().st_size, name
    sidecar = json.loads((bundle / "engines" / "tensorrt_rtx-fp32-sm86.json").read_text())
    assert sidecar["status"] == "built, not run here"
    assert (bundle / "engines" / sidecar["plan"]).stat().st_size > 10_000


def test_ship__an_engine_that_cannot_build_here_is_refused_before_anything_is_trained(
    shipped: Shipped, tmp_path: Path
) -> None:
    if find_spec("tensorrt"):
        pytest.skip("tensorrt is installed here")
    settings = ("--set", "deploy.engines=[tensorrt]", "--set", "deploy.engines_if_here=[]")
    done = edgeproof("ship", shipped[0], "--run", tmp_path / "run", *settings)
    assert done.returncode == 5
    assert "engine tensorrt: package tensorrt is not installed" in done.stderr
    assert not (tmp_path / "run" / "train").exists()


def test_ship__an_engine_that_was_asked_for_if_here_is_left_out_with_the_reason(shipped: Shipped) -> None:
    if find_spec("tensorrt"):
        pytest.skip("tensorrt is installed here")
    result = json.loads((shipped[1] / "result.json").read_text())
    (note,) = [note for note in result["notes"] if note.startswith("tensorrt: ")]
    assert note.startswith("tensorrt: not built, package tensorrt is not installed")
    assert "tensorrt: not built" in (shipped[1] / "report" / "report.html").read_text(encoding="utf-8")


def test_engines_here__are_those_that_run() -> None:
    wanted = ["pytorch", *([] if find_spec("tensorrt") else ["tensorrt"])]
    assert engines_here({"deploy": {"engines": ["onnxruntime"], "engines_if_here": wanted}}) == ["pytorch"]
    assert engines_here({"deploy": {"engines": ["onnxruntime"]}}) == []


def test_ship__result_has_a_row_for_each_form(shipped: Shipped) -> None:
    result = json.loads((shipped[1] / "result.json").read_text())
    rows = {(row["form"], row["engine"]): row for row in result["rows"]}
    assert set(rows) == {("teacher", ""), *(("student", engine) for engine in ("pytorch", *ENGINES))}
    assert rows["teacher", ""]["metrics"]["top1"] == 1.0
    for engine in set(ENGINES) - {"tensorrt_rtx"}:
        assert rows["student", engine]["latency_ms"]["batch1"]["p50"] > 0
        assert rows["student", engine]["status"] == "run here"
        assert {gate["status"] for gate in rows["student", engine]["gates"]} == {"pass"}
    assert rows["student", "tensorrt_rtx"]["status"] == "built, not run here"
    assert {row["form"] for row in result["controls"]} == {"chance", "untrained student", "baseline"}
    assert result["view"] == "assume_invariant"


def test_ship__again_does_nothing_and_needs_no_torch(shipped: Shipped) -> None:
    recipe, run = shipped
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.is_file()}
    code = (
        "import sys, builtins, hashlib\n"
        "from edgeproof_configs import files\n"
        "def refuse(path): raise SystemExit(f'hashed {path}')\n"
        "files.sha256_of = refuse\n"
        "from edgeproof.ship import ship\n"
        "from pathlib import Path\n"
        f"ship({str(recipe)!r}, overrides=[], run=Path({str(run)!r}))\n"
        "sys.exit(3 if 'torch' in sys.modules else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to do" in done.stdout
    after = {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.is_file()}
    assert {f for f in after if f.name != ".lock" and after[f] != before.get(f)} == set()


def test_ship__redoes_a_stage_whose_output_is_gone(copied: Shipped) -> None:
    recipe, run = copied
    (run / "export" / "model.onnx").unlink()
    done = edgeproof("ship", recipe, "--run", run)
    assert done.returncode == 0, done.stderr
    assert "train     up to date" in done.stdout
    assert "export    up to date" not in done.stdout
    assert (run / "export" / "model.onnx").exists()


def test_ship__refuses_other_settings_and_names_them(copied: Shipped) -> None:
    recipe, run = copied
    done = edgeproof("ship", recipe, "--run", run, "--set", "train.epochs=1")
    assert done.returncode == 2
    assert "train.epochs: 2 -> 1" in done.stderr
    assert "--run DIR" in done.stderr
    assert "--from baseline" in done.stderr


def test_ship__from_a_stage_takes_other_settings(copied: Shipped) -> None:
    recipe, run = copied
    done = edgeproof("ship", recipe, "--run", run, "--set", "bench.seconds=0.06", "--from", "bench")
    assert done.returncode == 0, done.stderr
    assert "verify    up to date" in done.stdout
    assert json.loads((run / "result.json").read_text())["rows"]


def test_ship__refuses_a_second_process(copied: Shipped) -> None:
    from edgeproof_configs.run import RunDir

    recipe, run = copied
    with RunDir(run).lock():
        done = edgeproof("ship", recipe, "--run", run)
    assert done.returncode == 2
    assert f"pid {os.getpid()}" in done.stderr


def test_ship__refuses_a_folder_that_is_no_run(shipped: Shipped, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = edgeproof("ship", shipped[0], "--run", tmp_path)
    assert done.returncode == 2
    assert "something else than a run" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_ship__a_failed_gate_exits_3_with_a_report_and_no_bundle(copied: Shipped) -> None:
    recipe, run = copied
    done = edgeproof("ship", recipe, "--run", run, "--set", "gates.teacher_drop=0.0", "--from", "verify")
    result = json.loads((run / "result.json").read_text())
    rows = {(row["form"], row["engine"]): row["metrics"] for row in result["rows"]}
    if rows["student", "pytorch"]["top1"] == 1.0:
        pytest.skip("this student is as good as its teacher: nothing to fail")
    assert done.returncode == 3
    assert "zero_shot_drop" in done.stderr
    assert (run / "report" / "report.html").exists()
    assert edgeproof("ship", recipe, "--run", run, "--set", "gates.teacher_drop=0.0").returncode == 3


def test_ship__a_failed_latency_gate_exits_4(copied: Shipped) -> None:
    recipe, run = copied
    gate = "gates.latency_p90_ms={engine: onnxruntime, batch: 1, max: 0.000001}"
    done = edgeproof("ship", recipe, "--run", run, "--set", gate, "--from", "verify")
    assert done.returncode == 4
    assert "p90 is" in done.stderr


def test_ship__unreadable_images_are_counted_and_left_out(tmp_path: Path) -> None:
    root = make_data(tmp_path / "data")
    broken = [root / "train" / "red_square" / "a.00.png", root / "test" / "blue_square" / "a.00.png"]
    broken[0].write_bytes(b"")
    broken[1].write_bytes(broken[1].read_bytes()[:60])
    done = edgeproof("head", make_recipe(tmp_path, root), "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "2 unreadable ones left out" in done.stdout
    listed = (tmp_path / "run" / "embed" / "corrupt.csv").read_text()
    assert "red_square/a.00.png" in listed
    assert "blue_square/a.00.png" in listed


def cut_labels(root: Path) -> None:
    (root / "labels.txt").write_text("cat\ndog\nmouse\n")


def narrow_text(root: Path) -> None:
    import numpy as np

    np.save(root / "text.npy", np.load(root / "text.npy")[:, :8])


def one_class(root: Path) -> None:
    for split in ("train", "test"):
        for name in ("blue_square", "green_square"):
            shutil.rmtree(root / split / name)


def no_images(root: Path) -> None:
    for file in root.rglob("*.png"):
        file.unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (cut_labels, "none of the 3 classes"),
        (narrow_text, "text embeddings have 8 values"),
        (one_class, "one class"),
        (no_images, "no image"),
    ],
)
def test_ship__bad_data_is_explained(tmp_path: Path, harm: Callable[[Path], None], words: str) -> None:
    root = make_data(tmp_path / "data")
    harm(root)
    done = edgeproof("embed", make_recipe(tmp_path, root), "--run", tmp_path / "run")
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3
    assert "Traceback" not in done.stderr


def test_ship__torchrun_shares_embedding_and_training(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, make_data(tmp_path / "data"), baseline=None)
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, "-m", "--", "edgeproof", "head", str(recipe), "--run", str(run)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("best epoch") == 1
    assert len(EmbeddingCache.open(run / "embed" / "train")) == 27
    assert (run / "train" / "model.safetensors").exists()
