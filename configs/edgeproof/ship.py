"""`ship`: every stage of a recipe in order; one whose inputs did not change since it finished is skipped."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgeproof.early_refusals import (
    refuse_compression_early,
    refuse_engines_early,
    refuse_head_early,
    refuse_unknown_stage,
)
from edgeproof.processes import Processes
from edgeproof.stages import ORDER, Stage, chain_of, first_stage_touched, inputs_digest, value_at
from edgeproof_configs.errors import GateError, LatencyGateError, UsageError
from edgeproof_configs.files import FileTable, digest_of, explain_os_errors, read_json, write_json, write_text
from edgeproof_configs.run import RunDir, environment
from edgeproof_configs.schema import Plain, Recipe
from edgeproof_configs.stage import StageContext

COMPRESS = {"compress": ("quantize", "sparsify")}
"""Commands that stand for several stages, the last one first."""

DO_NOT_SHIP = "do not ship"
"""The verdict of a run whose best form failed a gate."""

TAKEN_OVER = {".lock", "teacher", "curate", "embed"}
"""What a new run directory may hold: what was copied from another run is used as far as it fits."""


@dataclass
class Shipment:
    """A recipe on its way through one run directory."""

    plain: Plain
    run: RunDir
    files: FileTable
    recipe: Recipe | None = None
    recipe_file: str = ""
    overrides: tuple[str, ...] = ()

    def validated(self) -> Recipe:
        """Return the recipe as validated objects; a run with nothing to do never asks."""
        if self.recipe is None:
            from edgeproof_configs.loader import load_recipe

            self.recipe = load_recipe(self.recipe_file, list(self.overrides)).recipe
        return self.recipe


def ship(
    recipe: str,
    *,
    overrides: list[str],
    run: Path | None = None,
    start: str | None = None,
    until: str | None = None,
    device: str | None = None,
    strict: bool = False,
) -> int:
    """Run the stages of a recipe.

    Args:
        recipe: a file or the name of a shipped recipe.
        overrides: `key=value` settings that win over the file.
        run: the run directory; `runs/<recipe name>` if None.
        start: redo from this stage on.
        until: stop after this stage.
        device: `cpu`, `cuda` or None for whichever is there.
        strict: a gate that could not be measured fails.

    Returns:
        0; failures are raised as errors that carry their exit code.
    """
    refuse_unknown_stage(start)
    refuse_unknown_stage(until, COMPRESS)
    shipment = open_shipment(recipe, overrides, run, start)
    processes = Processes.here()
    with shipment.run.lock() if processes.first else nullcontext(), processes.joined():
        if processes.first:
            settle(shipment, start)
        stages = chain_of(shipment.plain)
        if until is not None:
            wanted = needed_for(until, stages)
            stages = [stage for stage in stages if stage.name in wanted]
        ran = run_stages(shipment, stages, start, device, strict, processes)
        if processes.first:
            shipment.files.save()
            say_end(shipment, until, ran)
            raise_gates(shipment.run, strict)
    return 0


def open_shipment(recipe: str, overrides: list[str], run: Path | None, start: str | None) -> Shipment:
    """Read the recipe, by the short way where the run directory holds it, resolved, from the same source."""
    from edgeproof_configs.loader import load_recipe, peek_name, source_digest

    path = run or Path("runs") / peek_name(recipe, overrides)
    directory = RunDir(path)
    table = FileTable(path / "files.tsv")
    source = source_digest(recipe, overrides)
    known = read_json(path / "run.json") if (path / "run.json").exists() else {}
    resolved = path / "recipe.resolved.yaml"
    if known.get("source_digest") == source and resolved.exists():
        plain = yaml.safe_load(resolved.read_text(encoding="utf-8"))
        return Shipment(plain, directory, table, None, recipe, tuple(overrides))
    loaded = load_recipe(recipe, overrides)
    return Shipment(loaded.plain, directory, table, loaded.recipe, recipe, tuple(overrides))


def settle(shipment: Shipment, start: str | None) -> None:
    """Make the run directory this recipe's, or refuse one that was made with other settings."""
    from edgeproof_configs.loader import source_digest

    refuse_other_run(shipment.run, shipment.plain, start)
    resolved = shipment.run.path / "recipe.resolved.yaml"
    if not resolved.exists() or start is not None or shipment.recipe is not None:
        with explain_os_errors(resolved):
            write_text(resolved, yaml.safe_dump(shipment.plain, sort_keys=False, allow_unicode=True))
            write_json(shipment.run.path / "environment.json", environment())
            write_json(
                shipment.run.path / "run.json",
                {
                    "recipe": shipment.recipe_file,
                    "set": list(shipment.overrides),
                    "source_digest": source_digest(shipment.recipe_file, list(shipment.overrides)),
                },
            )


