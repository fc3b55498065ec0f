from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_data.object_trees import find_objects

Run = Callable[..., tuple[int, str, str]]

BOX = "OFF8 6 0\n" + "".join(f"{x} {y} {z}\n" for x in (0, 1) for y in (0, 2) for z in (0, 3))
FACES = "4 0 1 3 2\n4 4 5 7 6\n4 0 1 5 4\n4 2 3 7 6\n4 0 2 6 4\n4 1 3 7 5\n"


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    """Return two classes of boxes in the layout of ModelNet, one of them cut."""
    pytest.importorskip("trimesh")
    for name in ("crate/train/crate_1", "crate/test/crate_2", "plank/train/plank_1", "plank/test/plank_2"):
        file = tmp_path / "meshes" / f"{name}.off"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(BOX + FACES)
    (tmp_path / "meshes" / "plank" / "test" / "plank_3.off").write_text(BOX)
    return tmp_path / "meshes"


def test_render__what_is_broken_is_listed_and_the_rest_goes_on(
    meshes: Path, tmp_path: Path, edgeproof: Run
) -> None:
    out = tmp_path / "views"
    code, said, err = edgeproof("data", "render", meshes, out, "--size", 24, "--workers", 1)
    assert code == 1
    assert "4 meshes rendered, 12 views each" in said
    assert "1 broken: plank/test/plank_3.off (" in said
    assert "error" not in err
    with (out / "broken.csv").open(newline="") as handle:
        assert [row["path"] for row in csv.DictReader(handle)] == ["plank/test/plank_3.off"]
    stamps = {file: file.stat().st_mtime_ns for file in out.rglob("*.png")}
    assert len(stamps) == 48
    (meshes / "plank" / "test" / "plank_3.off").write_text(BOX + FACES)
    code, said, _ = edgeproof("data", "render", meshes, out, "--size", 24, "--workers", 2, "--json")
    told = json.loads(said)
    assert (code, told["rendered"], told["there_already"], told["broken"]) == (0, 1, 4, {})
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps
    found = find_objects(out)
    assert found.layout == "modelnet"
    assert [(item.path, item.part, len(item.views)) for item in found.objects] == [
        ("crate/test/crate_2", "test", 12),
        ("crate/train/crate_1", "train", 12),
        ("plank/test/plank_2", "test", 12),
        ("plank/test/plank_3", "test", 12),
        ("plank/train/plank_1", "train", 12),
    ]


def test_render__a_killed_run_leaves_nothing_half(meshes: Path, tmp_path: Path, edgeproof: Run) -> None:
    out = tmp_path / "views"
    edgeproof("data", "render", meshes, out, "--size", 16, "--views", 20, "--workers", 1)
    half = out / "crate" / "train" / ".rendering-abc"
    half.mkdir()
    (half / "00.png").write_bytes(b"cut")
    assert edgeproof("data", "render", meshes, out, "--size", 16, "--views", 20, "--workers", 1)[0] == 1
    assert not half.exists()
    assert len(list((out / "crate" / "train" / "crate_1").iterdir())) == 20


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--size", 32), 2, "these views were rendered otherwise: size 24"),
        (("--views", 20), 2, "these views were rendered otherwise: views 12"),
        (("--views", 13), 2, "--views 13: expected 12 or 20"),
        (("--up", "w"), 2, "--up w: expected auto, x, y, z"),
    ],
)
def test_render__refused_in_words(
    words: tuple[object, ...], code: int, message: str, meshes: Path, tmp_path: Path, edgeproof: Run
) -> None:
    out = tmp_path / "views"
    out.mkdir()
    (out / "render.json").write_text('{"version": 1, "views": 12, "size": 24, "up": "auto"}')
    given = words if "--size" in words else (*words, "--size", 24)
    got, _, err = edgeproof("data", "render", meshes, out, *given)
    assert got == code
    assert message in err


def test_render__nothing_to_render_or_not_there_to_put_it(
    meshes: Path, tmp_path: Path, edgeproof: Run
) -> None:
    (tmp_path / "none").mkdir()
    code, _, err = edgeproof("data", "render", tmp_path / "none", tmp_path / "out")
    assert (code, "this folder holds no mesh" in err) == (1, True)
    assert edgeproof("data", "render", tmp_path / "gone", tmp_path / "out")[0] == 2
    code, _, err = edgeproof("data", "render", meshes, meshes)
    assert (code, "this folder holds something else" in err) == (2, True)
    (meshes / "crate" / "train" / "crate_1.obj").write_text("v 0 0 0\n")
    code, _, err = edgeproof("data", "render", meshes, tmp_path / "out")
    assert (code, "views would lie in one folder: crate/train/crate_1" in err) == (1, True)


def test_render__without_trimesh(
    meshes: Path, tmp_path: Path, edgeproof: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trimesh", None)
    code, _, err = edgeproof("data", "render", meshes, tmp_path / "out", "--workers", 1)
    assert code == 5
    assert "edgeproof[data]" in err
