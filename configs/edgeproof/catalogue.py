"""`ls` and `cp`: what there is, and a copy of it to edit."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from edgeproof_configs.errors import UsageError, did_you_mean
from edgeproof_configs.files import write_bytes
from edgeproof_configs.recipe_files import recipe_names, recipe_path, summary

GROUPS = {
    "data": "data",
    "teachers": "teacher",
    "students": "student",
    "losses": "loss",
    "heads": "head",
    "engines": "engine",
}
"""What can be listed beside recipes -> its registry group."""


def list_things(what: str) -> list[tuple[str, str]]:
    """Return the name and a description in one line of everything of a sort.

    Raises:
        UsageError: there is no such sort.
        MissingPackageError: a package is missing that the whole sort needs.
    """
    if what == "recipes":
        return [(name, summary(recipe_path(name))) for name in recipe_names()]
    if what not in GROUPS:
        known = ["recipes", *GROUPS]
        raise UsageError(f"unknown sort '{what}'.{did_you_mean(what, known)} There are: {', '.join(known)}")
    from edgeproof_configs.registry import discover

    rows = []
    for kind, component in discover(GROUPS[what]).items():
        rows.append((kind, (inspect.getdoc(component) or "").split("\n")[0]))
        if what == "engines":
            rows.append(("", engine_state(component)[1]))
    return rows


def engine_state(engine: Any) -> tuple[bool, str]:
    """Return whether an engine's packages are there, and what can be done with it on this machine."""
    missing = engine.available()
    if missing is not None:
        how = "" if engine.install in missing else f"; {engine.install}"
        return False, f"missing: {missing}{how}"
    not_here = engine().why_not_here()
    if not_here is None:
        return True, "installed, runs here"
    builds = engine.builds_anywhere
    return True, f"installed, {'can be built, not run here' if builds else 'does not run here'}: {not_here}"


def table(rows: list[tuple[str, str]]) -> str:
    """Return aligned lines of a name and a description."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in rows)


def copy_recipe(name: str, file: Path) -> Path:
    """Copy a shipped recipe to a new file, or into a folder under its own name.

    Raises:
        UsageError: there is no such recipe, or the file exists.
    """
    source = recipe_path(name)
    target = file / source.name if file.is_dir() else file
    if target.exists():
        raise UsageError(
            "this file exists and is not overwritten",
            where=target,
            fix="choose another name, or delete it first",
        )
    write_bytes(target, source.read_bytes())
    return target
