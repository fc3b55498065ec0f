"""The command `head`: one stage of a recipe, and below it `head fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from edgeproof.chain_runs import stage_command
from edgeproof.options import (
    DeviceOption,
    JsonOption,
    RunOption,
    SetOption,
)

STAGE = "stage"


class StageOrCommand(TyperGroup):
    """A group whose first command is meant where none is named: `head RECIPE` is `head stage RECIPE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the first command before what names none."""
        if not args or args[0] not in (*self.commands, "--help"):
            args = [STAGE, *args]
        return super().parse_args(ctx, args)


head_app = typer.Typer(cls=StageOrCommand, rich_markup_mode=None)


@head_app.callback()
def head_root() -> None:
    """Make a recipe's classifier, or compare kinds of them.

    `head RECIPE` makes it; `head fit` compares.
    """


head_app.command(STAGE)(stage_command("head", "Make the recipe's classifier: `head RECIPE`."))


@head_app.command("fit")
def fit(
    place: Annotated[
        str, typer.Argument(metavar="RECIPE|FEATURES.npz", help="Whose embeddings.", show_default=False)
    ],
    kinds: Annotated[
        str,
        typer.Option(metavar="A,B|all", help="See `edgeproof ls heads`; settings as gda:use_text=false."),
    ] = "all",
    on: Annotated[
        str, typer.Option("--on", metavar="teacher|student", help="Of a recipe: which model's.")
    ] = "teacher",
    shots: Annotated[
        str | None,
        typer.Option(
            metavar="N,M|all",
            help="Training images of each class.  [those of 1,2,4,8,16 that there are]",
            show_default=False,
        ),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Draws of shots.  [10; of a file: the stored one]", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the first draw.")] = 0,
    val: Annotated[
        str, typer.Option(metavar="few|full|none", help="How much of val settings are chosen on.")
    ] = "few",
    use_text: Annotated[
        bool, typer.Option("--text/--no-text", help="Whether heads get text embeddings.")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="Where figures go.  [RUN/heads/fit-teacher.json]", show_default=False
        ),
    ] = None,
    run: RunOption = None,
    overrides: SetOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> int:
    """Fit and score heads of several kinds on embeddings.

    Nothing is trained for the teacher's embeddings; those of the student need a trained run, and train one
    where there is none.
    """
    from edgeproof.head_fit import Asked, head_fit

    asked = Asked(kinds, on, shots, tasks, seed, val, use_text)
    return head_fit(place, asked, out=out, run=run, overrides=overrides, device=device, as_json=as_json)
