"""Finding the bundle that the user means: a folder, a `.tar`, or the run that holds one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeproof_configs.errors import UsageError

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


def refuse_options(options: Mapping[str, object], what: str = "a bundle") -> None:
    """Refuse options that would have no effect on what was named.

    Raises:
        UsageError: one of them is given.
    """
    given = [name for name, value in options.items() if value]
    if given:
        fix = "leave it away, or name the recipe" if what == "a bundle" else "leave it away"
        raise UsageError(f"{given[0]} has no effect on {what}", fix=fix)
