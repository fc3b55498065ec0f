"""What a bundle holds that can be run: each model of the student, in each engine that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgeproof_configs.errors import MissingPackageError, UsageError, did_you_mean
from edgeproof_deploy.bundle import read_bundle, tampered
from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.cuda_device import why_no_cuda
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.head import read_head
from edgeproof_deploy.runtime.session import ENGINES, PLANS, TENSORRT_FLAVOUR, Session, open_engine
from edgeproof_deploy.runtime.tensorrt_package import why_not_here

FORMS = {
    "model": ("student", "fp32"),
    "model.fp16": ("student", "fp16"),
    "model.int8": ("student", "int8"),
    "model.sparse": ("sparse", "fp32"),
    "model.sparse_fp16": ("sparse", "fp16"),
    "model.sparse_int8": ("sparse", "int8"),
}
"""An ONNX file without its suffixes -> which form of the student it is, and its precision."""

ON_CUDA = ("onnxruntime_cuda", "onnxruntime_tensorrt")


@dataclass(frozen=True)
class Model:
    """A form of the student in an engine; `file` is the ONNX file that it comes from."""

    file: str
    form: str
    precision: str
    engine: str

    @property
    def name(self) -> str:
        """The model in words, as `parity.json` calls it: `onnxruntime int8`, `sparse onnxruntime fp32`."""
        words = f"{self.engine} {self.precision}"
        return words if self.form == "student" else f"{self.form} {words}"


@dataclass
class Opened:
    """The models of a bundle that run here, and why the others do not."""

    bundle: Bundle
    sessions: dict[Model, Session] = field(default_factory=dict)
    skipped: dict[Model, str] = field(default_factory=dict)


def models_of(bundle: Bundle) -> list[Model]:
    """Return every model of a bundle in every engine that reads its placement of Q/DQ."""
    found = []
    for engine in ENGINES:
        for stem, (form, precision) in FORMS.items():
            names = [f"{stem}.onnx"]
            if engine in TENSORRT_FLAVOUR and precision == "int8":
                names.insert(0, f"{stem}.trt.onnx")
            file = next((name for name in names if name in bundle.listed), None)
            if file is not None:
                found.append(Model(file, form, precision, engine))
    return found


def open_models(
    path: Path,
    stack: ExitStack,
    threads: int | None = None,
    *,
    engines: Sequence[str] = (),
    rebuild: bool = False,
) -> Opened:
    """Check every file of a bundle and open what runs here.

    Args:
        path: of the bundle.
        stack: closes the sessions.
        threads: threads within one operator; None leaves the choice to the engines.
        engines: look at these only; none: at all.
        rebuild: build plans that do not fit this machine again.

    Raises:
        EdgeproofError: a file is missing or was changed, or the head and its labels do not fit each other.
        MissingPackageError: nothing runs here.
        UsageError: there is no such engine, or the bundle has no model of a student.
    """
    check_engines(engines)
    bundle = read_bundle(path)
    opened = Opened(bundle)
    models = [model for model in models_of(bundle) if not engines or model.engine in engines]
    if not models:
        raise UsageError(f"the bundle has none of the models {', '.join(f'{stem}.onnx' for stem in FORMS)}")
    try:
        bundle.verify()
        # A bundle that cannot predict is not worth measuring.
        read_head(bundle)
        for model in models:
            reason = why_not(model.engine)
            if reason is not None:
                opened.skipped[model] = reason
                continue
            try:
                session = open_engine(bundle, model.engine, threads, model=model.file, rebuild=rebuild)
            except UnavailableError as error:
                opened.skipped[model] = str(error)
                continue
            stack.callback(session.close)
            opened.sessions[model] = session
    except BundleError as error:
        raise tampered(error, path) from error
    if not opened.sessions:
        asked = f"in {', '.join(engines)} here" if engines else "here"
        reasons = "; ".join(dict.fromkeys(opened.skipped.values()))
        fix = "see `edgeproof ls engines`"
        raise MissingPackageError(f"no model of the bundle runs {asked}: {reasons}", where=path, fix=fix)
    return opened


def check_engines(engines: Sequence[str]) -> None:
    """Refuse names of engines that run no bundle.

    Raises:
        UsageError: says which there are.
    """
    for engine in engines:
        if engine not in ENGINES:
            hint = did_you_mean(engine, ENGINES)
            raise UsageError(f"'{engine}' is none of the engines of a bundle: {', '.join(ENGINES)}.{hint}")


def why_not(engine: str) -> str | None:
    """Return why an engine that needs a CUDA device runs nothing here, or None.

    ONNX Runtime would look for its libraries first, and print what it misses.
    """
    if engine in PLANS:
        return why_not_here(engine)
    return why_no_cuda() if engine in ON_CUDA else None


def skipped_lines(skipped: dict[Model, str]) -> list[str]:
    """Return a line for each reason, with the models that it holds for; of an engine with none, its name."""
    reasons: dict[str, list[Model]] = {}
    for model, reason in skipped.items():
        reasons.setdefault(reason, []).append(model)
    lines = []
    for reason, models in reasons.items():
        names = []
        for engine in dict.fromkeys(model.engine for model in models):
            own = [model.name for model in models if model.engine == engine]
            whole = len(own) > 1 and len(own) == sum(model.engine == engine for model in skipped)
            names += [engine] if whole else own
        lines.append(f"not run here: {', '.join(names)}: {reason}")
    return lines


def inputs_of(session: Session, batch: int, views: int | None = None) -> dict[str, np.ndarray]:
    """Return noise as a session's input, float32, as if normalised; it takes as long as photos.

    Args:
        session: of a model.
        batch: images, or objects.
        views: of each object, where the session takes views.

    Raises:
        UsageError: a side of the input other than batch and views is not fixed, or the batch is, to another
            size.
    """
    random = np.random.default_rng(0)
    made = {}
    for name, shape in session.inputs.items():
        first, *rest = shape
        if name == "views" and views is not None:
            rest[0] = views
        if not all(isinstance(side, int) and side > 0 for side in rest):
            raise UsageError(f"input '{name}' of {session.model} has sides of no fixed size: {shape}")
        if isinstance(first, int) and first > 0 and first != batch:
            raise UsageError(f"{session.model} takes batches of {first} only, not of {batch}")
        made[name] = random.standard_normal((batch, *rest), dtype=np.float32)
    return made
