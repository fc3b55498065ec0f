"""Where recipes lie: the shipped ones by name, the user's by path. Reads bytes only, so it costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeproof_configs import __version__
from edgeproof_configs.errors import UsageError, did_you_mean
from edgeproof_configs.files import digest_of
from edgeproof_configs.yaml_source import MAX_BYTES

RECIPES = Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes."""
    return sorted(file.stem for file in RECIPES.glob("*.yaml"))


def recipe_path(name: str) -> Path:
    """Return the file of a shipped recipe.

    Raises:
        UsageError: no such recipe is shipped.
    """
    stem = name.removesuffix(".yaml")
    if stem not in recipe_names():
        raise UsageError(
            f"no such recipe: '{name}' is not shipped.{did_you_mean(stem, recipe_names())}",
            fix="see them with `edgeproof ls recipes`",
        )
    return RECIPES / f"{stem}.yaml"


def find_recipe(path_or_name: str) -> Path:
    """Return the recipe file at a path, or else the shipped recipe of that name.

    Raises:
        UsageError: neither exists, or the path is a folder.
    """
    path = Path(path_or_name).expanduser()
    if path.is_dir() and path_or_name not in recipe_names():
        raise UsageError("this is a folder, expected a recipe file", where=path)
    if path.exists() and not path.is_dir():
        return path
    if path_or_name.removesuffix(".yaml") in recipe_names() and path.parent == Path():
        return recipe_path(path_or_name)
    raise UsageError(
        f"no such recipe: '{path_or_name}' is neither a file nor the name of a shipped recipe."
        + did_you_mean(path.stem, recipe_names()),
        fix="see the shipped ones with `edgeproof ls recipes`, copy one with `edgeproof cp RECIPE FILE`",
    )


def read_recipe_bytes(file: Path) -> bytes:
    """Read a recipe file, one byte further than a recipe may be long.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with file.open("rb") as handle:
            return handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read the recipe: {error.strerror}", where=file) from error


def source_digest(path_or_name: str, overrides: Sequence[str] = ()) -> str:
    """Return a digest of all that a resolved recipe depends on: its bytes, the overrides, this version.

    Nothing is parsed or validated: equal digests mean equal resolved recipes.
    """
    return digest_of_source(read_recipe_bytes(find_recipe(path_or_name)), overrides)


def digest_of_source(data: bytes, overrides: Sequence[str]) -> str:
    """Return the digest of recipe bytes, overrides and this version."""
    return digest_of([data.hex(), list(overrides), __version__])


def summary(file: Path) -> str:
    """Return the first comment line of a recipe: what it is, in a sentence."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            return ""
        if words := line.lstrip("# ").strip():
            return words
    return ""
