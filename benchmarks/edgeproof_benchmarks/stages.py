"""The last measurements of the chain: bench and report. One function a stage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeproof_benchmarks.compressed_files import counted_weights, fused_operators
from edgeproof_benchmarks.curation_data import pictured
from edgeproof_benchmarks.latency import Latency, interleave, ratio
from edgeproof_benchmarks.layer_data import LAYERS_FILE, layers_by_form
from edgeproof_benchmarks.machine.conditions import Watch
from edgeproof_benchmarks.machine.energy import Meter, meters_of, on_gpu
from edgeproof_benchmarks.memory import peak_memory
from edgeproof_benchmarks.phases import form_figures, measure_phases
from edgeproof_benchmarks.report import render_report
from edgeproof_benchmarks.report_data import load_report_data
from edgeproof_benchmarks.result import make_result
from edgeproof_benchmarks.streams import sweep
from edgeproof_benchmarks.traces import TRACES_FILE, write_traces
from edgeproof_configs.files import write_json, write_text
from edgeproof_configs.run import environment
from edgeproof_configs.schema import BenchConfig
from edgeproof_configs.stage import StageContext, StageOutcome
from edgeproof_data.loader import eval_batches
from edgeproof_data.objects import ObjectSet
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.engine import Session, make_engine
from edgeproof_deploy.forms import forms_of
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_deploy.stages import built_file, size_of
from edgeproof_train.cascade_run import heads_alone
from edgeproof_train.run_data import RunData
from edgeproof_train.run_head import head_of_run
from edgeproof_train.teacher import Teacher

Classify = Callable[[np.ndarray], np.ndarray]
PHASE_IMAGES = 64
TEACHER = "teacher//fp32"
PYTORCH = "student/pytorch/fp32"
ROUNDS = 9
"""Enough that one disturbed round does not hide a gain (`gains.surely`)."""


def bench_stage(context: StageContext) -> StageOutcome:
    """Measure every form that runs here, in alternating rounds, and judge the latency gate."""
    recipe, folder = context.recipe, context.folder("bench")
    data = RunData(context)
    images = data.split("test")
    classify = heads_alone(head_of_run(data)).logits
    files = files_of(context)
    figures: dict[str, dict[str, Any]] = {
        name: {"size_bytes": size_of(file)} for name, (_, file) in files.items()
    }
    preprocess = student_preprocess(context)
    teacher = data.teacher if data.teacher.live else None
    with ExitStack() as stack:
        sessions = opened(files, recipe.bench.threads, stack)
        watch = Watch(uses_gpu=any(on_gpu(session) for session in sessions.values()))
        meters, energy = meters_of(sessions, stack)
        latencies = by_form(
            sessions, teacher, preprocess, images, recipe.deploy.batch, recipe.bench, meters, watch
        )
        for name, measured in latencies.items():
            phases: dict[str, Latency] = {}
            session = sessions.get(name)
            if session is not None:
                phases = phases_of(session, preprocess, images, classify, recipe.bench)
            threads = recipe.bench.threads or torch.get_num_threads()
            figures.setdefault(name, {}).update(form_figures(measured, phases, threads))
            figures[name] |= beside_pytorch(name, latencies) | (session.loading() if session else {})
        conditions = watch.end(first_batches(latencies), energy)
        write_json(folder / LAYERS_FILE, layers_by_form(files, sessions))
    write_traces(folder / TRACES_FILE, latencies)
    for name in sessions:
        figures[name] |= alone(*files[name], preprocess, images, recipe.bench)
    failures, unmeasured = latency_gate(context, latencies)
    told = {"environment": environment(), "conditions": conditions, "forms": figures}
    write_json(folder / "latency.json", told)
    metrics: dict[str, Any] = {
        "forms": figures,
        "conditions": conditions,
        "gate_failures": failures,
        "gates_not_measured": unmeasured,
    }
    if recipe.compress is not None:
        metrics |= {"weights": counted_weights(context), "fused": fused_operators(context)}
    written = [folder / name for name in ("latency.json", TRACES_FILE, LAYERS_FILE)]
    return StageOutcome(written, metrics, said(latencies, failures))


def first_batches(latencies: dict[str, dict[int, Latency]]) -> dict[str, Latency]:
    """Return what decides whether a run is official: each form at the first batch size, in words."""
    return {
        f"{shown(name)}, batch {batch}": latency
        for name, measured in latencies.items()
        for batch, latency in list(measured.items())[:1]
    }


def opened(files: dict[str, tuple[str, Path]], threads: int | None, stack: ExitStack) -> dict[str, Session]:
    """Return a session for each form that runs here and whose time means anything."""
    sessions: dict[str, Session] = {}
    for name, (kind, file) in files.items():
        engine = make_engine(kind)
        if engine.why_not_here(file) is None and is_timed(name):
            sessions[name] = engine.open(file, threads)
            stack.callback(sessions[name].close)
    return sessions


def beside_pytorch(name: str, latencies: dict[str, dict[int, Latency]]) -> dict[str, Any]:
    """Return how many times longer the student in PyTorch takes, by batch, as `pytorch_over_this`."""
    base = latencies.get(PYTORCH)
    if base is None or name == PYTORCH:
        return {}
    ratios = {f"batch{size}": ratio(base[size], found).to_dict() for size, found in latencies[name].items()}
    return {"pytorch_over_this": ratios}


def alone(
    kind: str, file: Path, preprocess: Preprocess, images: ImageSet, bench: BenchConfig
) -> dict[str, Any]:
    """Return what is measured of a form while no other is loaded: several streams, and peak memory."""
    engine = make_engine(kind)
    if engine.source != "onnx":
        return {}
    inputs = inputs_for(images, preprocess, 1)
    streams = sweep(
        lambda: engine.open(file, bench.threads), inputs, bench.streams, seconds=bench.seconds / 4
    )
    memory = peak_memory(file, next(iter(inputs.values())).shape, bench.threads, engine=kind)
    return {"streams": {str(count): found.to_dict() for count, found in streams.items()}, **memory.figures()}


def files_of(context: StageContext) -> dict[str, tuple[str, Path]]:
    """Return the engine and the file of each form, by `form/engine/precision`."""
    recipe = context.recipe
    kinds = ["pytorch", *(kind for kind in recipe.deploy.engines if kind != "pytorch")]
    found: dict[str, tuple[str, Path]] = {}
    for form in forms_of(recipe, context.run):
        for kind in kinds:
            if not form.runs_in(kind):
                continue
            file = form.folder if kind == "pytorch" else built_file(context, form, kind)
            found[f"{form.name}/{kind}/{form.precision}"] = (kind, file)
    return found


def is_timed(name: str) -> bool:
    """Whether the time of a form means anything: simulated rounding in PyTorch computes in floating point."""
    return name.split("/")[1:] != ["pytorch", "int8"]


def shown(name: str) -> str:
    """Return a form's key in words: `onnxruntime int8`, `sparse onnxruntime fp32`, `teacher`."""
    form, engine, precision = name.split("/")
    return " ".join(word for word in ("" if form == "student" else form, engine, precision) if word)