def refuse_other_run(run: RunDir, plain: Plain, start: str | None) -> None:
    """Raise where a run directory is no run, or one of which a part was made with other settings."""
    resolved = run.path / "recipe.resolved.yaml"
    if resolved.exists():
        before = yaml.safe_load(resolved.read_text(encoding="utf-8"))
        changed = differing_keys(before, plain)
        made = any(map(run.record, ORDER))
        if made and changed and not only_curation(run, changed):
            refuse_other_settings(run, before, plain, changed, start)
    elif run.path.exists() and {p.name for p in run.path.iterdir()} - TAKEN_OVER:
        raise UsageError(
            "the run directory holds something else than a run",
            where=run.path,
            fix="choose another --run DIR",
        )


def only_curation(run: RunDir, changed: list[str]) -> bool:
    """Whether only what is chosen changes, and nothing has been made of what was chosen before."""
    later = ORDER[ORDER.index("curate") + 1 :]
    return all(key.startswith("curate.") for key in changed) and not any(map(run.record, later))


def refuse_other_settings(
    run: RunDir, before: Plain, now: Plain, changed: list[str], start: str | None
) -> None:
    """Raise unless `--from` redoes every stage that the changed settings touch."""
    first = first_stage_touched(before, now)
    if start is not None and ORDER.index(start) <= ORDER.index(first) and "name" not in changed:
        return
    shown = "; ".join(f"{key}: {value_at(before, key)} -> {value_at(now, key)}" for key in changed[:4])
    more = f"; and {len(changed) - 4} more" if len(changed) > 4 else ""
    raise UsageError(
        f"this run directory was made with other settings: {shown}{more}",
        where=run.path,
        fix=f"--run DIR for a new run, or ship with --from {first} to redo this one from there",
    )


def run_stages(
    shipment: Shipment,
    stages: list[Stage],
    start: str | None,
    device: str | None,
    strict: bool,
    processes: Processes,
) -> int:
    """Run what is not up to date and return how many stages ran."""
    data_digest = digest_of_data(shipment) if processes.first else ""
    here = engines_here(shipment.plain)
    plain = with_engines_here(shipment.plain, here)
    width = max(len(stage.name) for stage in stages)
    context: StageContext | None = None
    ran = 0
    for stage in stages:
        redo = start is not None and ORDER.index(stage.name) >= ORDER.index(start)
        digest, done = "", False
        if processes.first:
            digest = inputs_digest(stage, plain, shipment.run, shipment.files, data_digest)
            done = not redo and up_to_date(shipment.run, stage.name, digest, shipment.files)
        done = processes.share(done)
        if done:
            say(f"{stage.name:<{width}}  up to date")
            continue
        if stage.name == "bundle" and nothing_to_ship(shipment.run, strict):
            raise_gates(shipment.run, strict)
        if context is None:
            chosen = choose_device(device)
            recipe = with_engines(shipment.validated(), here)
            context = StageContext(recipe, shipment.run, chosen, strict, shipment.files)
            left = stages[stages.index(stage) :]
            refuse_compression_early(context.recipe, stages)
            refuse_engines_early(context.recipe, left)
            refuse_head_early(context.recipe, left, shipment.run)
        if not processes.first:
            processes.share(None)
            if stage.parallel:
                stage.run(context)
            continue
        start_over_if_changed(shipment.run, stage.name, digest, redo)
        processes.share(None)
        began = time.monotonic()
        outcome = stage.run(context)
        seconds = time.monotonic() - began
        shipment.run.finish(stage.name, digest, outcome.outputs, seconds, outcome.metrics)
        say(f"{stage.name:<{width}}  {seconds:6.1f} s  {outcome.summary}".rstrip())
        ran += 1
    return ran


def engines_here(plain: Plain) -> list[str]:
    """Return those of `deploy.engines_if_here` that can be built and run on this machine."""
    wanted = plain["deploy"].get("engines_if_here") or []
    if not wanted:
        return []
    from edgeproof_deploy.engine import why_not_usable

    return [kind for kind in wanted if why_not_usable(kind) is None]


def with_engines_here(plain: Plain, here: list[str]) -> Plain:
    """Return plain data with further engines."""
    return {**plain, "deploy": {**plain["deploy"], "engines": [*plain["deploy"]["engines"], *here]}}


def with_engines(recipe: Recipe, kinds: list[str]) -> Recipe:
    """Return the recipe with further engines."""
    deploy = recipe.deploy.model_copy(update={"engines": [*recipe.deploy.engines, *kinds]})
    return recipe.model_copy(update={"deploy": deploy})


def up_to_date(run: RunDir, stage: str, digest: str, files: FileTable) -> bool:
    """Whether a stage has finished with these inputs and its outputs are as it left them."""
    record = run.record(stage)
    return record is not None and record.inputs == digest and record.intact(run.stage(stage), files)


