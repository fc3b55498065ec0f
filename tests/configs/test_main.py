from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from edgeproof_configs import __version__
from edgeproof_configs.recipe_files import recipe_path

Run = Callable[..., tuple[int, str, str]]


def test_help__names_the_commands(edgeproof: Run) -> None:
    code, out, err = edgeproof("--help")
    assert (code, err) == (0, "")
    for command in ("ship", "verify", "predict", "evaluate", "text", "data", "ls", "cp", "doctor"):
        assert f"\n  {command} " in out
    assert "..." not in out.split("Commands:")[1], "a description is cut"
    assert edgeproof() == (0, out, "")


def test_version__is_printed(edgeproof: Run) -> None:
    assert edgeproof("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shp"], "Did you mean 'ship'?"),
        (["ship"], "missing argument"),
        (["ship", "quickstart", "--nope"], "no such option"),
        (["ship", "nowhere.yaml"], "no such recipe"),
        (["ship", "quikstart"], "Did you mean 'quickstart'?"),
        (
            ["ship", "quickstart", "--set", "train.epoch=3"],
            "--set: train.epoch: unknown key. Did you mean 'epochs'?",
        ),
        (["ship", "quickstart", "--from", "trian"], "Did you mean 'train'?"),
        (["predict", "none", "none.jpg"], "no such bundle"),
        (["predict", "quickstart", "x.jpg", "--top", "0"], "'--top'"),
        (["ls", "teacher"], "Did you mean 'teachers'?"),
        (["ls"], "missing argument"),
        (["cp", "quikstart", "s.yaml"], "Did you mean 'quickstart'?"),
        (["evaluate", "none"], "not a run directory"),
        (["data"], "missing command"),
        (["data", "check", "none"], "none"),
        (["verify", "nowhere.tar"], "no such recipe"),
    ],
)
def test_usage_errors__exit_2_in_three_lines(
    arguments: list[str], words: str, edgeproof: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = edgeproof(*arguments)
    assert (code, out) == (2, "")
    assert words.lower() in err.lower()
    assert len(err.splitlines()) <= 3
    assert list(tmp_path.iterdir()) == []


def test_ship__every_mistake_in_a_copied_recipe(edgeproof: Run, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    assert edgeproof("cp", "quickstart", file)[0] == 0
    text = file.read_text().replace("epochs: ", "epochs: -", 1).replace("batch_size:", "batch_sise:", 1)
    file.write_text(text.replace(" lr: ", " lr: fast", 1))
    code, out, err = edgeproof("ship", file)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 3
    assert all(line.startswith(f"{file}:") for line in err.splitlines())


def test_ship__print_config_reads_back(edgeproof: Run) -> None:
    code, out, err = edgeproof("ship", "quickstart", "--set", "train.epochs=7", "--print-config")
    assert (code, err) == (0, "")
    assert yaml.safe_load(out)["train"]["epochs"] == 7
    assert re.search(r"^name: quickstart +# quickstart.yaml:\d+$", out, re.MULTILINE)
    assert re.search(r"^  epochs: 7 +# --set$", out, re.MULTILINE)
    assert re.search(r'^  compute_capability: "8.6" +# default$', out, re.MULTILINE)


def test_cp__never_overwrites(edgeproof: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    assert edgeproof("cp", "quickstart", file)[0] == 0
    assert file.read_bytes() == recipe_path("quickstart").read_bytes()
    file.write_text("mine")
    code, _, err = edgeproof("cp", "quickstart", file)
    assert code == 2
    assert "exists" in err
    assert file.read_text() == "mine"


def test_cp__into_a_folder(edgeproof: Run, tmp_path: Path) -> None:
    assert edgeproof("cp", "quickstart", tmp_path)[0] == 0
    assert (tmp_path / "quickstart.yaml").exists()


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("recipes", "quickstart"),
        ("data", "image_folder"),
        ("teachers", "open_clip"),
        ("students", "timm"),
        ("losses", "cosine_embedding"),
        ("heads", "zero_shot"),
        ("engines", "onnxruntime"),
    ],
)
def test_ls__a_name_and_a_line_about_it(what: str, name: str, edgeproof: Run) -> None:
    code, out, err = edgeproof("ls", what)
    assert (code, err) == (0, "")
    described = dict(line.split(None, 1) for line in out.splitlines())
    assert len(described[name]) > 10


def test_doctor__json_is_the_same_as_the_lines(edgeproof: Run) -> None:
    code, out, _ = edgeproof("doctor", "--json")
    found = json.loads(out)
    assert code == (1 if any(row["status"] == "FAIL" for row in found) else 0)
    assert {"python", "processor", "memory", "disk", "torch", "cuda", "cache folder"} <= {
        row["subject"] for row in found
    }
    _, lines, _ = edgeproof("doctor")
    assert {row["subject"] for row in found if row["subject"] not in lines} <= {"load"}


@pytest.mark.integration
def test_debug__shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgeproof", "ship", "nowhere.yaml"]
    plain = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, cwd=tmp_path)
    assert plain.returncode == debug.returncode == 2
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr


@pytest.mark.integration
def test_closed_pipe__is_no_traceback(tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m edgeproof doctor | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""


def heed_interrupts() -> None:
    """Undo what a shell does to programs in the background, which then ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.integration
def test_interrupt__says_how_to_go_on(tmp_path: Path) -> None:
    """Ctrl-C while a recipe is being read, from a pipe that never ends."""
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "edgeproof", "ship", str(pipe)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=heed_interrupts
    )
    with pipe.open("w") as handle:
        handle.write("name: x\n")
        handle.flush()
        # A signal that comes just before it waits for more is noticed only after: so another one follows.
        for _ in range(20):
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=4)
                break
        else:
            process.kill()
        _, err = process.communicate()
    assert process.returncode == 130
    assert err == "stopped; run the same command again to go on\n"