def student_preprocess(context: StageContext) -> Preprocess:
    """Return the student's preprocessing."""
    from edgeproof_train.student import Student

    return Student.load(context.run.stage("train")).preprocess


def by_form(
    sessions: dict[str, Session],
    teacher: Teacher | None,
    preprocess: Preprocess,
    images: ImageSet,
    batches: tuple[int, ...],
    bench: BenchConfig,
    meters: dict[str, Meter],
    watch: Watch,
) -> dict[str, dict[int, Latency]]:
    """Return the latencies by form and batch size; the forms take turns at each batch size."""
    found: dict[str, dict[int, Latency]] = {}
    for batch in batches:
        calls: dict[str, Callable[[], Any]] = {}
        inputs = inputs_for(images, preprocess, batch)
        for name, session in sessions.items():
            calls[name] = lambda session=session, inputs=inputs: session.run(inputs)
        if teacher is not None and teacher.preprocess is not None:
            seen = torch.from_numpy(input_batch(images, teacher.preprocess, batch))
            # It looks at single images, whatever they show: of objects at all their views as one batch.
            pixels = seen.reshape(-1, *seen.shape[-3:]).to(teacher.device)
            calls[TEACHER] = lambda pixels=pixels, teacher=teacher: teacher.encode_image(pixels).cpu()
        measured = interleave(
            calls,
            seconds=bench.seconds,
            warmup_seconds=bench.warmup_seconds,
            rounds=ROUNDS,
            meters=meters,
        )
        watch.look()
        for name, latency in measured.items():
            found.setdefault(name, {})[batch] = latency
    return found


