"""`--dry-run`: build the shapes, check the needs of the losses, say what would run and what it takes."""

from __future__ import annotations

from pathlib import Path

from edgeproof.stages import chain_of
from edgeproof_configs.loader import LoadedRecipe
from edgeproof_configs.run import RunDir


def describe(loaded: LoadedRecipe, run: Path | None = None) -> str:
    """Return the plan of a recipe in words.

    Raises:
        UsageError: the student cannot be built, or a loss asks for what this recipe does not have.
        DataError: the images are not where the recipe says.
        MissingPackageError: a backend of compression cannot be used here.
    """
    from edgeproof_train.outline import outline

    found = outline(loaded.recipe)
    if loaded.recipe.compress is not None:
        from edgeproof_compress.check import check_compression

        check_compression(loaded.recipe)
    directory = RunDir(run or Path("runs") / loaded.recipe.name)
    lines = [f"{loaded.recipe.name} ({loaded.file})", ""]
    lines += [f"  {name:<9} {words}" for name, words in found.rows()]
    lines += ["", "stages"]
    for stage in chain_of(loaded.plain):
        record = directory.record(stage.name)
        state = f"finished before in {record.seconds:.0f} s" if record else "to do"
        lines.append(f"  {stage.name:<9} {state}")
    return "\n".join(lines)