def start_over_if_changed(run: RunDir, stage: str, digest: str, redo: bool) -> None:
    """Leave what an interrupted attempt with the same inputs has done; remove everything else of a stage.

    Embedding caches stay: they are keyed by themselves, and only what is missing is computed. `--from embed`
    makes them anew; `--from curate` chooses anew among images whose embeddings are known.
    """
    folder, mark = run.stage(stage), run.stage(stage) / "started.json"
    run.forget(stage)
    same = mark.exists() and read_json(mark) == {"inputs": digest}
    if stage == "curate":
        # A table of other settings must not be taken for this one's where the stage fails.
        for file in folder.glob("*.csv") if redo or not same else ():
            file.unlink()
    elif redo or (not same and stage != "embed"):
        shutil.rmtree(folder, ignore_errors=True)
    write_json(mark, {"inputs": digest})


def digest_of_data(shipment: Shipment) -> str:
    """Return the digest of all images and label files; a built-in set is made first if it is not there."""
    from edgeproof_configs.loader import component_config
    from edgeproof_configs.registry import build

    source: Any = build("data", component_config("data", shipment.plain["data"]))
    source.prepare()
    listed = [(str(file), shipment.files.sha256(file)) for file in source.files()]
    return digest_of(listed)


def needed_for(name: str, stages: list[Stage]) -> set[str]:
    """Return a stage and all that it needs, however far back.

    Raises:
        UsageError: the recipe has no such stage.
    """
    by_name = {stage.name: stage for stage in stages}
    if name in COMPRESS:
        name = next((stage for stage in COMPRESS[name] if stage in by_name), name)
    if name not in by_name:
        raise UsageError(f"this recipe has no stage '{name}'. It has: {', '.join(by_name)}")
    wanted, queue = set(), [name]
    while queue:
        stage = by_name.get(queue.pop())
        if stage is not None and stage.name not in wanted:
            wanted.add(stage.name)
            queue.extend(stage.needs)
    return wanted


def choose_device(wanted: str | None) -> str:
    """Return the torch device to work on, and say which it is."""
    import torch

    from edgeproof_configs.host_memory import keep_freed_memory

    if wanted and wanted.startswith("cuda") and not torch.cuda.is_available():
        from edgeproof_configs.errors import MissingPackageError

        raise MissingPackageError(
            "no CUDA device can be used here", fix="leave --device away, or say --device cpu"
        )
    device = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        keep_freed_memory()
    named = (
        torch.cuda.get_device_name()
        if device.startswith("cuda")
        else f"{torch.get_num_threads()} CPU threads"
    )
    say(f"device: {device} ({named})")
    return device


def differing_keys(before: Any, now: Any, prefix: str = "") -> list[str]:
    """Return the dotted keys at which two pieces of plain data differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [
            found
            for key in keys
            for found in differing_keys(
                before.get(key), now.get(key), f"{prefix}.{key}" if prefix else str(key)
            )
        ]
    return [] if digest_of(before) == digest_of(now) else [prefix]


def say(line: str) -> None:
    """Print a line of the run's log, on the first process."""
    if Processes.here().first:
        print(line, flush=True)


def say_end(shipment: Shipment, until: str | None, ran: int) -> None:
    """Print the verdict and where to look."""
    result = shipment.run.path / "result.json"
    if until in (None, "report", "bundle") and result.exists():
        say("")
        say(read_json(result)["sentence"])
    for stage, file in (("report", "report.html"), ("bundle", "")):
        if until in (None, stage) and shipment.run.record(stage):
            say(f"{stage + ':':<8} {shipment.run.stage(stage) / file}")
    if not ran:
        say("nothing to do: every stage is up to date")
    sys.stdout.flush()


def nothing_to_ship(run: RunDir, strict: bool) -> bool:
    """Whether a failed gate leaves no form to pack; under `strict` one that was not measured does, too.

    Where a compressed form failed and another one is to be shipped, that one is packed, and the failure is
    raised after it.
    """
    unmeasured = any(
        record.metrics.get("gates_not_measured")
        for stage in ("verify", "bench")
        if (record := run.record(stage)) is not None
    )
    result = run.path / "result.json"
    return (strict and unmeasured) or not result.exists() or read_json(result)["verdict"] == DO_NOT_SHIP


def raise_gates(run: RunDir, strict: bool) -> None:
    """Raise for gates that failed, in this run or in an earlier one whose stages are up to date.

    Raises:
        GateError: accuracy or parity.
        LatencyGateError: latency.
    """
    for stage, error in (("verify", GateError), ("bench", LatencyGateError)):
        record = run.record(stage)
        if record is None:
            continue
        failures = list(record.metrics.get("gate_failures", []))
        if strict:
            failures += record.metrics.get("gates_not_measured", [])
        if failures:
            raise error(
                "; ".join(failures[:3]),
                where=run.stage(stage),
                fix=f"see {run.stage('report') / 'report.html'}",
            )
