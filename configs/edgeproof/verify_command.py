"""The command `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeproof.options import (
    DeviceOption,
    EngineOption,
    RebuildOption,
    RunOption,
    SeedsOption,
    SetOption,
    StrictOption,
    ThreadsOption,
)


def verify(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE|BUNDLE", help="What to verify.", show_default=False)
    ],
    run: RunOption = None,
    overrides: SetOption = None,
    device: DeviceOption = None,
    strict: StrictOption = False,
    seeds: SeedsOption = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Compare a bundle on these images, too; folders called like labels are scored.",
            show_default=False,
        ),
    ] = None,
    engine: EngineOption = None,
    junit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write JUnit XML, a test for each gate.", show_default=False),
    ] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Write the summary and annotations of GitHub Actions.")
    ] = False,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Name the node of the graph at which two engines part.")
    ] = False,
    threads: ThreadsOption = None,
    rebuild: RebuildOption = False,
) -> int:
    """Compare the forms of a recipe, or all of a bundle.

    Of a bundle that is every model in every engine that runs here. The exit code is 3 if a gate of accuracy
    or parity fails.
    """
    from edgeproof.bundle_checks import VerifyOptions
    from edgeproof.verification import verify

    options = VerifyOptions(junit, github, bisect, images, tuple(engine or ()), threads, rebuild, strict)
    chain = {"--run": run, "--set": overrides, "--device": device, "--seeds": seeds}
    return verify(recipe, options, chain)
