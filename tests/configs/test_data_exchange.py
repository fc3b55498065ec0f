from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeproof.__main__ import main
from edgeproof.data_exchange import parts_of_folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for kind in ("owl", "fox"):
        for number in range(6):
            file = root / kind / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file)
    return root


def test_export__folder_to_shards(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "export", str(photos), str(tmp_path / "out"), "--shards", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"images": {"train": 12}, "embeddings": None, "shards": 3}
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as archive:
        assert len([name for name in archive.getnames() if name.endswith(".png")]) == 5
    assert (tmp_path / "out" / "classes.txt").read_text() == "fox\nowl\n"


def test_export_and_import__a_table_comes_back_as_a_manifest(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("pyarrow")
    table = tmp_path / "rows.parquet"
    assert main(["data", "export", str(photos), str(table)]) == 0
    assert main(["data", "import", str(table), str(tmp_path / "m.csv"), "--root", str(photos)]) == 0
    lines = (tmp_path / "m.csv").read_text().splitlines()
    assert lines[0] == "path,part,label"
    assert len(lines) == 13
    assert sorted(path.name for path in tmp_path.glob("m.*")) == ["m.csv"]
    assert "12 train" in capsys.readouterr().out
    assert main(["data", "import", str(table), str(tmp_path / "m.csv"), "--root", str(photos)]) == 2


def test_import__says_where_paths_start_from_anywhere(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(photos)
    (photos / "rows.csv").write_text("path,kind\nowl/0.png,owl\n")
    assert main(["data", "import", "rows.csv", str(tmp_path / "m.csv"), "--label-column", "kin"]) == 2
    assert "do: say --label-column with one of these" in capsys.readouterr().err
    assert main(["data", "import", "rows.csv", str(tmp_path / "m.csv"), "--label-column", "kind"]) == 0
    told = capsys.readouterr().out
    assert f"data.root={photos} " in told
    assert "1 train, 1 class\n" in told


def test_import__captions_go_beside(photos: Path, tmp_path: Path):
    source = photos / "rows.jsonl"
    rows = [{"path": f"owl/{n}.png", "caption": ["a", "b, c"], "label": "owl"} for n in range(6)]
    source.write_text("\n".join(map(json.dumps, rows)))
    assert main(["data", "import", str(source), str(tmp_path / "m.csv"), "--test", "0.5"]) == 0
    assert (tmp_path / "m.captions.csv").read_text().splitlines()[1:3] == ["owl/0.png,a", 'owl/0.png,"b, c"']
    assert (tmp_path / "m.csv").read_text().count(",test,") == 3


def test_parts_of_folder__has_its_own_parts(photos: Path):
    (photos / "owl").rename(photos / "test")
    (photos / "fox").rename(photos / "train")
    assert [(part.name, len(part.images)) for part in parts_of_folder(photos)] == [("train", 6), ("test", 6)]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["export", "PHOTOS", "OUT/x.txt"], 2, "--shards 1000 for shards"),
        (["export", "PHOTOS", "OUT/x.parquet", "--dtype", "int8"], 2, "unknown --dtype"),
        (["export", "PHOTOS", "OUT/x.parquet", "--part", "val"], 2, "there is no part 'val'"),
        (["export", "PHOTOS", "OUT/x.parquet", "--set", "name=x"], 2, "--set has no effect"),
        (["export", "PHOTOS", "PHOTOS", "--shards", "4"], 2, "holds something else"),
        (["export", "PHOTOS", "PHOTOS/owl/0.png", "--shards", "4"], 2, "this is a file"),
        (["import", "PHOTOS", "OUT/m.txt"], 2, "do: say OUT/m.csv"),
        (["import", "OUT/none.csv", "OUT/m.csv"], 1, "correct the path"),
        (["import", "PHOTOS/owl/0.png", "OUT/m.csv"], 2, "a list of paths becomes a csv"),
    ],
)
def test_commands__refusals(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
):
    real = [word.replace("PHOTOS", str(photos)).replace("OUT", str(tmp_path)) for word in words]
    assert main(["data", *real]) == code
    error = capsys.readouterr().err
    assert said.replace("OUT", str(tmp_path)) in error
    assert len(error.strip().splitlines()) <= 3
