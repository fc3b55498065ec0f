"""The deploying side of the chain: export, build, verify, bundle. One function a stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeproof_configs.run import environment
from edgeproof_configs.stage import StageContext, StageOutcome
from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.engine import BuildOptions, make_engine
from edgeproof_deploy.export import export_onnx
from edgeproof_deploy.parity import gate_failures, gates_not_measured
from edgeproof_deploy.parity_report import write_parity
from edgeproof_deploy.pictures import write_pictures
from edgeproof_deploy.verify import Verification, verify_run
from edgeproof_train.run_data import RunData
from edgeproof_train.student import Student

MODEL_FILE = "model.onnx"


def export_stage(context: StageContext) -> StageOutcome:
    """Write the student as ONNX and compare the file with it at once."""
    folder = context.folder("export")
    student = Student.load(context.run.stage("train"))
    metadata = {"recipe": context.recipe.name, "teacher": context.recipe.teacher.kind}
    made = export_onnx(student, folder / MODEL_FILE, opset=context.recipe.deploy.opset, metadata=metadata)
    metrics = {"size_bytes": made.size_bytes, "nodes": made.nodes, "cosine_min": made.cosine_min}
    summary = (
        f"{made.size_bytes / 1e6:.1f} MB, {made.nodes} nodes, equal to the student to {made.max_abs:.1e}"
    )
    return StageOutcome([folder / MODEL_FILE], metrics | {"max_abs": made.max_abs}, summary)


def build_stage(context: StageContext) -> StageOutcome:
    """Build every engine of the recipe that is something else than the ONNX file itself."""
    deploy, folder = context.recipe.deploy, context.folder("build")
    options = BuildOptions(batch=deploy.batch, compute_capability=deploy.compute_capability)
    outputs: list[Path] = []
    engines: dict[str, Any] = {}
    for kind in deploy.engines:
        engine = make_engine(kind)
        source = source_of(context, engine.source)
        built = engine.build(source, folder, options)
        files = engine.files(built)
        outputs += files
        engines[kind] = {
            "status": engine.status,
            "reason": engine.why_not_here() or "",
            "file": files[0].name if files else None,
            "size_bytes": size_of(built),
        }
    words = [
        f"{kind} {found['size_bytes'] / 1e6:.1f} MB, {found['status']}" for kind, found in engines.items()
    ]
    return StageOutcome(outputs, {"engines": engines}, "; ".join(words))


def source_of(context: StageContext, source: str) -> Path:
    """Return what an engine is made from: the ONNX file, or the student's folder."""
    run = context.run
    return run.stage("export") / MODEL_FILE if source == "onnx" else run.stage("train")


def built_file(context: StageContext, kind: str) -> Path:
    """Return what an engine opens."""
    name = context.metrics("build")["engines"][kind]["file"]
    return context.run.stage("build") / name if name else source_of(context, make_engine(kind).source)


def size_of(built: Path) -> int:
    """Return the bytes of a model: of the file, or of the weights in a student's folder."""
    return (built if built.is_file() else built / "model.safetensors").stat().st_size


def verify_stage(context: StageContext) -> StageOutcome:
    """Score every form once on `test`, compare them pair by pair, and judge the gates."""
    folder = context.folder("verify")
    data = RunData(context)
    opened = {kind: built_file(context, kind) for kind in context.recipe.deploy.engines if kind != "pytorch"}
    found: Verification = verify_run(data, opened, folder)
    write_parity(folder / "parity.json", found.pairs, found.preprocessing, environment())
    pictures = write_pictures(data, found, folder)
    failures = gate_failures(found.pairs) + found.other_failures()
    metrics = {
        "rows": found.rows,
        "controls": found.controls,
        "gate_failures": failures,
        "gates_not_measured": gates_not_measured(found.pairs),
    }
    said = "; ".join(failures) if failures else f"every measured gate holds on {found.images} test images"
    return StageOutcome([folder / "parity.json", *pictures], metrics, said)


def bundle_stage(context: StageContext) -> StageOutcome:
    """Pack what is shipped, with its proof."""
    run, build = context.run, context.run.record("build")
    embedded = context.metrics("embed")
    parts = BundleParts(
        name=context.recipe.name,
        model=run.stage("export") / MODEL_FILE,
        head=run.stage("head"),
        preprocess=Student.load(run.stage("train")).preprocess,
        parity=run.stage("verify") / "parity.json",
        report=run.stage("report") / "report.html",
        engines=[run.stage("build") / name for name in sorted(build.outputs)] if build else [],
        facts={
            "teacher": embedded["teacher"],
            "student": context.recipe.student.model_dump(mode="json"),
            "data": {"kind": context.recipe.data.kind, "images": embedded["images"]},
            "recipe": context.recipe.model_dump(mode="json"),
            "environment": environment(),
        },
    )
    files = write_bundle(context.run.stage("bundle"), parts)
    size = sum(file.stat().st_size for file in files)
    return StageOutcome(files, {"size_bytes": size}, f"{len(files)} files, {size / 1e6:.1f} MB")
