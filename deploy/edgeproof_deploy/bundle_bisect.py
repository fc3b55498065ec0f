"""`verify --bisect`: every ONNX file in every engine that runs here, node by node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.files import read_json
from edgeproof_deploy.bisect import LIMITS, Arrays, Run, Side, bisect
from edgeproof_deploy.bundle import read_bundle, tampered
from edgeproof_deploy.bundle_images import images_in
from edgeproof_deploy.bundle_models import FORMS
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.openvino_session import OpenVinoSession, why_not_installed
from edgeproof_deploy.runtime.predictor import PREPROCESS_FILE
from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess, open_image
from edgeproof_deploy.runtime.self_test import FOLDER, alike, read_self_test, self_test_inputs
from edgeproof_deploy.runtime.session import MODEL_FILE, PLANS, OnnxSession

if TYPE_CHECKING:
    from edgeproof_deploy.runtime.plan_build import BuiltPlan

IMAGES = 4
BISECTED_VIEWS = 2
REFERENCE_IMAGES = 1
PLAIN, OPTIMISED, EVALUATOR = "onnxruntime unoptimised", "onnxruntime", "onnx reference evaluator"


def bisect_bundle(path: Path, images: Path | None = None, threads: int | None = None) -> list[str]:
    """Return a line for each comparison of two engines: that they agree, or the node at which they part.

    Args:
        path: of the bundle.
        images: a folder; None: the photos that the bundle carries, or noise.
        threads: within one operator.

    Raises:
        EdgeproofError: a file was changed, or a model cannot be loaded.
    """
    bundle = read_bundle(path)
    try:
        preprocess = Preprocess.from_dict(bundle.read_json(PREPROCESS_FILE))
        test = None if images is not None else read_self_test(bundle)
        if images is not None:
            inputs = inputs_of(images_in(images), preprocess)
        elif test is not None:
            inputs = alike(self_test_inputs(bundle, test, preprocess)[0])[:IMAGES]
        else:
            inputs = noise_of(preprocess)
        names = [f"{stem}.onnx" for stem in FORMS if f"{stem}.onnx" in bundle.listed]
        models = {name: onnx.load_model_from_string(bundle.read(name)) for name in names}
        return list(bisect_models(models, inputs, threads))
    except BundleError as error:
        raise tampered(error, path) from error


def bisect_run(run: Path, threads: int | None = None) -> list[str]:
    """Return the same of the files that a run exported, on its self-test's photos.

    Raises:
        EdgeproofError: a file cannot be read or loaded.
    """
    card = read_json(run / "train" / "config.json")
    preprocess = Preprocess.from_dict(card["edgeproof"]["preprocess"])
    model = onnx.load(run / "export" / MODEL_FILE)
    if model.graph.input[0].name == "views":
        preprocess = replace(preprocess, views=BISECTED_VIEWS)
    inputs = inputs_of(images_in(run / "verify" / FOLDER), preprocess)
    files = {f"{stem}.onnx": run / "export" / f"{stem}.onnx" for stem in FORMS}
    models = {name: onnx.load(file) for name, file in files.items() if file.is_file()}
    try:
        return list(bisect_models(models, inputs, threads))
    except BundleError as error:
        raise EdgeproofError(str(error), where=run, fix="run the export stage again") from error


def bisect_models(
    models: dict[str, onnx.ModelProto], inputs: np.ndarray, threads: int | None
) -> Iterator[str]:
    """Yield a line for each comparison: each file in each engine, and half precision against fp32."""
    runs: dict[str, Run] = {
        PLAIN: partial(in_onnxruntime, optimise=False, threads=threads),
        OPTIMISED: partial(in_onnxruntime, optimise=True, threads=threads),
        EVALUATOR: in_evaluator,
    }
    if why_not_installed() is None:
        runs["openvino"] = partial(in_openvino, threads=threads)
    for engine in PLANS:
        reason = why_no_plans(engine)
        if reason is None:
            runs[engine] = partial(in_plan, engine=engine)
        else:
            yield f"bisect: not in {engine}: {reason}"
    for name, model in models.items():
        precision = FORMS[name.removesuffix(".onnx")][1]
        for engine, run in runs.items():
            if engine != PLAIN:
                some = inputs[:REFERENCE_IMAGES] if engine == EVALUATOR else inputs
                plain, other = Side(PLAIN, model, runs[PLAIN]), Side(engine, model, run)
                yield f"bisect: {name}: {told(plain, other, some, LIMITS[precision])}"
    half = "model.fp16.onnx"
    if MODEL_FILE in models and half in models:
        whole, rounded = (
            Side(f"{name} in {PLAIN}", models[name], runs[PLAIN]) for name in (MODEL_FILE, half)
        )
        yield f"bisect: {told(whole, rounded, inputs, LIMITS['fp16'])}"


def told(reference: Side, candidate: Side, inputs: np.ndarray, limit: float) -> str:
    """Return how two sides compare, in words."""
    try:
        found = bisect(reference, candidate, {reference.model.graph.input[0].name: inputs}, limit)
    except UnavailableError as error:
        return f"{candidate.name} cannot run it: {str(error)[:200]}"
    if found is None:
        return f"{reference.name} and {candidate.name} agree at every node within {limit:g} of the range"
    return f"{reference.name} and {candidate.name} part at {found.words()}"


def in_onnxruntime(
    model: onnx.ModelProto, inputs: Arrays, *, optimise: bool, threads: int | None = None
) -> Arrays:
    """Run a model in ONNX Runtime on the CPU."""
    session = OnnxSession(model.SerializeToString(), threads=threads, optimise=optimise)
    try:
        return session.run(inputs)
    finally:
        session.close()


def in_openvino(model: onnx.ModelProto, inputs: Arrays, *, threads: int | None = None) -> Arrays:
    """Run a model in OpenVINO on the CPU."""
    session = OpenVinoSession(with_named_output(model), threads=threads)
    try:
        return session.run(inputs)
    finally:
        session.close()


def in_evaluator(model: onnx.ModelProto, inputs: Arrays) -> Arrays:
    """Run a model in onnx's own evaluator, plain numpy: slow, and nobody's optimisation.

    Raises:
        UnavailableError: it does not have an operator, in this version of it.
    """
    from onnx.reference import ReferenceEvaluator

    names = [value.name for value in model.graph.output]
    try:
        values = ReferenceEvaluator(model).run(None, dict(inputs))
    except RuntimeError as error:
        raise UnavailableError(str(error)) from error
    assert isinstance(values, list)
    return dict(zip(names, (np.asarray(value) for value in values), strict=True))


def in_plan(model: onnx.ModelProto, inputs: Arrays, *, engine: str) -> Arrays:
    """Build a plan of a model for this device and run it.

    Building was run, for TensorRT-RTX; running a marked plan was not: it needs such a device.
    """
    from edgeproof_deploy.runtime.plans import Here, open_session

    here = Here.of(engine)
    shape = next(iter(inputs.values())).shape
    built = marked_plan(model, engine, shape, here.device.compute_capability)
    session = open_session(built.plan, built.sidecar, here, built.sidecar.plan)
    try:
        return session.run(inputs)
    finally:
        session.close()


def marked_plan(model: onnx.ModelProto, engine: str, shape: tuple[int, ...], capability: str) -> BuiltPlan:
    """Build a plan of a model with marked outputs.

    Args:
        model: the marked one.
        engine: `tensorrt`, which builds for the device at hand, or `tensorrt_rtx`.
        shape: of the images that it is run on at once, (B, 3, H, W) or (B, V, 3, H, W).
        capability: compute capability that TensorRT-RTX builds for.
    """
    from edgeproof_deploy.runtime.plan_build import build_plan
    from edgeproof_deploy.runtime.plan_sidecar import PlanSettings

    targets = (capability,) if engine == "tensorrt_rtx" else ()
    views = shape[1:2] if len(shape) == 5 else ()
    settings = PlanSettings(shape[:1], compute_capabilities=targets, views=views)
    data = with_named_output(model)
    return build_plan(engine, data, settings, onnx_name="marked.onnx", plan_name="marked.engine")


def with_named_output(model: onnx.ModelProto) -> bytes:
    """Return a model's bytes with `embedding` among its outputs, without which our sessions refuse it."""
    names = [value.name for value in model.graph.output]
    if "embedding" in names or not any("embedding" in node.output for node in model.graph.node):
        return model.SerializeToString()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(value for value in model.graph.value_info if value.name == "embedding")
    return copy.SerializeToString()


def why_no_plans(engine: str) -> str | None:
    """Return why plans of an engine cannot be run here, or None."""
    from edgeproof_deploy.runtime.plans import Here

    try:
        Here.of(engine)
    except UnavailableError as error:
        return str(error)
    return None


def inputs_of(files: Sequence[Path], preprocess: Preprocess) -> np.ndarray:
    """Return the first few images as the network's input, float32 (N, 3, H, W).

    Where it takes views an object has two images, such as they are: to engines all objects are alike.

    Raises:
        EdgeproofError: an image cannot be read.
    """
    try:
        inputs = np.stack([preprocess(open_image(file)) for file in files[:IMAGES]])
        if preprocess.views is None:
            return inputs
        return np.stack([np.stack([one, other]) for one, other in zip(inputs, np.roll(inputs, 1, axis=0))])
    except ImageError as error:
        raise EdgeproofError(str(error)) from error


def noise_of(preprocess: Preprocess) -> np.ndarray:
    """Return noise as the network's input."""
    side, views = preprocess.image_size, preprocess.views
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES * (views or 1), side, side, 3), dtype=np.uint8)
    inputs = preprocess.normalise(pixels)
    return inputs if views is None else inputs.reshape(IMAGES, views, *inputs.shape[1:])
