"""The commands below `data`: looking at a data set, and choosing what is for what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeproof.options import JsonOption

data_app = typer.Typer(rich_markup_mode=None)


@data_app.callback()
def data_root() -> None:
    """Make and look at data before training on them."""


@data_app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images.")],
    smallest: Annotated[
        int, typer.Option(min=1, metavar="PX", help="Shorter side that an image must have.")
    ] = 16,
    near: Annotated[bool, typer.Option("--near", help="Look for images that look the same, too.")] = False,
    views: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Of objects: views each is to have.", show_default=False),
    ] = None,
    collection: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="`data index` of these: find what means the same.", show_default=False
        ),
    ] = None,
    alike: Annotated[
        float, typer.Option(min=0.5, max=1, metavar="S", help="Cosine from which images mean the same.")
    ] = 0.95,
    as_json: JsonOption = False,
) -> int:
    """Find corrupt, empty, tiny and duplicate images, and objects with too few views.

    The exit code is 1 if there are any.
    """
    from edgeproof.data_check import check

    return check(
        folder,
        smallest_side=smallest,
        near=near,
        as_json=as_json,
        views=views,
        collection=collection,
        alike=alike,
    )


@data_app.command("split")
def data_split(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Class folders, or train and test with class folders.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="A new table: path,part,label.")],
    shots: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Training images of each class.", show_default=False),
    ] = None,
    val_shots: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Validation images of each class.  [N, at most 4]", show_default=False
        ),
    ] = None,
    seen: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Of objects with views: classes to train on.", show_default=False
        ),
    ] = None,
    unseen: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Of objects: classes to keep for test.", show_default=False),
    ] = None,
    retrieval: Annotated[
        float | None,
        typer.Option(metavar="F", help="Part of a class's objects that ask.  [0.2]", show_default=False),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="How many of a class's objects ask, in place of F.", show_default=False
        ),
    ] = None,
    each_other: Annotated[
        bool, typer.Option("--each-other", help="No gallery: all objects of test search each other.")
    ] = False,
    links: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a tree of links as well: DS and DU.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Another seed draws others.")] = 0,
    as_json: JsonOption = False,
) -> int:
    """Draw a few images of each class, or seen and unseen classes of objects with views.

    With --shots: a few images of each class, and which classes are rare. With --seen and --unseen: objects
    (class/object/view.jpg) of seen classes to train on and to ask with, objects of unseen classes to ask with
    and to search; the unseen classes go into OUT.unseen.txt, for data.unseen.
    """
    if seen is not None or unseen is not None:
        from edgeproof.object_split import Wanted, split_objects

        wanted = Wanted.of(seen, unseen, retrieval, queries, each_other, seed, shots, val_shots)
        return split_objects(folder, out, wanted, links=links, as_json=as_json)
    from edgeproof.data_split import split, told_shots

    shots = told_shots(
        shots, {"--retrieval": retrieval, "--queries": queries, "--each-other": each_other, "--links": links}
    )
    return split(folder, out, shots=shots, val_shots=val_shots, seed=seed, as_json=as_json)


@data_app.command("views")
def data_views(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Objects: class/object/view.jpg.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A new table OUT.csv: path,view; or a folder of links.")
    ],
    keep: Annotated[
        int, typer.Option(min=1, metavar="N", help="Views to keep of each object.", show_default=False)
    ],
    how: Annotated[str, typer.Option(metavar="random|even", help="How they are chosen.")] = "random",
    too_few: Annotated[
        str, typer.Option(metavar="refuse|leave_out", help="What becomes of objects with fewer.")
    ] = "refuse",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Another seed draws others.")] = 0,
    as_json: JsonOption = False,
) -> int:
    """Choose some views of each object; nothing is copied."""
    from edgeproof.object_views import keep_views

    return keep_views(folder, out, keep=keep, how=how, too_few=too_few, seed=seed, as_json=as_json)


@data_app.command("render")
def data_render(
    meshes: Annotated[Path, typer.Argument(metavar="MESHES", help="A folder of .off, .obj, .glb files.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder for the views.")],
    views: Annotated[
        int, typer.Option(metavar="12|20", help="12 around at 30 degrees, or 20 on a dodecahedron.")
    ] = 12,
    size: Annotated[int, typer.Option(min=16, max=1024, metavar="PX", help="Side of a view.")] = 224,
    up: Annotated[
        str, typer.Option(metavar="auto|x|y|z", help="Which axis points up; auto: y in .glb, else z.")
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes.  [one a core]", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Render views of meshes; what is there already stays.

    MESHES/class/chair_1.off becomes OUT/class/chair_1/00.png and so on. Broken meshes are left out, listed in
    OUT/broken.csv with the reason, and make the exit code 1.
    """
    from edgeproof.mesh_views import render_meshes

    return render_meshes(meshes, out, views=views, size=size, up=up, workers=workers, as_json=as_json)


@data_app.command("proposed")
def data_proposed(
    mats: Annotated[
        Path, typer.Argument(metavar="MATS", help="A folder with res101.mat and att_splits.mat.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the photos.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="A new table: path,part,label.")],
) -> int:
    """Write a proposed split of zero-shot learning as a table.

    The classes that only test has go into OUT.unseen.txt, for data.unseen.
    """
    from edgeproof.data_split import proposed

    return proposed(mats, folder, out)
