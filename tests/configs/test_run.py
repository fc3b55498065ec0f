from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_configs.files import FileTable
from edgeproof_configs.run import RunDir, check_free, environment, require_run


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Return a run whose `train` stage has finished."""
    run = RunDir(tmp_path / "run")
    folder = run.stage("train")
    folder.mkdir(parents=True)
    (folder / "model").write_bytes(b"weights")
    run.finish("train", "digest", [folder / "model"], 1.23456, {"top1": 0.5})
    return run


def test_record__of_a_finished_stage(run: RunDir) -> None:
    record = run.record("train")
    assert record is not None
    assert (record.inputs, record.seconds, record.metrics) == ("digest", 1.235, {"top1": 0.5})
    assert record.intact(run.stage("train"), FileTable(run.path / "files.tsv"))
    assert run.record("embed") is None


def test_intact__a_changed_or_missing_output(run: RunDir) -> None:
    record, file = run.record("train"), run.stage("train") / "model"
    assert record is not None
    files, before = FileTable(run.path / "files.tsv"), file.read_bytes()
    os.utime(file, ns=(1, 1))
    assert record.intact(run.stage("train"), files)
    file.write_bytes(before[::-1])
    assert not record.intact(run.stage("train"), files)
    file.write_bytes(before + b"more")
    assert not record.intact(run.stage("train"), files)
    file.unlink()
    assert not record.intact(run.stage("train"), files)


def test_forget__keeps_the_files(run: RunDir) -> None:
    run.forget("train")
    run.forget("train")
    assert run.record("train") is None
    assert (run.stage("train") / "model").exists()


def test_stage__unknown_name(run: RunDir) -> None:
    with pytest.raises(ValueError, match="unknown stage 'trian'"):
        run.stage("trian")


@pytest.mark.integration
def test_lock__a_second_process_is_refused(run: RunDir) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeproof_configs.run import RunDir\n"
        "with RunDir(Path(sys.argv[1])).lock(): pass"
    )
    command = [sys.executable, "-c", code, str(run.path)]
    with run.lock():
        second = subprocess.run(command, capture_output=True, text=True)
        assert f"another edgeproof process (pid {os.getpid()}) works in this run directory" in second.stderr
    assert subprocess.run(command).returncode == 0


def test_lock__refused_in_the_same_process(run: RunDir) -> None:
    with run.lock(), pytest.raises(UsageError, match="another edgeproof process"), run.lock():
        pass


def test_append_metrics__a_line_cut_by_a_kill_is_left_out(run: RunDir) -> None:
    run.append_metrics({"epoch": 1})
    with (run.path / "metrics.jsonl").open("ab") as handle:
        handle.write(b'{"epoch": 2, "lo')
    run.append_metrics({"epoch": 2})
    assert run.metrics() == [{"epoch": 1}, {"epoch": 2}]
    with pytest.raises(ValueError, match="JSON"):
        run.append_metrics({"loss": float("nan")})


def test_require_run__not_a_run(tmp_path: Path, run: RunDir) -> None:
    with pytest.raises(UsageError, match="not a run directory"):
        require_run(tmp_path)
    (run.path / "recipe.resolved.yaml").write_text("name: x\n")
    assert require_run(run.path).path == run.path


def test_environment__versions_without_importing() -> None:
    found = environment()
    assert found["python"] == sys.version.split()[0]
    assert {"edgeproof", "numpy", "pillow"} <= set(found["versions"])
    modules = {"openvino": "openvino", "tensorrt-rtx": "tensorrt_rtx", "nvidia-modelopt": "modelopt"}
    for package, module in modules.items():
        assert (package in found["versions"]) == (find_spec(module) is not None)


def test_check_free__more_than_there_is(tmp_path: Path) -> None:
    check_free(tmp_path / "not" / "yet", 1)
    with pytest.raises(EdgeproofError, match="MB are free"):
        check_free(tmp_path, 1 << 62)
