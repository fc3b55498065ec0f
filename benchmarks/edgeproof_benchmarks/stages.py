"""The last measurements of the chain: bench and report. One function a stage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeproof_benchmarks.latency import Latency, interleave
from edgeproof_benchmarks.memory import peak_memory
from edgeproof_benchmarks.phases import form_figures, measure_phases
from edgeproof_benchmarks.report import render_report
from edgeproof_benchmarks.report_data import load_report_data
from edgeproof_benchmarks.result import make_result
from edgeproof_configs.files import write_bytes, write_json, write_text
from edgeproof_configs.registry import component_class
from edgeproof_configs.run import environment
from edgeproof_configs.schema import BenchConfig
from edgeproof_configs.stage import StageContext, StageOutcome
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.engine import Session, make_engine
from edgeproof_deploy.runtime.preprocess import Preprocess, open_image
from edgeproof_deploy.stages import built_file, size_of
from edgeproof_train.run_data import RunData
from edgeproof_train.teacher import Teacher

Classify = Callable[[np.ndarray], np.ndarray]
PHASE_IMAGES = 64
ROUNDS = 5


def bench_stage(context: StageContext) -> StageOutcome:
    """Measure every form that runs here, in alternating rounds, and judge the latency gate."""
    recipe, folder = context.recipe, context.folder("bench")
    data = RunData(context)
    images = data.split("test")
    head: Any = component_class("head", recipe.head.kind)
    classify = head.load(context.run.stage("head")).logits
    student_folder = context.run.stage("train")
    kinds = ["pytorch", *(kind for kind in recipe.deploy.engines if kind != "pytorch")]
    files = {kind: student_folder if kind == "pytorch" else built_file(context, kind) for kind in kinds}
    figures: dict[str, dict[str, Any]] = {
        f"student/{kind}": {"size_bytes": size_of(file)} for kind, file in files.items()
    }
    with ExitStack() as stack:
        sessions: dict[str, Session] = {}
        for kind, file in files.items():
            engine = make_engine(kind)
            if engine.runs_here:
                sessions[kind] = engine.open(file, recipe.bench.threads)
                stack.callback(sessions[kind].close)
        preprocess = student_preprocess(context)
        teacher = data.teacher if data.teacher.live else None
        latencies = by_form(sessions, teacher, preprocess, images, recipe.deploy.batch, recipe.bench)
        for name, measured in latencies.items():
            phases: dict[str, Latency] = {}
            session = sessions.get(name.partition("/")[2])
            if session is not None:
                phases = phases_of(session, preprocess, images, classify, recipe.bench)
            threads = recipe.bench.threads or torch.get_num_threads()
            figures.setdefault(name, {}).update(form_figures(measured, phases, threads))
    write_traces(folder / "traces.npz", latencies)
    if "onnxruntime" in files:
        shape = (1, 3, preprocess.image_size, preprocess.image_size)
        figures["student/onnxruntime"]["memory_bytes"] = peak_memory(
            files["onnxruntime"], shape, recipe.bench.threads
        )
    failures, unmeasured = latency_gate(context, latencies)
    write_json(folder / "latency.json", {"environment": environment(), "forms": figures})
    metrics = {"forms": figures, "gate_failures": failures, "gates_not_measured": unmeasured}
    return StageOutcome([folder / "latency.json", folder / "traces.npz"], metrics, said(latencies, failures))


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
) -> dict[str, dict[int, Latency]]:
    """Return the latencies by form and batch size; the forms take turns at each batch size."""
    found: dict[str, dict[int, Latency]] = {}
    for batch in batches:
        calls: dict[str, Callable[[], Any]] = {}
        inputs = {"image": input_batch(images, preprocess, batch)}
        for kind, session in sessions.items():
            calls[f"student/{kind}"] = lambda session=session, inputs=inputs: session.run(inputs)
        if teacher is not None and teacher.preprocess is not None:
            pixels = torch.from_numpy(input_batch(images, teacher.preprocess, batch)).to(teacher.device)
            calls["teacher/"] = lambda pixels=pixels, teacher=teacher: teacher.encode_image(pixels).cpu()
        measured = interleave(
            calls, seconds=bench.seconds, warmup_seconds=bench.warmup_seconds, rounds=ROUNDS
        )
        for name, latency in measured.items():
            found.setdefault(name, {})[batch] = latency
    return found


def input_batch(images: ImageSet, preprocess: Preprocess, batch: int) -> np.ndarray:
    """Return real test images as a network's input (B, 3, H, W), repeated where there are fewer."""
    chosen = [images.file(index % len(images)) for index in range(batch)]
    return np.stack([preprocess(open_image(file)) for file in chosen])


def phases_of(
    session: Session, preprocess: Preprocess, images: ImageSet, head: Classify, bench: BenchConfig
) -> dict[str, Latency]:
    """Return decode, preprocess, compute and head times of single images."""
    chosen = np.linspace(0, len(images) - 1, min(PHASE_IMAGES, len(images))).astype(int)
    return measure_phases(
        [images.file(int(index)) for index in chosen],
        preprocess=preprocess,
        session=session,
        head=head,
        seconds=bench.seconds / 2,
        warmup_seconds=bench.warmup_seconds / 2,
    )


def write_traces(path: Path, latencies: dict[str, dict[int, Latency]]) -> None:
    """Keep every sample, in milliseconds, by `form/engine/batch`."""
    import io

    buffer = io.BytesIO()
    traces: dict[str, Any] = {
        f"{name.rstrip('/')}/batch{batch}": latency.trace_ms
        for name, measured in latencies.items()
        for batch, latency in measured.items()
    }
    np.savez_compressed(buffer, **traces)
    write_bytes(path, buffer.getvalue())


def latency_gate(
    context: StageContext, latencies: dict[str, dict[int, Latency]]
) -> tuple[list[str], list[str]]:
    """Return the latency gate's failure and its not having been measured, in words."""
    gate = context.recipe.gates.latency_p90_ms
    if gate is None:
        return [], []
    form = f"{gate.engine}, batch {gate.batch}"
    measured = latencies.get(f"student/{gate.engine}", {}).get(gate.batch)
    if measured is None or measured.p90 is None:
        return [], [f"{form}: p90 was not measured"]
    if measured.p90 > gate.max:
        return [f"{form}: p90 is {measured.p90:.2f} ms, must be at most {gate.max:g} ms"], []
    return [], []


def said(latencies: dict[str, dict[int, Latency]], failures: list[str]) -> str:
    """Return the medians at the first batch size in a line."""
    words = [
        f"{name.removeprefix('student/').rstrip('/')} {next(iter(measured.values())).p50:.2f} ms"
        for name, measured in latencies.items()
    ]
    return "; ".join([*failures, "p50 " + ", ".join(words)])


def report_stage(context: StageContext) -> StageOutcome:
    """Write `result.json` of the run and the page that shows it."""
    folder = context.folder("report")
    result = make_result(context)
    write_json(context.run.path / "result.json", result)
    write_text(folder / "report.html", render_report(load_report_data(context.run.path)))
    shutil.copyfile(context.run.path / "result.json", folder / "result.json")
    return StageOutcome([folder / "report.html", folder / "result.json"], {"verdict": result["verdict"]})
