"""`study`: a recipe with lists in place of single values, its runs, one table and one plot."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from edgeproof.evaluation.searches import Collection
from edgeproof.evaluation.tables import write_csv
from edgeproof.seeds import say
from edgeproof.ship import choose_device
from edgeproof.study.measuring import Asked, check_objects, measure
from edgeproof.study.tables import cells_of, columns_of, markdown, means_of, panels_of
from edgeproof.study.variants import (
    SEED,
    Variant,
    numbers_of,
    parse_varied,
    train_variant,
    variants_of,
)
from edgeproof_benchmarks.study_chart import study_chart
from edgeproof_benchmarks.study_page import study_drawing, study_page
from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import write_json, write_text
from edgeproof_configs.loader import load_recipe, peek_name
from edgeproof_configs.registry import build

FOLDER = "study"
SPLITS = ("train", "val", "test")


def study(
    place: str,
    *,
    run: Path | None = None,
    overrides: Sequence[str] = (),
    vary: Sequence[str] = (),
    views: str | None = None,
    gallery_views: int | None = None,
    seen: str | None = None,
    galleries: Sequence[Path] = (),
    seeds: int | None = None,
    split: Any = "test",
    device: str | None = None,
    as_json: bool = False,
) -> int:
    """Train what is varied, score it, write table, plot and page, and return 0.

    What has been trained is not trained again, and a view that was encoded not encoded again: the same
    command goes on where it was stopped, and asks for more views at no cost.

    Args:
        place: a recipe, or a run.
        run: the run that a recipe's study belongs to; `runs/<recipe name>` if None.
        overrides: `key=value` settings of all runs.
        vary: `key=value,value`, of which every combination is trained.
        views: `1,2,4`: how many views of an object are seen.
        gallery_views: how many of those that are searched.
        seen: `2,4`: how many classes are trained on.
        galleries: folders of other collections.
        seeds: how many trainings of each.
        split: of the queries.
        device: where torch works.
        as_json: print JSON.

    Raises:
        UsageError: an option does not fit.
    """
    if split not in SPLITS:
        raise UsageError(f"unknown part '{split}', expected one of {', '.join(SPLITS)}")
    recipe, base = place_of(place, run, overrides)
    asked = Asked(numbers_of(views, "--views"), gallery_views, tuple(galleries), split)
    counts = numbers_of(seen, "--seen")
    names = class_names(recipe, overrides) if counts else ()
    variants = variants_of(parse_varied(vary), seeds=seeds, seen=counts, class_names=names)
    # What is printed on the way is no part of the JSON.
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        rows = measured(recipe, base, variants, overrides, asked, device)
    told = write(base / FOLDER, base.name, variants, rows, asked)
    print(json.dumps(told, indent=2) if as_json else (base / FOLDER / "study.md").read_text(encoding="utf-8"))
    if not as_json:
        print(f"{base / FOLDER / 'study.html'}")
    return 0


def measured(
    recipe: str,
    base: Path,
    variants: Sequence[Variant],
    overrides: Sequence[str],
    asked: Asked,
    device: str | None,
) -> list[dict[str, Any]]:
    """Train every variant as far as that has not been done, and return the rows of all."""
    check_before(recipe, [[*overrides, *variant.overrides] for variant in variants], asked)
    rows: list[dict[str, Any]] = []
    donor: Path | None = base if (base / "embed" / "stage.json").exists() else None
    chosen = choose_device(device)
    for number, variant in enumerate(variants, 1):
        say(f"study {number} of {len(variants)}: {variant.folder or variant.name}")
        trained = train_variant(recipe, variant, base, overrides, device, donor)
        donor = donor or trained.path
        own = {"variant": variant.name, "seed": variant.settings.get(SEED, "")}
        rows += [own | row for row in measure(trained, asked, chosen, base / FOLDER / "features")]
    return rows


def check_before(recipe: str, settings: Sequence[list[str]], asked: Asked) -> None:
    """Refuse what no training can change, before any.

    Raises:
        RecipeError: a setting is wrong.
        UsageError: the data are no labelled objects, or some have fewer views than are asked for.
    """
    configs = [load_recipe(recipe, overrides).recipe.data for overrides in settings]
    source: Any = build("data", configs[0])
    source.prepare()
    images, gallery = source.split(asked.split), source.gallery() if asked.split == "test" else None
    check_objects(Collection(asked.split, images, "gallery", gallery), asked, source.root)


def place_of(place: str, run: Path | None, overrides: Sequence[str]) -> tuple[str, Path]:
    """Return the recipe to train by, and the run that the study belongs to.

    Raises:
        UsageError: a run is given, and another run or settings beside it.
    """
    resolved = Path(place) / "recipe.resolved.yaml"
    if not resolved.exists():
        return place, run or Path("runs") / peek_name(place, list(overrides))
    if run is not None or overrides:
        raise UsageError(
            "--run and --set have no effect on a run", where=place, fix="leave them away, or name a recipe"
        )
    return str(resolved), Path(place)


def class_names(recipe: str, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of a recipe's data.

    Raises:
        UsageError: these data cannot be told which classes to hold out.
    """
    config = load_recipe(recipe, list(overrides)).recipe.data
    if not hasattr(config, "unseen"):
        raise UsageError(f"data of kind {config.kind} hold out classes of their own: --seen has no effect")
    source: Any = build("data", config)
    source.prepare()
    return source.class_names


def write(
    folder: Path, name: str, variants: Sequence[Variant], rows: list[dict[str, Any]], asked: Asked
) -> dict[str, Any]:
    """Write `study.json`, `.csv` (a row for each seed), `.md`, `.svg` and `.html`; return the first."""
    means = means_of(rows)
    settings = {variant.name: variant.settings for variant in variants}
    told = {
        "name": name,
        "variants": {variant.folder or variant.name: variant.settings for variant in variants},
        "split": asked.split,
        "rows": rows,
        "means": means,
    }
    head, lines = cells_of(means)
    panels, axis = panels_of(means, settings)
    chart = study_chart(panels, axis, "mAP (standard)")
    columns = columns_of(rows)
    write_json(folder / "study.json", told)
    write_csv(folder / "study.csv", columns, [[row.get(name, "") for name in columns] for row in rows])
    write_text(folder / "study.md", markdown(head, lines))
    write_text(folder / "study.svg", study_drawing(chart))
    lead = lead_of(means, variants)
    write_text(folder / "study.html", study_page(f"{name}: retrieval study", lead, chart, head, lines, NOTES))
    return told


NOTES = (
    "standard: mAP without interpolation, NDCG@100 against the best possible, ANMRR of MPEG-7 (0 is perfect)."
    " osmn40: the evaluator of OS-MN40, with interpolated mAP, NDCG@100 against 100 relevant objects, and an"
    " ANMRR of its own; it has no NDCG where fewer than 100 objects are searched.",
    "all: every class may be mistaken for any other. seen and unseen: classes of the training, and those held"
    " out of it, each searched among themselves.",
)


def lead_of(means: Sequence[dict[str, Any]], variants: Sequence[Variant]) -> str:
    """Return what was varied in a sentence."""
    views = sorted({row["views"] for row in means})
    seeds = max(row["seeds"] for row in means)
    kinds = len({variant.name for variant in variants})
    parts = [
        f"{kinds} variants" if kinds > 1 else "one recipe",
        f"{seeds} seeds each, mean ± sample deviation" if seeds > 1 else "one seed",
        f"{', '.join(map(str, views))} views of an object"
        if len(views) > 1
        else f"{views[0]} views of an object",
    ]
    return "; ".join(parts) + "."
