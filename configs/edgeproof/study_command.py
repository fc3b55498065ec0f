"""The command `study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeproof.options import DeviceOption, JsonOption, RunOption, SeedsOption, SetOption


def study(
    place: Annotated[
        str, typer.Argument(metavar="RECIPE|RUN", help="Of objects with several views.", show_default=False)
    ],
    views: Annotated[
        str | None,
        typer.Option(
            metavar="1,2,4", help="How many views of an object are seen.  [the recipe's]", show_default=False
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=A,B",
            help="Train with each value, e.g. student.model=A,B; repeatable.",
            show_default=False,
        ),
    ] = None,
    seen: Annotated[
        str | None,
        typer.Option(
            metavar="2,4",
            help="Train on so many classes, drawn by the seed, and hold out the others.",
            show_default=False,
        ),
    ] = None,
    gallery: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Search another collection, too, without training on it; repeatable.",
            show_default=False,
        ),
    ] = None,
    gallery_views: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Views of what is searched.  [as many as of the queries]",
            show_default=False,
        ),
    ] = None,
    seeds: SeedsOption = None,
    split: Annotated[str, typer.Option(metavar="train|val|test", help="Which objects ask.")] = "test",
    run: RunOption = None,
    overrides: SetOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> int:
    """Vary a recipe, and score how objects are found.

    Lists stand in place of single values. Each combination trains once, in RUN/study; each view of an
    object is encoded once, however many numbers of views are asked for. One table (csv, json, markdown),
    one plot and a page go into RUN/study.
    """
    from edgeproof.study.command import study

    return study(
        place,
        run=run,
        overrides=overrides or [],
        vary=vary or [],
        views=views,
        gallery_views=gallery_views,
        seen=seen,
        galleries=gallery or [],
        seeds=seeds,
        split=split,
        device=device,
        as_json=as_json,
    )
