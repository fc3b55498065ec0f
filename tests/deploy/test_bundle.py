from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from edgeproof_configs.errors import EdgeproofError
from edgeproof_deploy.bundle import BundleParts, replaced_folder, verify_bundle, write_bundle
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_deploy.runtime.preprocess import Preprocess


def contents(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }


def test_write_bundle__what_is_in_it(bundle: Path, parts: BundleParts) -> None:
    assert verify_bundle(bundle) == 9
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["schema_version"] == 1
    assert manifest["name"] == "tiny"
    assert manifest["verdict"] == "Ship it."
    assert manifest["recipe"] == {"name": "tiny"}
    assert set(manifest["files"]) == set(contents(bundle)) - {"manifest.json"}
    read = json.loads((bundle / "preprocess.json").read_text())
    assert Preprocess.from_dict(read) == parts.preprocess
    readme = (bundle / "README.md").read_text()
    assert "python -m edgeproof_deploy.runtime" in readme
    assert "Ship it." in readme
    assert all(f"`{name}`" in readme for name in manifest["files"] if name != "README.md")
    plan = "a TensorRT-RTX plan for compute capability 8.6, built, not run here: there is no driver"
    assert f"| `engines/tensorrt_rtx-fp32-sm86.engine` | {plan} |" in readme


def test_write_bundle__the_same_parts_give_the_same_bytes(
    bundle: Path, parts: BundleParts, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "again", parts, tar=tmp_path / "again.tar")
    assert contents(tmp_path / "again") == contents(bundle)
    assert (tmp_path / "again.tar").read_bytes() == bundle.with_suffix(".tar").read_bytes()


def test_write_bundle__the_tar_unpacks_to_the_bundle(bundle: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "xf", bundle.with_suffix(".tar"), "-C", tmp_path], check=True)
    assert contents(tmp_path / "tiny") == contents(bundle)
    assert verify_bundle(tmp_path / "tiny") == verify_bundle(bundle.with_suffix(".tar"))


def test_write_bundle__replaces_what_was_there(parts: BundleParts, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    write_bundle(folder, parts)
    (folder / "left over").write_text("x")
    files = write_bundle(folder, replace(parts, report=None, engines=[]))
    assert sorted(contents(folder)) == sorted(file.relative_to(folder).as_posix() for file in files)
    assert not (folder / "report.html").exists()
    assert [place.name for place in tmp_path.iterdir()] == ["b"]
    Predictor.open(folder).close()


def test_write_bundle__a_missing_part(parts: BundleParts, tmp_path: Path) -> None:
    with pytest.raises(EdgeproofError, match=r"a part of the bundle is missing: .*gone\.html"):
        write_bundle(tmp_path / "b", replace(parts, report=tmp_path / "gone.html"))
    assert not list(tmp_path.iterdir())


def test_write_bundle__facts_that_clash_with_the_manifest(parts: BundleParts, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="own keys"):
        write_bundle(tmp_path / "b", replace(parts, facts={"files": {}}))


def test_write_bundle__full_disk_leaves_the_old_bundle(
    bundle: Path, parts: BundleParts, small_disk: Path
) -> None:
    old = small_disk / "b"
    old.mkdir()
    (old / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes())
    with pytest.raises(EdgeproofError, match="cannot write: No space left on device"):
        write_bundle(old, parts)
    assert list(contents(small_disk)) == ["b/manifest.json"]
    with pytest.raises(EdgeproofError, match="cannot write: No space left on device"):
        write_bundle(small_disk.parent / "whole", parts, tar=small_disk / "b.tar")
    assert list(contents(small_disk)) == ["b/manifest.json"]


def test_replaced_folder__a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "old").touch()

    def interrupted() -> None:
        with replaced_folder(folder) as building:
            (building / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(contents(tmp_path)) == ["x/old"]


def test_replaced_folder__leftovers_of_a_killed_process_are_cleared(tmp_path: Path) -> None:
    for name in (".x.new", ".x.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    with replaced_folder(tmp_path / "x") as building:
        (building / "whole").touch()
    assert list(contents(tmp_path)) == ["x/whole"]


def test_verify_bundle__a_change_is_named(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    (copy / "report.html").write_text("<html>REPORT</html>")
    with pytest.raises(EdgeproofError, match=r"report\.html: was changed: its sha256") as caught:
        verify_bundle(copy)
    assert caught.value.exit_code == 1
    assert caught.value.where == str(copy)
    with pytest.raises(EdgeproofError, match="there is no bundle"):
        verify_bundle(tmp_path / "nothing")
