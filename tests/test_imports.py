"""The direction of imports, and which commands stay clear of torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("configs", "data", "train", "compress", "deploy", "benchmarks")
ORDER = (
    "edgeproof_configs",
    "edgeproof_data",
    "edgeproof_train",
    "edgeproof_compress",
    "edgeproof_deploy",
    "edgeproof_benchmarks",
    "edgeproof",
)
RUNTIME = "edgeproof_deploy.runtime"
ALLOWED = {package: {*ORDER[: place + 1], RUNTIME} for place, package in enumerate(ORDER)} | {
    RUNTIME: {RUNTIME}
}
"""Package -> the packages that it may import. The runtime is a leaf that every other one may import."""

RUNTIME_PACKAGES = {"numpy", "PIL", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda"}


def package_of(file: str) -> str:
    """Return the package of a file under one of the source roots; the runtime counts as its own."""
    parts = Path(file).parts[1:]
    return RUNTIME if parts[:2] == ("edgeproof_deploy", "runtime") else parts[0]


@cache
def graph(*options: str) -> dict[str, list[str]]:
    """Return file -> the files of this project that it imports, anywhere in it."""
    command = [sys.executable, "-m", "ruff", "analyze", "graph", *options, *SOURCES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def forbidden_arrows(imports: dict[str, list[str]]) -> list[str]:
    return [
        f"{file} imports {target}"
        for file, targets in imports.items()
        for target in targets
        if package_of(target) not in ALLOWED[package_of(file)]
    ]


def circles(imports: dict[str, list[str]]) -> list[list[str]]:
    """Return a circle of imports for each file at which a walk along the arrows comes back to itself."""
    finished: set[str] = set()
    found: list[list[str]] = []

    def walk(file: str, way: list[str]) -> None:
        if file in way:
            found.append([*way[way.index(file) :], file])
        elif file not in finished:
            for target in imports.get(file, []):
                walk(target, [*way, file])
            finished.add(file)

    for file in imports:
        walk(file, [])
    return found


def source_files() -> list[Path]:
    return sorted(file for root in SOURCES for file in (ROOT / root).rglob("*.py"))


def test_graph__every_package_is_in_it() -> None:
    assert {package_of(file) for file in graph()} == {*ORDER, RUNTIME}


def test_graph__imports_run_one_way() -> None:
    assert forbidden_arrows(graph()) == []


def test_graph__no_circles() -> None:
    """Two modules may name each other's types, as long as neither imports the other when it runs."""
    assert circles(graph("--no-type-checking-imports")) == []


def test_forbidden_arrows__are_found() -> None:
    up = {"configs/edgeproof_configs/a.py": ["data/edgeproof_data/b.py"]}
    leaf = {"deploy/edgeproof_deploy/runtime/a.py": ["configs/edgeproof_configs/errors.py"]}
    down = {"train/edgeproof_train/a.py": ["deploy/edgeproof_deploy/runtime/preprocess.py"]}
    assert len(forbidden_arrows(up)) == len(forbidden_arrows(leaf)) == 1
    assert forbidden_arrows(down) == []


def test_circles__are_found() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"]}) == [["b", "c", "b"]]
    assert circles({"a": ["b", "c"], "b": ["c"], "c": []}) == []


def imported_names(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_runtime__needs_nothing_but_the_device_has() -> None:
    files = sorted((ROOT / "deploy/edgeproof_deploy/runtime").rglob("*.py"))
    assert files
    for file in files:
        for name in imported_names(file):
            top = name.split(".")[0]
            known = top in sys.stdlib_module_names or top in RUNTIME_PACKAGES or name.startswith(RUNTIME)
            assert known, f"{file.name} imports {name}"


@pytest.mark.parametrize("package", ["", "runtime"])
def test_init_above_the_runtime__is_empty(package: str) -> None:
    file = ROOT / "deploy/edgeproof_deploy" / package / "__init__.py"
    body = ast.parse(file.read_text(encoding="utf-8")).body
    assert all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def test_names_of_files__say_what_is_inside() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [str(file) for file in source_files() if file.stem in vague or file.parent.name in vague] == []


def test_sizes__files_and_functions_stay_short() -> None:
    long = []
    for file in source_files():
        text = file.read_text(encoding="utf-8")
        if len(text.splitlines()) > 400:
            long.append(f"{file}: {len(text.splitlines())} lines")
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        long += [f"{file}: {f.name}" for f in functions if (f.end_lineno or 0) - f.lineno >= 80]
    assert long == []


def modules_after(arguments: list[str], folder: Path) -> set[str]:
    """Run a command line in a fresh interpreter and return the modules that it left imported."""
    code = (
        "import sys; from edgeproof.__main__ import main; code = main(sys.argv[1:]);"
        "print('\\n'.join(['MODULES', *sys.modules])); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return set(done.stdout.split("MODULES\n")[1].split())


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "also_absent"),
    [
        (["--help"], {"pydantic", "rich", "numpy", "yaml"}),
        (["ship", "--help"], {"rich", "numpy", "yaml"}),
        (["ls", "recipes"], {"rich", "numpy"}),
        (["cp", "quickstart", "mine.yaml"], {"rich", "numpy"}),
        (["ls", "data"], set()),
        (["doctor"], set()),
        (["doctor", "--json"], set()),
    ],
)
def test_command__leaves_torch_alone(arguments: list[str], also_absent: set[str], tmp_path: Path) -> None:
    modules = modules_after(arguments, tmp_path)
    assert "edgeproof.cli" in modules
    assert modules & ({"torch", "timm", "transformers"} | also_absent) == set()


@pytest.mark.integration
def test_source_digest__needs_no_torch_and_no_models() -> None:
    code = (
        "import sys; from edgeproof_configs.recipe_files import source_digest;"
        "source_digest('quickstart', ['a=1']);"
        "assert not {'torch', 'pydantic', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
