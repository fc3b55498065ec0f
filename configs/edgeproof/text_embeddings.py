"""`text`: text embeddings of a file of prompts, by the teacher of a recipe or of a run."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import atomic_open, write_json
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.registry import build
from edgeproof_configs.run import RunDir, require_run

PROMPTS_AT_ONCE = 256


def embed_text(
    prompts: Path,
    out: Path,
    *,
    recipe: str | None,
    overrides: list[str],
    run: Path | None,
    templates: str | None,
    device: str | None,
) -> int:
    """Write unit text embeddings (K, D), float32, a row for each line or label of a file, and return 0.

    Args:
        prompts: one text a line; or csv `label,prompt`: the mean of each label's prompts.
        out: a new .npy file; what the rows depend on is written beside it as .json.
        recipe: whose teacher to take; that of the run if None.
        overrides: changes of the recipe.
        run: where a teacher lies that was trained in place.
        templates: name or file of prompt templates that each line is put into, and whose mean is taken; None
            embeds the lines as they are.
        device: where torch works.

    Raises:
        UsageError: neither a recipe nor a run is given; a file is missing, or there already; the teacher has
            no text tower.
    """
    _check_places(prompts, out, recipe, run)
    source = recipe if recipe is not None else str(require_run(run or Path()).path / "recipe.resolved.yaml")
    from edgeproof_data.prompts import prompts_for, read_prompts, read_templates

    given = read_prompts(prompts)
    lines = list(given)
    sentences = read_templates(templates) if templates is not None else ["{}"]
    teacher = _teacher(source, overrides, run, device)
    texts = [[text for one in given[line] for text in prompts_for(one, sentences)] for line in lines]
    matrix = embed_rows(texts, teacher)
    with atomic_open(out) as handle:
        np.save(handle, matrix)
    write_json(out.with_suffix(".json"), {"names": lines, "prompts": texts, "teacher": teacher.identity()})
    print(f"{out}: {matrix.shape[0]} rows of {matrix.shape[1]} values, unit length")
    return 0


def _check_places(prompts: Path, out: Path, recipe: str | None, run: Path | None) -> None:
    if recipe is None and run is None:
        raise UsageError("whose text tower?", fix="say --recipe RECIPE, or --run DIR")
    if out.suffix != ".npy":
        raise UsageError(
            "text embeddings are written as .npy", where=out, fix=f"say {out.with_suffix('.npy')}"
        )
    if not prompts.is_file():
        raise UsageError("there is no such file of prompts", where=prompts)
    for file in (out, out.with_suffix(".json")):
        if file.exists():
            raise UsageError("this file exists and is not overwritten", where=file)


def _teacher(recipe: str, overrides: list[str], run: Path | None, device: str | None) -> Any:
    from edgeproof.ship import choose_device
    from edgeproof_train.teacher import TeacherPlaces

    loaded = load_recipe(recipe, overrides).recipe
    root = build("data", loaded.data).root
    folder = RunDir(run or Path("runs") / loaded.name).stage("teacher")
    with redirect_stdout(sys.stderr):
        chosen = choose_device(device)
    return build("teacher", loaded.teacher, TeacherPlaces(root, folder, chosen)).lead


def embed_rows(texts: list[list[str]], teacher: Any) -> np.ndarray:
    """Return the unit mean of the unit embeddings of each row's texts, (K, D) float32."""
    from edgeproof_train.text import unit_rows

    flat = [text for row in texts for text in row]
    starts = range(0, len(flat), PROMPTS_AT_ONCE)
    blocks = [teacher.encode_text(flat[start : start + PROMPTS_AT_ONCE]).cpu().numpy() for start in starts]
    rows = np.split(unit_rows(np.concatenate(blocks)), np.cumsum([len(row) for row in texts])[:-1])
    return unit_rows(np.stack([row.mean(axis=0, dtype=np.float64) for row in rows]))
