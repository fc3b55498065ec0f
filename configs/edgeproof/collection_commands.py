"""The commands below `data` that make a data set of words and collections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeproof.data_commands import data_app
from edgeproof.options import DeviceOption, JsonOption, SetOption

TeacherOption = Annotated[
    str | None,
    typer.Option(metavar="YAML", help="A teacher as in a recipe: '{kind: …, …}'.", show_default=False),
]
TeacherRecipeOption = Annotated[
    str | None, typer.Option(metavar="RECIPE", help="Take this recipe's teacher.", show_default=False)
]
TeacherRunOption = Annotated[
    Path | None, typer.Option("--run", metavar="DIR", help="Take this run's teacher.", show_default=False)
]
TextOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.npy", help="Stored embeddings of the words.", show_default=False),
]


@data_app.command("prompts")
def data_prompts(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Names, one a line; csv; WordNet ids; class folders.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.txt", help="A new file; OUT.csv is made beside it.")],
    templates: Annotated[str, typer.Option(metavar="NAME|FILE", help="Prompt templates.")] = "plain",
    synonyms: Annotated[bool, typer.Option(help="Sentences with synonyms, too.")] = True,
    articles: Annotated[bool, typer.Option("--articles", help="Write an before a vowel.")] = False,
    descriptions: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Further sentences for each class.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Make labels and sentences of class names.

    OUT.txt has a label a line, all different; OUT.csv has label,prompt. Heads (head.labels), `edgeproof text`
    and `data search` read either.
    """
    from edgeproof.data_prompts import write_prompts

    return write_prompts(
        source,
        out,
        templates=templates,
        synonyms=synonyms,
        articles=articles,
        descriptions=descriptions,
        as_json=as_json,
    )


