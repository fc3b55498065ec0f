"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeArgument = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped one.", show_default=False),
]
RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run", metavar="DIR", help="The run directory.  [runs/NAME OF THE RECIPE]", show_default=False
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, e.g. train.epochs=3; repeatable."),
]
DeviceOption = Annotated[
    str | None, typer.Option(metavar="cpu|cuda", help="Where torch works.  [cuda if there]")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="A gate that could not be measured fails.")]
SeedsOption = Annotated[
    int | None,
    typer.Option(
        min=2, metavar="N", help="Run with N seeds and report mean and deviation.", show_default=False
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Threads within one operator.  [the engine's]", show_default=False),
]
RebuildOption = Annotated[
    bool,
    typer.Option("--rebuild", help="Build plans that do not fit this machine again, from the ONNX file."),
]
EngineOption = Annotated[
    list[str] | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="Of a bundle, these only; repeatable.  [all here]",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
