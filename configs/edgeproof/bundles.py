"""Finding what the user means: a bundle, as a folder or a `.tar`, the run that holds one, or its student."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgeproof_configs.errors import MissingPackageError, UsageError

if TYPE_CHECKING:
    from edgeproof_deploy.runtime.model_interface import Session

MANIFEST = "manifest.json"


def is_bundle(path: Path) -> bool:
    """Whether this is a folder with a manifest, or a tar."""
    return (path / MANIFEST).is_file() or (path.is_file() and path.suffix == ".tar")


def bundle_of(path: Path) -> Path:
    """Return the bundle at a path, or the one inside the run at this path.

    Raises:
        UsageError: there is none.
    """
    if is_bundle(path):
        return path
    if is_bundle(path / "bundle"):
        return path / "bundle"
    if (path / "recipe.resolved.yaml").exists():
        raise UsageError(
            "this run has no bundle yet", where=path, fix=f"edgeproof bundle {path / 'recipe.resolved.yaml'}"
        )
    if not path.exists():
        raise UsageError("no such bundle: expected a folder or a .tar, or a run", where=path)
    raise UsageError(f"neither a bundle nor a run: it has no {MANIFEST}", where=path)


def open_student(run: Path, engine: str, threads: int | None = None) -> Session:
    """Open the student of a run in an engine that runs the student itself, such as `pytorch`.

    Raises:
        UsageError: there is no such engine, or this is no run with a student.
        MissingPackageError: the engine cannot be used here.
    """
    from edgeproof_deploy.engine import make_engine

    chosen = make_engine(engine)
    reason = chosen.why_not_here()
    if reason is not None:
        raise MissingPackageError(f"engine {engine}: {reason}", fix="see `edgeproof ls engines`")
    student = run / "train"
    if not student.is_dir():
        what = f"engine {engine} runs the student itself, which no bundle holds: name its run"
        raise UsageError(what, where=run)
    return chosen.open(student, threads)


def refuse_options(options: Mapping[str, object], what: str = "a bundle") -> None:
    """Refuse options that would have no effect on what was named.

    Raises:
        UsageError: one of them is given.
    """
    given = [name for name, value in options.items() if value]
    if given:
        fix = "leave it away, or name the recipe" if what == "a bundle" else "leave it away"
        raise UsageError(f"{given[0]} has no effect on {what}", fix=fix)
