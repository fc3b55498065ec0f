"""The commands below `data` that move data sets out and in, and say what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeproof.collection_commands import data_app
from edgeproof.options import JsonOption, SetOption

SeedOption = Annotated[int, typer.Option(min=0, metavar="N", help="Another seed draws others.")]


@data_app.command("export")
def data_export(
    source: Annotated[str, typer.Argument(metavar="RUN|RECIPE|DIR", help="Whose images.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A new .parquet or .arrow file; with --shards a folder.")
    ],
    shards: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Write tar shards of N samples each.", show_default=False),
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="train|val|test", help="This part alone.", show_default=False)
    ] = None,
    dtype: Annotated[str, typer.Option(metavar="float16|float32", help="Of embeddings.")] = "float16",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> int:
    """Write images as a table for Spark, Ray or DuckDB, or as WebDataset shards.

    A table has path, part, label, captions and, of a run, the teacher's embedding of each image. Shards have
    the images themselves, the same bytes whenever they are written, and the embeddings beside them.
    """
    from edgeproof.data_exchange import export

    return export(
        source, out, overrides=overrides or [], shards=shards, part=part, dtype=dtype, as_json=as_json
    )


@data_app.command("import")
def data_import(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A folder, csv, JSON lines, COCO json, Parquet, Arrow.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="A new table: path,part,label.")],
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where paths start.  [where SOURCE lies]", show_default=False),
    ] = None,
    path_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the paths.", show_default=False)
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the classes.", show_default=False)
    ] = None,
    caption_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the captions.", show_default=False)
    ] = None,
    part_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of train, val, test.", show_default=False)
    ] = None,
    test: Annotated[
        float, typer.Option(min=0.001, max=0.9, metavar="F", help="Part to test on where SOURCE names none.")
    ] = 0.1,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> int:
    """Make one manifest of what another tool wrote, for data.split of a recipe.

    Captions go into OUT.captions.csv (data.captions), embeddings into OUT.npy with OUT.index.csv (teacher
    kind stored).
    """
    from edgeproof.data_exchange import import_data
    from edgeproof_data.exchange.manifest import Columns

    columns = Columns(path_column, label_column, caption_column, part_column)
    return import_data(source, out, root=root, columns=columns, test=test, seed=seed, as_json=as_json)


@data_app.command("plan")
def data_plan(
    images: Annotated[
        str, typer.Option("--images", metavar="N", help="How many: 1M, 100M, 5B.", show_default=False)
    ],
    embed_rate: Annotated[
        float,
        typer.Option(min=1e-6, metavar="R", help="Images/s that one device embeds.", show_default=False),
    ],
    train_rate: Annotated[
        float,
        typer.Option(min=1e-6, metavar="R", help="Images/s that one device trains on.", show_default=False),
    ],
    devices: Annotated[int, typer.Option(min=1, metavar="N", help="That work at once.")] = 1,
    epochs: Annotated[float, typer.Option(min=0.001, metavar="E", help="Of the training.")] = 10,
    image_kb: Annotated[float, typer.Option(min=0.001, metavar="KB", help="Of an image file.")] = 20,
    dim: Annotated[int, typer.Option(min=1, metavar="D", help="Values of an embedding.")] = 512,
    link_mb: Annotated[
        float | None,
        typer.Option(min=1e-6, metavar="MB/S", help="At which shards come in.", show_default=False),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(min=0, metavar="P", help="Of one device for an hour.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Work out time, bytes and cost of a training from rates that you measured.

    `python -m edgeproof_benchmarks.embed_shards` and `.train_step` measure them on your machine.
    """
    from edgeproof.data_plan import plan

    return plan(
        images,
        embed_rate=embed_rate,
        train_rate=train_rate,
        devices=devices,
        epochs=epochs,
        image_kb=image_kb,
        dim=dim,
        link_mb=link_mb,
        price=price,
        as_json=as_json,
    )
