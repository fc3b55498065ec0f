"""The commands `demo`, `push` and `export-triton`: what is done with a bundle once it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleArgument = Annotated[
    Path, typer.Argument(metavar="BUNDLE|RUN", help="A bundle (folder or .tar), or a run.")
]


def demo(
    bundle: BundleArgument,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A camera's number, a video, an image or a folder.")
    ] = "0",
    engine: Annotated[str, typer.Option(metavar="NAME", help="See `edgeproof ls engines`.")] = "onnxruntime",
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE|A,B,C", help="Choose among these labels.", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many labels to draw.")] = 3,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.mp4", help="Write a video; no window.", show_default=False),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after N frames.", show_default=False)
    ] = None,
) -> int:
    """Watch a bundle at work, on a camera or a video.

    In the window `q` ends it.
    """
    from edgeproof.demo import demo

    return demo(bundle, source, engine=engine, labels=labels, top=top, out=out, frames=frames)


def push(
    place: BundleArgument,
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="owner/name on the Hugging Face hub.")],
    dry_run: Annotated[
        Path | None,
        typer.Option(
            "--dry-run", metavar="DIR", help="Write the files here, upload nothing.", show_default=False
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="A new repository is private unless told.")
    ] = False,
) -> int:
    """Upload card, config, weights and bundle to the hub.

    The token is the hub library's own: `hf auth login`, or HF_TOKEN.
    """
    from edgeproof.push import push

    return push(place, repo_id, dry_run=dry_run, public=public)


def export_triton(
    bundle: BundleArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Triton's model repository.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="ONNX file of the bundle, or engines/NAME.engine.  [the recommended]",
            show_default=False,
        ),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, metavar="N", help="Images that it may put together.")] = 8,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the model.  [the bundle's]", show_default=False),
    ] = None,
) -> int:
    """Put a bundle's model into a Triton model repository."""
    from edgeproof.push import export_triton

    return export_triton(bundle, folder, model=model, max_batch=max_batch, name=name)
