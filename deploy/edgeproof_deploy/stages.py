"""The deploying side of the chain: export, build, verify, bundle. One function a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeproof_compress.calibration import calibration_images
from edgeproof_compress.integers import IntegerStudent
from edgeproof_compress.quantized_student import QuantizedStudent
from edgeproof_configs.run import environment
from edgeproof_configs.schema import DeployConfig
from edgeproof_configs.stage import StageContext, StageOutcome
from edgeproof_data.loader import eval_batches
from edgeproof_data.objects import ObjectSet
from edgeproof_deploy.engine import NOT_RUN_HERE, RUN_HERE, BuildOptions, make_engine, why_not_usable
from edgeproof_deploy.export import export_onnx
from edgeproof_deploy.forms import TENSORRT, StudentForm, forms_of, onnx_files
from edgeproof_deploy.parity import gate_failures, gates_not_measured
from edgeproof_deploy.parity_report import write_parity
from edgeproof_deploy.pictures import write_pictures
from edgeproof_deploy.qdq_lint import lint
from edgeproof_deploy.run_bundle import bundle_of_run, shown_views
from edgeproof_deploy.runtime.self_test import FOLDER as SELF_TEST_FOLDER
from edgeproof_deploy.self_test import self_test_of_run
from edgeproof_deploy.verify import FormFiles, Verification, verify_run
from edgeproof_train.cascade_run import routing_of
from edgeproof_train.run_data import RunData
from edgeproof_train.student import Student

CHECKED_IMAGES = 5
HALF_IMAGES = 64


def export_stage(context: StageContext) -> StageOutcome:
    """Write every form of the student as ONNX and compare each file with what it was made of at once."""
    folder = context.folder("export")
    files: dict[str, dict[str, Any]] = {}
    images = None
    for form in forms_of(context.recipe, context.run):
        for name, engine in onnx_files(form, list(context.recipe.deploy.engines)).items():
            if form.precision != "fp32" and images is None:
                images = calibration_batch(context)
            files[name] = {"form": form.key} | export_form(context, form, engine, folder / name, images)
    words = [
        f"{name.removeprefix('model.')} {told['size_bytes'] / 1e6:.1f} MB, cosine {told['cosine_min']:.6f}"
        for name, told in files.items()
    ]
    outputs, metrics = [folder / name for name in files], {**files["model.onnx"], "files": files}
    if context.recipe.deploy.text_encoder:
        from edgeproof_deploy.text_export import export_run_text

        text = export_run_text(RunData(context), folder)
        outputs += text.files
        metrics["text"] = text.to_dict() | {"files": [str(file.relative_to(folder)) for file in text.files]}
        words.append(f"text tower {text.size_bytes / 1e6:.1f} MB, cosine {text.cosine_min:.6f}")
    return StageOutcome(outputs, metrics, "; ".join(words))


def export_form(
    context: StageContext, form: StudentForm, engine: str, path: Path, images: np.ndarray | None
) -> dict[str, Any]:
    """Write the ONNX file that an engine reads of a form, and return how large and how near it is."""
    recipe = context.recipe
    metadata = {"recipe": recipe.name, "teacher": recipe.teacher.kind, "form": form.key}
    opset = recipe.deploy.opset
    if form.precision == "fp16":
        from edgeproof_deploy.half import to_fp16

        assert images is not None
        half = to_fp16(path.with_name("model.onnx"), path, images)
        return {"size_bytes": half.size_bytes, "nodes": half.nodes, "cosine_min": half.cosine_min}
    if form.precision == "int8":
        target = "tensorrt" if engine in TENSORRT else "onnxruntime"
        integers = IntegerStudent(QuantizedStudent.read(form.folder), target)
        some = None if images is None else images[:CHECKED_IMAGES]
        made = export_onnx(integers, path, opset=opset, metadata=metadata, images=some, target=target)
        findings = [finding.to_dict() for finding in lint(onnx.load(path), target)]
        return made.to_dict() | {"findings": findings}
    return export_onnx(form.load(), path, opset=opset, metadata=metadata).to_dict()


def calibration_batch(context: StageContext) -> np.ndarray:
    """Return real training images as the student's input, float32 (N, 3, H, W), or (N, V, 3, H, W)."""
    data = RunData(context)
    train = data.split("train")
    count = HALF_IMAGES
    if isinstance(train, ObjectSet):
        count = -(-count // train.view_count)
    images = calibration_images(train, count, context.recipe.train.seed)
    preprocess = Student.load(context.run.stage("train")).preprocess
    batches = eval_batches(images, preprocess, batch_size=HALF_IMAGES)
    return np.concatenate([batch["image"].numpy() for batch in batches])


def build_stage(context: StageContext) -> StageOutcome:
    """Build every engine of the recipe, of every form, that is something else than the ONNX file itself."""
    deploy, folder = context.recipe.deploy, context.folder("build")
    outputs: list[Path] = []
    engines: dict[str, Any] = {}
    for kind in deploy.engines:
        engine = make_engine(kind)
        for form in forms_of(context.recipe, context.run):
            if not form.runs_in(kind):
                continue
            source = source_of(context, form, kind)
            built = engine.build(source, folder, build_options(deploy, form, shown_views(context)))
            files = engine.files(built)
            outputs += files
            reason = engine.why_not_here(built)
            engines[f"{form.key}/{kind}"] = {
                "status": RUN_HERE if reason is None else NOT_RUN_HERE,
                "reason": reason or "",
                "file": files[0].name if files else None,
                "size_bytes": size_of(built),
            }
    words = [f"{name} {told['size_bytes'] / 1e6:.1f} MB, {told['status']}" for name, told in engines.items()]
    absent = {kind: why_not_usable(kind) for kind in deploy.engines_if_here if kind not in deploy.engines}
    words += [f"{kind} left out: {reason}" for kind, reason in absent.items()]
    return StageOutcome(outputs, {"engines": engines, "left_out": absent}, "; ".join(words))


def build_options(deploy: DeployConfig, form: StudentForm, views: int | None = None) -> BuildOptions:
    """Return how plans of a form are built; `views` are those that evaluation shows of an object."""
    return BuildOptions(
        batch=deploy.batch,
        views=() if views is None else deploy.views or (views, 1),
        compute_capability=deploy.compute_capability,
        precision=form.precision,
        label=form.key,
        sparse=form.name == "sparse",
        **deploy.tensorrt.model_dump(),
    )


def source_of(context: StageContext, form: StudentForm, kind: str) -> Path:
    """Return what an engine is made from: an ONNX file, or a student's folder."""
    if make_engine(kind).source == "student":
        return form.folder
    return context.run.stage("export") / form.onnx_name(kind)


def built_file(context: StageContext, form: StudentForm, kind: str) -> Path:
    """Return what an engine opens."""
    name = context.metrics("build")["engines"][f"{form.key}/{kind}"]["file"]
    return context.run.stage("build") / name if name else source_of(context, form, kind)


def size_of(built: Path) -> int:
    """Return the bytes of a model: of the file, or of the weights in a student's folder."""
    return (built if built.is_file() else built / "model.safetensors").stat().st_size


def verify_stage(context: StageContext) -> StageOutcome:
    """Score every form once on `test`, compare them pair by pair, and judge the gates."""
    folder = context.folder("verify")
    data = RunData(context)
    kinds = [kind for kind in context.recipe.deploy.engines if kind != "pytorch"]
    forms = [
        files_of(context, form, [kind for kind in kinds if form.runs_in(kind)])
        for form in forms_of(context.recipe, context.run)
    ]
    found: Verification = verify_run(data, forms, folder)
    write_parity(folder / "parity.json", found.pairs, found.preprocessing, environment(), found.claims)
    pictures = write_pictures(data, found, folder)
    self_test = self_test_of_run(context, data.split("test"), folder / SELF_TEST_FOLDER)
    failures = gate_failures(found.pairs) + found.other_failures()
    routing = routing_of(
        data, found.vocabulary.head, found.embeddings, found.vocabulary.labels, data.split("test")
    )
    metrics = {
        "rows": found.rows,
        "controls": found.controls,
        "gate_failures": failures,
        "gates_not_measured": gates_not_measured(found.pairs),
        **({} if routing is None else {"routing": routing}),
    }
    what = "objects" if found.vocabulary.of_objects else "images"
    said = "; ".join(failures) if failures else f"every measured gate holds on {found.images} test {what}"
    return StageOutcome([folder / "parity.json", *pictures, *self_test], metrics, said)


def files_of(context: StageContext, form: StudentForm, kinds: Sequence[str]) -> FormFiles:
    """Return what some engines open of a form, and what that was made of."""
    return FormFiles(
        form,
        {kind: built_file(context, form, kind) for kind in kinds},
        {kind: source_of(context, form, kind) for kind in kinds},
    )


def bundle_stage(context: StageContext) -> StageOutcome:
    """Pack what is shipped, with its proof."""
    files = bundle_of_run(context)
    size = sum(file.stat().st_size for file in files)
    return StageOutcome(files, {"size_bytes": size}, f"{len(files)} files, {size / 1e6:.1f} MB")
