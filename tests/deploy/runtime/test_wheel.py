"""What a device installs: the wheel in a fresh environment, by every Python that is found on the PATH."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeproof_deploy.runtime.predictor import Predictor

ROOT = Path(__file__).parents[3]
ON_THE_DEVICE = ("numpy", "pillow", "onnxruntime")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


OTHERS = [pytest.param(f"python3.{minor}", marks=pytest.mark.slow) for minor in (10, 12, 13)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (found,) = folder.glob("edgeproof-*.whl")
    return found


def usable(name: str) -> Path:
    """Return a Python by its name; a starter of a version manager may stand for one that is not there."""
    found = shutil.which(name)
    if found is None or subprocess.run([found, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"there is no {name} on the PATH")
    return Path(found)


@pytest.mark.integration
@pytest.mark.parametrize("name", [sys.executable, *OTHERS], ids=lambda name: Path(name).name)
def test_wheel__predicts_where_there_are_only_numpy_pillow_and_onnxruntime(
    bundle: Path, photos: list[Path], tmp_path: Path, wheel: Path, name: str
) -> None:
    run(usable(name), "-m", "venv", "device", cwd=tmp_path)
    python = tmp_path / "device/bin/python"
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    run(*pip, *ON_THE_DEVICE, cwd=tmp_path)
    run(*pip, "--no-deps", wheel, cwd=tmp_path)
    installed = json.loads(run(python, "-m", "pip", "list", "--format", "json", cwd=tmp_path))
    assert not {"torch", "pydantic", "typer", "rich"} & {package["name"] for package in installed}

    command = (python, "-W", "error", "-m", "edgeproof_deploy.runtime", bundle, *photos[:3], "--json")
    found = json.loads(run(*command, "--threads", "1", cwd=tmp_path))["predictions"]
    expected = Predictor.open(bundle, threads=1).predict(photos[:3])
    assert [item["path"] for item in found] == [item.path for item in expected]
    for item, here in zip(found, expected, strict=True):
        assert [label["label"] for label in item["labels"]] == [label for label, _ in here.labels]
        values = [label["probability"] for label in item["labels"]]
        assert values == pytest.approx([value for _, value in here.labels], abs=1e-5)

    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    done = subprocess.run([*command[:6], broken], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "broken.jpg: is not an image" in done.stderr
