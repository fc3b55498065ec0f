"""What verification leaves for the report of objects."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tests.configs.small_objects import draw_objects, object_recipe

from edgeproof.ship import ship
from edgeproof_benchmarks.report_data import load_report_data

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a reported run on small objects."""
    folder = tmp_path_factory.mktemp("objects")
    run = folder / "run"
    recipe = object_recipe(folder, draw_objects(folder / "data"))
    assert ship(str(recipe), overrides=[], run=run, until="report", device="cpu") == 0
    return run


def test_retrieval_pictures__agree_with_the_rows(run: Path) -> None:
    found = json.loads((run / "verify" / "retrieval.json").read_text())
    rows = {row["form"]: row["metrics"] for row in json.loads((run / "result.json").read_text())["rows"]}
    assert found["form"] == "onnxruntime fp32"
    assert set(found["figures"]) == {"teacher", "onnxruntime fp32"}
    for suffix, protocol in (("", "all"), ("_seen", "seen"), ("_unseen", "unseen")):
        told = found["figures"]["teacher"][protocol]["standard"]
        for name in ("map", "ndcg", "anmrr", "nn"):
            assert told[name] == pytest.approx(rows["teacher"][f"{name}{suffix}"], abs=1e-6)
    change = found["differences"]["all"]
    both = [found["figures"][model]["all"]["standard"]["map"] for model in ("teacher", found["form"])]
    assert change["delta"] == pytest.approx(both[1] - both[0])
    assert len(found["curves"][found["form"]]["osmn40"]) == 11


def test_retrieval_pictures__rankings_are_of_the_nearest_objects(run: Path) -> None:
    found = json.loads((run / "verify" / "retrieval.json").read_text())
    assert len(found["rankings"]) == 8
    for one in found["rankings"]:
        query, nearest = one["query"], one["nearest"]
        cosines = [near["cosine"] for near in nearest]
        assert cosines == sorted(cosines, reverse=True)
        assert query["path"] not in [near["path"] for near in nearest]
        assert query["seen"] == (query["class"] in ("blue", "green"))
        for near in nearest:
            assert near["right"] == (near["class"] == query["class"])
            assert near["path"].split("/")[0] == near["class"]
            Image.open(io.BytesIO(base64.b64decode(near["thumbnail"]))).verify()


def test_retrieval_pictures__are_on_the_page(run: Path) -> None:
    page = (run / "report" / "report.html").read_text()
    assert "<h2>Retrieval</h2>" in page
    assert "Nearest objects" in page
    assert "t-SNE" in page
    data = load_report_data(run)
    assert data.retrieval is not None
    assert data.retrieval.views == 4


@pytest.mark.slow
def test_retrieval_pictures__with_a_gallery_of_its_own(tmp_path: Path) -> None:
    root = draw_objects(tmp_path / "all", objects=8)
    for folder in sorted(root.glob("*/*")):
        number = int(folder.name[-1])
        part = "test" if number < 2 else "gallery" if number < 4 else "train"
        if part == "train" and folder.parent.name in ("red", "sand"):
            continue
        shutil.move(folder, tmp_path / "data" / part / folder.parent.name / folder.name)
    recipe = object_recipe(tmp_path, tmp_path / "data")
    assert ship(str(recipe), overrides=[], run=tmp_path / "run", until="verify", device="cpu") == 0
    found = json.loads((tmp_path / "run" / "verify" / "retrieval.json").read_text())
    near = {near["path"] for one in found["rankings"] for near in one["nearest"]}
    assert near
    assert all(path.startswith("gallery/") for path in near)
    assert found["figures"]["teacher"]["all"]["standard"]["queries"] == 8
    assert found["gallery"] == 8
    told = json.loads((tmp_path / "run" / "verify" / "parity.json").read_text())["pairs"]
    teacher = next(pair for pair in told if pair["reference"] == "teacher")["ranking"]["image_to_image"]
    for side, model in (("reference", "teacher"), ("candidate", found["form"])):
        expected = found["figures"][model]["all"]["standard"]["map"]
        assert teacher["map"][side] == pytest.approx(expected, abs=1e-6)
