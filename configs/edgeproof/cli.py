"""The command line. Each command imports what it needs when it runs, so that `--help` costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeproof import (
    bundle_commands,
    exchange_commands,
    head_commands,
    measure_commands,
    study_command,
    verify_command,
)
from edgeproof.chain_runs import run_chain, stage_command
from edgeproof.options import (
    DeviceOption,
    JsonOption,
    RebuildOption,
    RecipeArgument,
    RunOption,
    SeedsOption,
    SetOption,
    StrictOption,
)

app = typer.Typer(
    name="edgeproof",
    epilog="--debug, anywhere on the line, shows the traceback of a failure.",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)

STAGES = {
    "curate": "Choose images without labels by the words of the head.",
    "embed": "Compute, or check, the teacher's embeddings of every image.",
    "train": "Distil the student.",
    "compress": "Make the student sparse, INT8, or both.",
    "export": "Write the student as ONNX.",
    "build": "Build the engines.",
    "report": "Write report.html and result.json.",
    "bundle": "Pack what is shipped, with its proof.",
}


def show_version(show: bool) -> None:
    """Print the version and stop."""
    if show:
        from edgeproof_configs import __version__

        print(__version__)
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
) -> None:
    """Distil a large vision model into a small one, ship it to the edge, prove that nothing was lost."""


@app.command()
def ship(
    recipe: RecipeArgument,
    run: RunOption = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="STAGE", help="Redo from this stage on.", show_default=False),
    ] = None,
    overrides: SetOption = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the resolved recipe and where each value came from.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan and an estimate, run nothing.")
    ] = False,
    device: DeviceOption = None,
    strict: StrictOption = False,
    seeds: SeedsOption = None,
) -> int:
    """Run every stage of a recipe, in order.

    Finished stages whose inputs did not change are skipped, and an interrupted one goes on where it stopped.
    """
    if print_config or dry_run:
        from edgeproof import recipes

        if print_config:
            print(recipes.resolved(recipe, overrides or []), end="")
        if dry_run:
            print(recipes.plan(recipe, overrides or [], run, start))
        return 0
    return run_chain(
        recipe, seeds, overrides=overrides or [], run=run, start=start, device=device, strict=strict
    )


for _stage, _text in STAGES.items():
    app.command(_stage)(stage_command(_stage, _text))
app.add_typer(head_commands.head_app, name="head")
app.command()(verify_command.verify)
app.command()(measure_commands.bench)
app.command()(measure_commands.advise)
app.command()(study_command.study)
app.command()(bundle_commands.demo)
app.command()(bundle_commands.push)
app.command("export-triton")(bundle_commands.export_triton)


@app.command()
def predict(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE|RUN", help="A bundle (folder or .tar), or a run.")
    ],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE|FOLDER", help="Images; of objects, a folder of views each.")
    ],
    engine: Annotated[str, typer.Option(metavar="NAME", help="See `edgeproof ls engines`.")] = "onnxruntime",
    labels: Annotated[
        str | None, typer.Option(metavar="FILE|A,B,C", help="Choose among these labels only.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many labels to show.")] = 5,
    one_object: Annotated[bool, typer.Option("--object", help="The images are views of one object.")] = False,
    rebuild: RebuildOption = False,
    as_json: JsonOption = False,
) -> int:
    """Say what is in images, without PyTorch."""
    from edgeproof.prediction import predict

    return predict(
        bundle,
        images,
        engine=engine,
        labels=labels,
        top=top,
        as_json_text=as_json,
        rebuild=rebuild,
        one_object=one_object,
    )


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN|RECIPE", help="A run; with --weights a recipe.")],
    split: Annotated[str, typer.Option(metavar="train|val|test", help="Which part of the data.")] = "test",
    tta: Annotated[bool, typer.Option("--tta", help="Score ten crops of each image, too.")] = False,
    fine: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="csv path,label: verify by these labels.", show_default=False),
    ] = None,
    coarse: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="csv path,label: verify by these, too.", show_default=False),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Score the student in this folder instead.", show_default=False),
    ] = None,
    overrides: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where tables go.  [RUN/evaluate/SPLIT]", show_default=False),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Search these objects, too.", show_default=False),
    ] = None,
    query_views: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Ask with so few views of each object, too.", show_default=False
        ),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> int:
    """Score a run's teacher and student, or given weights.

    Of objects with several views also how well each finds the others of its class.
    """
    from edgeproof.evaluation.command import evaluate

    return evaluate(
        run,
        split=split,
        device=device,
        tta=tta,
        fine=fine,
        coarse=coarse,
        weights=weights,
        overrides=overrides,
        out=out,
        gallery=gallery,
        query_views=query_views,
        as_json=as_json,
    )


@app.command()
def text(
    prompts: Annotated[Path, typer.Argument(metavar="PROMPTS", help="A file with one text a line.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new .npy file.")],
    recipe: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="Whose teacher embeds them.", show_default=False)
    ] = None,
    overrides: SetOption = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="DIR", help="The run whose teacher embeds them.", show_default=False),
    ] = None,
    templates: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Put each line into these prompt templates.")
    ] = None,
    device: DeviceOption = None,
) -> int:
    """Embed a file of prompts with a teacher's text tower."""
    from edgeproof.text_embeddings import embed_text

    return embed_text(
        prompts, out, recipe=recipe, overrides=overrides or [], run=run, templates=templates, device=device
    )


@app.command("import")
def import_command(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A .safetensors, .pt or .pth file with a state dict.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the student.")],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="timm's name of its network.", show_default=False)
    ],
    image_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Side of its input in pixels.  [timm's]", show_default=False),
    ] = None,
    embedding_dim: Annotated[
        int | None,
        typer.Option(metavar="D", help="How many values its classifier must give.", show_default=False),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Names of the classes that it scores, one a line.", show_default=False
        ),
    ] = None,
) -> int:
    """Make a student of another tool's checkpoint.

    Masks of apex's ASP and ranges of pytorch-quantization are kept. Only tensors are read: a pickle that
    needs more could run code and is refused. OUT serves as student.weights in a recipe, and for `evaluate
    RECIPE --weights OUT`.
    """
    from edgeproof.checkpoints import import_checkpoint

    return import_checkpoint(
        checkpoint, out, model=model, image_size=image_size, embedding_dim=embedding_dim, classes=classes
    )


@app.command("ls")
def list_command(
    what: Annotated[
        str, typer.Argument(metavar="recipes|data|teachers|students|losses|heads|engines", show_default=False)
    ],
) -> int:
    """List what there is, with a line about each."""
    from edgeproof.catalogue import list_things, table

    print(table(list_things(what)))
    return 0


@app.command("cp")
def copy_command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The name of a shipped recipe.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, or a folder.")],
) -> int:
    """Copy a shipped recipe to edit."""
    from edgeproof.catalogue import copy_recipe

    target = copy_recipe(recipe, file)
    print(f"{target}: edit it, then run `edgeproof ship {target}`")
    return 0


@app.command()
def doctor(as_json: JsonOption = False) -> int:
    """Look at this machine: what is there and what is missing."""
    from edgeproof.doctor import examine, failed, render

    findings = examine()
    print(render(findings, as_json))
    return 1 if failed(findings) else 0


app.add_typer(exchange_commands.data_app, name="data")
