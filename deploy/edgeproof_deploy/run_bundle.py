"""The bundle of a run: which of the run's files are shipped, and what the manifest says about them."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from edgeproof_configs.files import digest_of, read_json
from edgeproof_configs.run import environment
from edgeproof_configs.stage import StageContext
from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.forms import forms_of
from edgeproof_deploy.runtime.predictor import MODEL_FILE
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.student import CARD_FILE


def bundle_of_run(context: StageContext) -> list[Path]:
    """Write the bundle of a run whose other stages have finished, and return its files."""
    run = context.run
    card = read_json(run.stage("train") / CARD_FILE)
    built = run.record("build")
    parts = BundleParts(
        name=context.recipe.name,
        models=[run.stage("export") / name for name in sorted(context.metrics("export")["files"])],
        head=run.stage("head"),
        preprocess=Preprocess.from_dict(card["edgeproof"]["preprocess"]),
        parity=run.stage("verify") / "parity.json",
        report=run.stage("report") / "report.html",
        engines=[run.stage("build") / name for name in built.outputs] if built else [],
        facts=facts_of(context, card),
    )
    return write_bundle(run.stage("bundle"), parts)


def facts_of(context: StageContext, card: dict[str, Any]) -> dict[str, Any]:
    """Return what the manifest says besides the files: where everything in the bundle came from.

    Folders of the machine are left out: of an absolute path its last part stays.
    """
    embedded = context.run.record("embed")
    recipe = without_folders(context.recipe.model_dump(mode="json"))
    seen = context.metrics("embed")
    result = read_json(context.run.path / "result.json")
    return {
        "verdict": result["sentence"],
        "model": recommended(context, result.get("shipped")),
        "recipe": recipe,
        "recipe_sha256": digest_of(recipe),
        "teacher": without_folders(seen.get("teacher", {})),
        "student": card,
        "data": {
            "images": seen.get("images", {}),
            "corrupt": seen.get("corrupt", 0),
            "sha256": embedded.inputs if embedded else None,
        },
        "environment": environment(),
    }


def recommended(context: StageContext, shipped: dict[str, str] | None) -> str:
    """Return the ONNX file of the form that the verdict says to ship, or of the student as trained."""
    for form in forms_of(context.recipe, context.run):
        if shipped and (form.name, form.precision) == (shipped["form"], shipped["precision"]):
            return form.onnx_name("onnxruntime")
    return MODEL_FILE


def without_folders(value: Any) -> Any:
    """Return plain data in which every absolute path is reduced to its last part."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    return PurePath(value).name if isinstance(value, str) and PurePath(value).is_absolute() else value