@data_app.command("index")
def data_index(
    images: Annotated[
        Path,
        typer.Argument(metavar="IMAGES", help="Images, tar shards, or published embeddings."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder for the collection.")],
    teacher: TeacherOption = None,
    recipe: TeacherRecipeOption = None,
    overrides: SetOption = None,
    run: TeacherRunOption = None,
    index: Annotated[
        str, typer.Option(metavar="auto|exact|ivf|hnsw", help="How it is searched; auto: ivf from 2 million.")
    ] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Images a forward pass.")] = 64,
    workers: Annotated[int, typer.Option(min=0, metavar="N", help="Processes that decode.")] = 0,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> int:
    """Embed a collection of images, so that it can be searched. A stopped one goes on.

    Published embeddings (arrays with parquet tables of URLs, as LAION and clip-retrieval have them) need no
    teacher.
    """
    from edgeproof.data_index import make_index
    from edgeproof.teacher_choice import TeacherChoice

    choice = TeacherChoice(teacher, recipe, tuple(overrides or ()), run, device)
    return make_index(
        images, out, teacher=choice, index=index, batch_size=batch_size, workers=workers, as_json=as_json
    )


@data_app.command("search")
def data_search(
    collection: Annotated[
        str, typer.Argument(metavar="COLLECTION|URL", help="As `data index` made it; or a search service.")
    ],
    prompts: Annotated[
        Path, typer.Argument(metavar="PROMPTS", help="Words (.txt, .csv); an image, a folder of images.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="The manifest: path or url, prompt, score.")],
    text: TextOption = None,
    teacher: TeacherOption = None,
    recipe: TeacherRecipeOption = None,
    overrides: SetOption = None,
    run: TeacherRunOption = None,
    per_prompt: Annotated[int, typer.Option(min=1, metavar="N", help="Images of each prompt.")] = 100,
    floor: Annotated[float, typer.Option(metavar="S", help="Least cosine with the prompt.")] = -1.0,
    margin: Annotated[float, typer.Option(min=0, metavar="S", help="Least lead over the next prompt.")] = 0.0,
    balance: Annotated[
        float | None,
        typer.Option(min=1, metavar="R", help="At most R times the rarest prompt.", show_default=False),
    ] = None,
    alike: Annotated[
        float | None,
        typer.Option(min=0.5, max=1, metavar="S", help="Keep one of images this alike.", show_default=False),
    ] = None,
    safety: Annotated[
        str, typer.Option(metavar="tagged|strict|off", help="Leave out what is tagged as unsafe.")
    ] = "tagged",
    append: Annotated[bool, typer.Option("--append", help="Add to OUT.csv.")] = False,
    index_name: Annotated[str, typer.Option(metavar="NAME", help="Of a service: which index.")] = "",
    timeout: Annotated[float, typer.Option(min=0.1, metavar="S", help="Of a service.")] = 60.0,
    retries: Annotated[int, typer.Option(min=0, metavar="N", help="Of a service.")] = 4,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> int:
    """Find the images of a collection that fit words, or images.

    An image goes to the prompt that it fits best. A service is one that speaks clip-retrieval's protocol; a
    stopped search goes on with the prompts that are left.
    """
    from edgeproof.search_run import Asked, run_search
    from edgeproof.teacher_choice import TeacherChoice
    from edgeproof_data.search.exact import Floor
    from edgeproof_data.search.rules import Rules

    return run_search(
        collection,
        prompts,
        out,
        Rules(per_prompt, Floor(floor, margin), alike, balance),
        Asked(text, TeacherChoice(teacher, recipe, tuple(overrides or ()), run, device)),
        safety=safety,
        append=append,
        service={"index_name": index_name, "timeout_seconds": timeout, "retries": retries},
        as_json=as_json,
    )


@data_app.command("filter")
def data_filter(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="A new table: path,part,label.")],
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Of a search: only its images.", show_default=False),
    ] = None,
    collection: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="`data index` of these images.", show_default=False),
    ] = None,
    smallest: Annotated[int, typer.Option(min=1, metavar="PX", help="Least shorter side.")] = 16,
    near: Annotated[bool, typer.Option("--near", help="One of images that look the same.")] = False,
    alike: Annotated[
        float | None,
        typer.Option(min=0.5, max=1, metavar="S", help="One of images this alike in meaning, as 0.95."),
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(metavar="S", help="Training images: least cosine with their label.", show_default=False),
    ] = None,
    agree: Annotated[
        bool, typer.Option("--agree", help="Training images: no other label may be nearer.")
    ] = False,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The words of the labels, .txt or .csv.", show_default=False),
    ] = None,
    text: TextOption = None,
    teacher: TeacherOption = None,
    recipe: TeacherRecipeOption = None,
    overrides: SetOption = None,
    run: TeacherRunOption = None,
    val: Annotated[
        float | None,
        typer.Option(min=0.001, max=0.9, metavar="F", help="Keep this part for val.", show_default=False),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(min=0.001, max=0.9, metavar="F", help="Keep this part for test.", show_default=False),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Contact sheets and class balance.", show_default=False),
    ] = None,
    link: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A tree of links to what stays.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of --val and --test.")] = 0,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> int:
    """Choose which images stay; nothing is deleted or copied.

    Corrupt, tiny and duplicate images do not stay, nor do training images that are also in val or test. What
    does not stay, and why, is in OUT.removed.csv.
    """
    from edgeproof.data_filter import Demands, Places, filter_images, held_out
    from edgeproof.search_run import Asked
    from edgeproof.teacher_choice import TeacherChoice

    return filter_images(
        Places(folder, out, manifest, collection, page, link),
        Demands(smallest, near, alike, floor, agree),
        Asked(text, TeacherChoice(teacher, recipe, tuple(overrides or ()), run, device)),
        prompts,
        held_out(val, test),
        seed=seed,
        as_json=as_json,
    )


@data_app.command("download")
def data_download(
    listed: Annotated[
        Path, typer.Argument(metavar="LIST", help="Addresses: .txt, .csv, .parquet, a search's manifest.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, or one to go on with.")],
    form: Annotated[str, typer.Option("--format", metavar="files|webdataset", help="How it is stored.")] = (
        "files"
    ),
    image_size: Annotated[
        int | None,
        typer.Option(min=16, metavar="PX", help="Reduce larger images to this side.", show_default=False),
    ] = None,
    smallest: Annotated[int, typer.Option(min=1, metavar="PX", help="Least shorter side.")] = 64,
    quality: Annotated[int, typer.Option(min=1, max=100, metavar="Q", help="Of the JPEGs.")] = 95,
    most_megabytes: Annotated[
        float, typer.Option("--max-mb", min=0.01, metavar="MB", help="Of an image at most.")
    ] = 20.0,
    seconds: Annotated[
        float, typer.Option("--timeout", min=0.5, metavar="S", help="For an image, all in all.")
    ] = 30.0,
    retries: Annotated[int, typer.Option(min=0, metavar="N", help="Of what may pass.")] = 1,
    shard_size: Annotated[int, typer.Option(min=1, metavar="N", help="Addresses of a shard.")] = 1_000,
    processes: Annotated[int, typer.Option(min=1, metavar="N", help="That fetch.")] = 1,
    threads: Annotated[int, typer.Option(min=1, metavar="N", help="Of each process.")] = 16,
    agent: Annotated[
        str, typer.Option(metavar="NAME", help="The name to give, and to look for in robots.txt.")
    ] = "edgeproof",
    as_json: JsonOption = False,
) -> int:
    """Fetch images from a list of addresses, and check each. A stopped download goes on.

    Images are stored anew as JPEG and named by their content. What robots.txt, X-Robots-Tag or
    TDM-Reservation keep out is not taken. OUT/images.csv and OUT/failed.csv log every address.
    """
    from edgeproof.data_download import download
    from edgeproof_data.download.fetching import FetchOptions
    from edgeproof_data.download.guarded import Limits

    limits = Limits(
        most_bytes=int(most_megabytes * 1_000_000),
        seconds=seconds,
        connect_seconds=min(seconds, 10.0),
        agent=agent,
    )
    options = FetchOptions(image_size, smallest, quality, shard_size, processes, threads, retries, limits)
    return download(listed, out, options, form=form, as_json=as_json)