def input_batch(images: ImageSet, preprocess: Preprocess, batch: int) -> np.ndarray:
    """Return real test images as a network's input (B, 3, H, W), repeated where there are fewer.

    Of objects it is (B, V, 3, H, W), with the views that evaluation shows.
    """
    chosen = images.subset([index % len(images) for index in range(batch)])
    return next(eval_batches(chosen, preprocess, batch_size=batch))["image"].numpy()


def inputs_for(images: ImageSet, preprocess: Preprocess, batch: int) -> dict[str, np.ndarray]:
    """Return `input_batch` under the name that a student of such images has for it."""
    name = "views" if isinstance(images, ObjectSet) else "image"
    return {name: input_batch(images, preprocess, batch)}


def phases_of(
    session: Session, preprocess: Preprocess, images: ImageSet, head: Classify, bench: BenchConfig
) -> dict[str, Latency]:
    """Return decode, preprocess, compute and head times of single images, or of single objects."""
    chosen = np.linspace(0, len(images) - 1, min(PHASE_IMAGES, len(images))).astype(int)
    return measure_phases(
        [files_shown(images, int(index)) for index in chosen],
        preprocess=preprocess,
        session=session,
        head=head,
        seconds=bench.seconds / 2,
        warmup_seconds=bench.warmup_seconds / 2,
    )


def files_shown(images: ImageSet, index: int) -> Path | list[Path]:
    """Return the file of an image, or those of the views that evaluation shows of an object."""
    if isinstance(images, ObjectSet):
        return [images.root / view for view in images.shown_views(index)]
    return images.file(index)


def latency_gate(
    context: StageContext, latencies: dict[str, dict[int, Latency]]
) -> tuple[list[str], list[str]]:
    """Return the latency gate's failure and its not having been measured, in words.

    It holds where the fastest form of its engine is fast enough.
    """
    gate = context.recipe.gates.latency_p90_ms
    if gate is None:
        return [], []
    form = f"{gate.engine}, batch {gate.batch}"
    of_engine = [found for name, found in latencies.items() if name.split("/")[1] == gate.engine]
    measured = [found[gate.batch] for found in of_engine if gate.batch in found]
    known = [latency.p90 for latency in measured if latency.p90 is not None]
    if not known:
        most = max((latency.n for latency in measured), default=0)
        few = f": {most} samples are too few, set bench.seconds higher" if most else ""
        return [], [f"{form}: p90 was not measured{few}"]
    if min(known) > gate.max:
        return [f"{form}: p90 is {min(known):.2f} ms, must be at most {gate.max:g} ms"], []
    return [], []


def said(latencies: dict[str, dict[int, Latency]], failures: list[str]) -> str:
    """Return the medians at the first batch size in a line."""
    words = [
        f"{shown(name)} {next(iter(measured.values())).p50:.2f} ms" for name, measured in latencies.items()
    ]
    return "; ".join([*failures, "p50 " + ", ".join(words)])


def report_stage(context: StageContext) -> StageOutcome:
    """Write `result.json` of the run and the page that shows it."""
    folder = context.folder("report")
    result = make_result(context)
    write_json(context.run.path / "result.json", result)
    written = [folder / name for name in ("report.html", "result.json")]
    if context.recipe.curate is not None:
        written.append(folder / "curation.json")
        write_json(written[-1], pictured(RunData(context)))
    write_text(folder / "report.html", render_report(load_report_data(context.run.path)))
    shutil.copyfile(context.run.path / "result.json", folder / "result.json")
    return StageOutcome(written, {"verdict": result["verdict"]})
