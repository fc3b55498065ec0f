"""The commands `bench` and `advise`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeproof.chain_runs import run_chain
from edgeproof.options import (
    DeviceOption,
    EngineOption,
    JsonOption,
    RebuildOption,
    RunOption,
    SeedsOption,
    SetOption,
    StrictOption,
    ThreadsOption,
)


def bench(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE|BUNDLE", help="What to measure.", show_default=False)
    ] = None,
    run: RunOption = None,
    overrides: SetOption = None,
    device: DeviceOption = None,
    strict: StrictOption = False,
    seeds: SeedsOption = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Two bundles, runs, ONNX files or plans, in turns; A@ENGINE chooses the engine.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="S",
            help="For each model and batch size.  [1; 10 with --compare]",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="N", help="Images in a call; repeatable.  [1 and 8]", show_default=False),
    ] = None,
    streams: Annotated[
        list[int] | None,
        typer.Option(
            min=1, metavar="N", help="Clients of a bundle at once; repeatable.  [1 and 2]", show_default=False
        ),
    ] = None,
    engine: EngineOption = None,
    threads: ThreadsOption = None,
    traces: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep every sample of a bundle in this .npz.", show_default=False),
    ] = None,
    rebuild: RebuildOption = False,
    as_json: JsonOption = False,
) -> int:
    """Measure the forms of a recipe, or all of a bundle.

    Of a recipe speed, memory and size; of a bundle the speed of every model in every engine that runs here.
    """
    from edgeproof.measuring import Measuring, measure

    chain = {"--run": run, "--set": overrides, "--device": device, "--strict": strict, "--seeds": seeds}
    asked = Measuring(
        seconds,
        tuple(batch or ()),
        tuple(streams or ()),
        tuple(engine or ()),
        threads,
        traces,
        rebuild,
        as_json,
    )
    found = measure(recipe, compare, asked, chain)
    if found is not None:
        return found
    return run_chain(
        str(recipe), seeds, overrides=overrides or [], run=run, until="bench", device=device, strict=strict
    )


def advise(
    place: Annotated[Path, typer.Argument(metavar="BUNDLE|RUN", help="A bundle (folder or .tar), or a run.")],
    max_drop: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="X",
            help="Top-1 that may be lost against the fp32 student: 0.01 is 1 point.",
        ),
    ] = 0.01,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="MS", help="The slowest p90 of one image.  [any]", show_default=False),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, metavar="S", help="For each model.")] = 2.0,
    engine: EngineOption = None,
    threads: ThreadsOption = None,
    rebuild: RebuildOption = False,
    as_json: JsonOption = False,
) -> int:
    """Say which engine and precision to ship on this machine.

    The exit code is 0 if something fits, 3 if nothing is accurate enough, 4 if nothing of that is fast.
    """
    from edgeproof.advise import AdviceOptions, advise

    limits = AdviceOptions(max_drop, max_latency_ms, seconds, tuple(engine or ()), threads, rebuild, as_json)
    return advise(place, limits)
