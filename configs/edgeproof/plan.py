"""`--dry-run`: build the shapes, check the needs of the losses, say what would run and what it takes."""

from __future__ import annotations

from pathlib import Path

from edgeproof.early_refusals import refuse_head_early, refuse_unknown_stage
from edgeproof.ship import (
    Shipment,
    digest_of_data,
    engines_here,
    refuse_other_run,
    up_to_date,
    with_engines_here,
)
from edgeproof.stages import ORDER, chain_of, inputs_digest
from edgeproof_configs.files import FileTable
from edgeproof_configs.loader import LoadedRecipe
from edgeproof_configs.run import RunDir


def describe(loaded: LoadedRecipe, run: Path | None = None, start: str | None = None) -> str:
    """Return the plan of a recipe in words.

    Args:
        loaded: the recipe.
        run: its run directory; `runs/<recipe name>` if None.
        start: a stage to redo the run from.

    Raises:
        UsageError: the student cannot be built, a loss asks for what this recipe does not have, or the run
            was made with other settings.
        DataError: the images, or the words of the head, are not where the recipe says.
        MissingPackageError: a backend of compression cannot be used here.
    """
    from edgeproof_train.outline import outline

    refuse_unknown_stage(start)
    directory = RunDir(run or Path("runs") / loaded.recipe.name)
    refuse_other_run(directory, loaded.plain, start)
    found = outline(loaded.recipe)
    if loaded.recipe.compress is not None:
        from edgeproof_compress.check import check_compression

        check_compression(loaded.recipe)
    files = FileTable(directory.path / "files.tsv")
    wanted = to_do(Shipment(loaded.plain, directory, files, loaded.recipe), start)
    stages = chain_of(loaded.plain)
    refuse_head_early(loaded.recipe, [stage for stage in stages if stage.name in wanted], directory)
    lines = [f"{loaded.recipe.name} ({loaded.file})", ""]
    lines += [f"  {name:<9} {words}" for name, words in found.rows()]
    lines += ["", "stages"]
    for stage in stages:
        record = None if stage.name in wanted else directory.record(stage.name)
        state = f"finished before in {record.seconds:.0f} s" if record else "to do"
        lines.append(f"  {stage.name:<9} {state}")
    return "\n".join(lines)


def to_do(shipment: Shipment, start: str | None) -> set[str]:
    """Return the names of the stages that a run would work on.

    Those that need a stage which is done again are among them, though what that leaves may be as it was.
    """
    stages = chain_of(shipment.plain)
    if not any(shipment.run.record(stage.name) for stage in stages):
        return {stage.name for stage in stages}
    found: set[str] = set()
    data_digest = digest_of_data(shipment)
    plain = with_engines_here(shipment.plain, engines_here(shipment.plain))
    for stage in stages:
        again = start is not None and ORDER.index(stage.name) >= ORDER.index(start)
        if not again and found.isdisjoint(stage.needs):
            digest = inputs_digest(stage, plain, shipment.run, shipment.files, data_digest)
            again = not up_to_date(shipment.run, stage.name, digest, shipment.files)
        if again or not found.isdisjoint(stage.needs):
            found.add(stage.name)
    return found
