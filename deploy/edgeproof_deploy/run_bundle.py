"""The bundle of a run: which of the run's files are shipped, and what the manifest says about them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from edgeproof_configs.files import digest_of, read_json
from edgeproof_configs.registry import component_class
from edgeproof_configs.run import environment
from edgeproof_configs.stage import StageContext
from edgeproof_data.objects import ObjectSet
from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.engine import RUN_HERE
from edgeproof_deploy.forms import StudentForm, forms_of
from edgeproof_deploy.runtime.predictor import MODEL_FILE
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_deploy.runtime.self_test import FOLDER as SELF_TEST_FOLDER
from edgeproof_train.cascade_run import shipped_specialists
from edgeproof_train.run_data import RunData
from edgeproof_train.run_head import is_fitted
from edgeproof_train.student import CARD_FILE


def bundle_of_run(context: StageContext) -> list[Path]:
    """Write the bundle of a run whose other stages have finished, and return its files.

    What failed a gate of accuracy or parity is left out, and the manifest says so.
    """
    run = context.run
    card = read_json(run.stage("train") / CARD_FILE)
    built = run.record("build")
    unfit = left_out(context)
    exported = sorted(context.metrics("export")["files"])
    parts = BundleParts(
        name=context.recipe.name,
        models=[run.stage("export") / name for name in exported if name not in unfit],
        head=run.stage("head"),
        preprocess=replace(Preprocess.from_dict(card["edgeproof"]["preprocess"]), views=shown_views(context)),
        parity=run.stage("verify") / "parity.json",
        report=run.stage("report") / "report.html",
        text=[
            run.stage("export") / name for name in context.metrics("export").get("text", {}).get("files", ())
        ],
        engines=[
            run.stage("build") / name for name in (built.outputs if built else ()) if stem(name) not in unfit
        ],
        self_test=sorted(
            file for file in (run.stage("verify") / SELF_TEST_FOLDER).glob("*") if file.is_file()
        ),
        specialists=shipped_specialists(RunData(context), run.stage("head")),
        facts={**facts_of(context, card), "left_out": unfit},
    )
    return write_bundle(run.stage("bundle"), parts)


def shown_views(context: StageContext) -> int | None:
    """Return how many views of an object evaluation shows; None where a run's data are single images."""
    source: Any = component_class("data", context.recipe.data.kind)
    if not source.of_objects:
        return None
    images = RunData(context).split("test")
    assert isinstance(images, ObjectSet)
    return images.view_count


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
        **({"head": without_folders(context.metrics("head"))} if is_fitted(context.recipe.head) else {}),
        "data": {
            "images": seen.get("images", {}),
            "corrupt": seen.get("corrupt", 0),
            "sha256": embedded.inputs if embedded else None,
        },
        "environment": environment(),
    }


def left_out(context: StageContext) -> dict[str, str]:
    """Return the ONNX files and the plans, without suffix, that are not shipped, with the gates that failed.

    An ONNX file that several engines read goes along as long as one of them ran it and passed; the student as
    trained always does, for the others are compared with it. A plan goes with the file that it is made of.
    """
    found: dict[str, str] = {}
    passed = {MODEL_FILE}
    read = [
        (form, engine, form.onnx_name(engine), stem(plan_of(context, form, engine)))
        for form in forms_of(context.recipe, context.run)
        for engine in context.recipe.deploy.engines
        if not engine.startswith("pytorch")
    ]
    for form, engine, file, plan in read:
        failed = failed_gates(context, form, engine)
        if failed:
            words = f"{', '.join(failed)} failed"
            found.setdefault(file, words)
            found[plan] = words
        elif ran(context, form, engine):
            passed.add(file)
    unfit = {name: words for name, words in found.items() if name and name not in passed}
    for _, _, file, plan in read:
        if plan and file in unfit:
            unfit.setdefault(plan, f"{file} is left out: {unfit[file]}")
    return unfit


def ran(context: StageContext, form: StudentForm, engine: str) -> bool:
    """Whether an engine ran a form on this machine."""
    wanted = (form.name, engine, form.precision)
    return any(
        (row["form"], row["engine"], row["precision"]) == wanted and row["status"] == RUN_HERE
        for row in context.metrics("verify")["rows"]
    )


def failed_gates(context: StageContext, form: StudentForm, engine: str) -> list[str]:
    """Return the gates that a form failed in an engine, or in PyTorch before it was exported."""
    failed = [
        gate["name"]
        for row in context.metrics("verify")["rows"]
        if (row["form"], row["precision"]) == (form.name, form.precision)
        and row["engine"] in ("pytorch", engine)
        for gate in row["gates"]
        if gate["status"] == "fail"
    ]
    return list(dict.fromkeys(failed))


def plan_of(context: StageContext, form: StudentForm, engine: str) -> str:
    """Return the name of a form's plan; empty where the engine runs the ONNX file."""
    built = context.metrics("build")["engines"].get(f"{form.key}/{engine}", {})
    return built.get("file") or ""


def stem(name: str) -> str:
    """Return a plan's name without suffixes, which its sidecar and the list of its layers share."""
    return PurePath(name).name.partition(".")[0]


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
