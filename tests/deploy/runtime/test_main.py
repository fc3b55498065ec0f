from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.deploy.bundles import make_bundle, make_damaged_bundle

from edgeproof_deploy.runtime.__main__ import main
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_deploy.runtime.tensorrt_package import why_not_here

RUNTIME = ("-m", "edgeproof_deploy.runtime")


def test_main__text(bundle: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(bundle), str(photos[0]), str(photos[1]), "--top", "2", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert [lines[0], lines[3]] == [str(photos[0]), str(photos[1])]
    label, share = Predictor.open(bundle, threads=1).predict(photos[:1])[0].labels[0]
    assert lines[1] == f"  {share:.3f}  {label}"


def test_main__json(bundle: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(bundle.with_suffix(".tar")), str(photos[0]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["errors"] == []
    (prediction,) = found["predictions"]
    assert prediction["path"] == str(photos[0])
    assert len(prediction["labels"]) == 5
    assert set(prediction["labels"][0]) == {"label", "probability"}


def test_main__labels_from_a_list_or_a_file(
    bundle: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some.txt").write_text("ball\na, b\n\n", encoding="utf-8")
    assert main([str(bundle), str(photos[0]), "--labels", str(tmp_path / "some.txt")]) == 0
    assert sorted(line[9:] for line in capsys.readouterr().out.splitlines()[1:]) == ["a, b", "ball"]
    assert main([str(bundle), str(photos[0]), "--labels", "ball, ring"]) == 0
    assert sorted(line[9:] for line in capsys.readouterr().out.splitlines()[1:]) == ["ball", "ring"]


def test_main__a_broken_image_is_named_and_the_others_predicted(
    bundle: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "zero.jpg").touch()
    assert main([str(bundle), str(tmp_path / "zero.jpg"), str(photos[0])]) == 1
    said = capsys.readouterr()
    assert str(photos[0]) in said.out
    assert said.err == f"error: {tmp_path / 'zero.jpg'}: the file is empty\n"
    assert main([str(bundle), str(tmp_path / "zero.jpg"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "predictions": [],
        "errors": [{"path": str(tmp_path / "zero.jpg"), "reason": "the file is empty"}],
    }


def test_main__a_changed_bundle_is_refused_and_the_file_named(
    bundle: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    (copy / "labels.txt").write_text((copy / "labels.txt").read_text().replace("ball", "bull"))
    assert main([str(copy), str(photos[0])]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: labels.txt: was changed: its sha256 is not the manifest's\n"
    assert main([str(tmp_path / "nothing"), str(photos[0])]) == 1


def test_main__usage(bundle: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(bundle), str(photos[0]), "--labels", "zebra"]) == 2
    assert "label 'zebra' is not among the 6 labels" in capsys.readouterr().err
    for arguments in (
        [],
        [str(bundle)],
        [str(bundle), "x.jpg", "--top", "0"],
        [str(bundle), "x.jpg", "--what"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


def test_main__an_engine_that_is_not_here(
    bundle: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    missing = why_not_here("tensorrt")
    if missing is None:
        pytest.skip("this machine runs plans")
    assert main([str(bundle), str(photos[0]), "--engine", "tensorrt", "--rebuild"]) == 5
    assert capsys.readouterr().err == f"error: engine tensorrt: {missing}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "pytorch"], "no engine 'pytorch', expected one of onnxruntime, "),
        (
            ["--rebuild"],
            "--rebuild has no effect with engine onnxruntime, only with tensorrt or tensorrt_rtx",
        ),
    ],
)
def test_main__an_engine_that_cannot_be_meant(
    bundle: Path, photos: list[Path], arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(bundle), str(photos[0]), *arguments])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["onnxruntime", "numpy", "PIL"])
def test_main__a_package_that_is_missing(bundle: Path, photos: list[Path], missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None;"
        "from edgeproof_deploy.runtime.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, bundle, photos[0]], capture_output=True, text=True)
    assert done.returncode == 5
    assert "is not installed" in done.stderr
    assert "Traceback" not in done.stderr


def test_main__imports_nothing_but_numpy_pillow_and_onnxruntime(bundle: Path, photos: list[Path]) -> None:
    code = (
        "import sys; from edgeproof_deploy.runtime.__main__ import main; main(sys.argv[1:]);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'torchvision', 'timm',"
        " 'onnx', 'pydantic', 'safetensors', 'edgeproof', 'edgeproof_configs', 'edgeproof_data',"
        " 'edgeproof_train'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, bundle, photos[0]], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == ""
    assert done.stderr == ""


def test_main__as_a_module(bundle: Path, photos: list[Path]) -> None:
    done = subprocess.run([sys.executable, *RUNTIME, bundle, photos[0]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(photos[0]))


def test_main__self_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "b")
    assert main([str(bundle), "--self-test", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("model.onnx in onnxruntime, 4 photos: cosine to what it gave when it was made")
    assert "the self-test passed" in out
    drifted = make_damaged_bundle(tmp_path / "d")
    assert main([str(drifted), "--self-test", "--threads", "1", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["cosine_min"] < 0.9999
    assert told["failures"][0].startswith("self_test/")


def test_main__self_test_of_a_bundle_without_one(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(bundle), "--self-test"]) == 1
    assert "was made without a self-test" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["photo.jpg", "--self-test"]])
def test_main__images_or_the_self_test(more: list[str], bundle: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(bundle), *more])
    assert caught.value.code == 2
