"""`bench` of a bundle, on this machine: every model in every engine that runs here."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeproof_benchmarks.formats import significant
from edgeproof_benchmarks.latency import Latency, interleave
from edgeproof_benchmarks.machine.conditions import Watch, stamp
from edgeproof_benchmarks.machine.energy import meters_of, on_gpu
from edgeproof_benchmarks.memory import Memory, peak_memory
from edgeproof_benchmarks.phases import PHASES, form_figures, images_per_second, measure_phases
from edgeproof_benchmarks.record import milliseconds, table_of
from edgeproof_benchmarks.streams import Throughput, sweep
from edgeproof_benchmarks.traces import write_traces
from edgeproof_configs.progress import Progress, progress
from edgeproof_configs.run import environment
from edgeproof_deploy.bundle_models import (
    Model,
    Opened,
    inputs_of,
    open_models,
    skipped_lines,
)
from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.head import read_head
from edgeproof_deploy.runtime.predictor import PREPROCESS_FILE
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_deploy.runtime.self_test import read_self_test
from edgeproof_deploy.runtime.session import Session, open_engine

BATCHES = (1, 8)
STREAMS = (1, 2)
ROUNDS = 9
SECONDS = 1.0
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class BenchOptions:
    """How a bundle is measured.

    Attributes:
        seconds: for each model and batch size; a quarter of it for each number of streams.
        engines: measure these only; none: all that run here.
        threads: threads within one operator; None leaves the choice to the engine.
        batches: sizes of a call.
        streams: how many clients at once.
        traces: where to write every sample, as .npz.
        rebuild: build plans that do not fit this machine.
        as_json: print one JSON document.
    """

    seconds: float = SECONDS
    engines: tuple[str, ...] = ()
    threads: int | None = None
    batches: tuple[int, ...] = BATCHES
    streams: tuple[int, ...] = STREAMS
    traces: Path | None = None
    rebuild: bool = False
    as_json: bool = False


@dataclass
class Measured:
    """Latencies by model and batch size, and the machine meanwhile."""

    latencies: dict[str, dict[int, Latency]]
    conditions: dict[str, Any]


@dataclass
class Alone:
    """What is measured of one model after the other: phases of an image, several clients, peak memory.

    Attributes:
        phases: empty where the bundle carries no photos.
    """

    phases: dict[str, Latency]
    streams: dict[int, Throughput]
    memory: Memory


def bench(path: Path, options: BenchOptions = BenchOptions()) -> int:
    """Measure every model of a bundle that runs here, print the tables, and return 0.

    Raises:
        EdgeproofError: a file was changed.
        MissingPackageError: nothing runs here.
        UsageError: there is no such engine.
    """
    with ExitStack() as stack:
        opened = open_models(path, stack, options.threads, engines=options.engines, rebuild=options.rebuild)
        steps = len(opened.sessions) * (len(options.batches) + 1)
        shown = stack.enter_context(progress("bench", steps, "measurements"))
        measured = measure_models(opened, options.batches, options.seconds, shown)
        alone = {}
        for model in opened.sessions:
            alone[model.name] = measure_alone(opened, model, options)
            shown.advance()
    if options.traces is not None:
        write_traces(options.traces, measured.latencies)
    if options.as_json:
        told = as_plain(opened, measured, alone, options)
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        print("\n".join(as_lines(opened, measured, alone)))
    return 0


def measure_models(
    opened: Opened, batches: tuple[int, ...], seconds: float, shown: Progress | None = None
) -> Measured:
    """Measure all models in alternating rounds, at each batch size."""
    sessions = {model.name: session for model, session in opened.sessions.items()}
    views = preprocess_of(opened.bundle).views
    watch = Watch(uses_gpu=any(on_gpu(session) for session in sessions.values()))
    found: dict[str, dict[int, Latency]] = {name: {} for name in sessions}
    with ExitStack() as stack:
        meters, energy = meters_of(sessions, stack)
        for batch in batches:
            calls = {}
            for name, session in sessions.items():
                inputs = inputs_of(session, batch, views)
                calls[name] = lambda session=session, inputs=inputs: session.run(inputs)
            times = interleave(
                calls, seconds=seconds, warmup_seconds=seconds / 4, rounds=ROUNDS, meters=meters
            )
            watch.look()
            if shown is not None:
                shown.advance(len(times))
            for name, latency in times.items():
                found[name][batch] = latency
    first = {f"{name}, batch {batches[0]}": measured[batches[0]] for name, measured in found.items()}
    return Measured(found, watch.end(first, energy))


def measure_alone(opened: Opened, model: Model, options: BenchOptions) -> Alone:
    """Measure the phases of an image, several clients at once, and the memory of a model."""
    bundle, session = opened.bundle, opened.sessions[model]
    inputs = inputs_of(session, 1, preprocess_of(bundle).views)

    def another() -> Session:
        return open_engine(bundle, model.engine, options.threads, model=model.file)

    shape = next(iter(inputs.values())).shape
    return Alone(
        phases_of(bundle, session, options.seconds / 4),
        sweep(another, inputs, options.streams, seconds=options.seconds / 4),
        peak_memory(bundle.path, shape, options.threads, engine=model.engine, in_bundle=model.file),
    )


def preprocess_of(bundle: Bundle) -> Preprocess:
    """Return a bundle's preprocessing."""
    return Preprocess.from_dict(bundle.read_json(PREPROCESS_FILE))


def phases_of(bundle: Bundle, session: Session, seconds: float) -> dict[str, Latency]:
    """Return where the time of a photo, or object, of the bundle's self-test goes; nothing where it has none.

    Those are kept as the network sees them, so that decoding and resizing take less than of a camera's.
    """
    test = read_self_test(bundle)
    photos = [image.files for image in test.images if not image.edge] if test else []
    if not photos:
        return {}
    return measure_phases(
        [[bundle.read(name) for name in files] for files in photos],
        preprocess=preprocess_of(bundle),
        session=session,
        head=read_head(bundle).probabilities,
        seconds=seconds,
        warmup_seconds=seconds / 4,
    )


def as_plain(
    opened: Opened, measured: Measured, alone: dict[str, Alone], options: BenchOptions
) -> dict[str, Any]:
    """Return everything as plain data."""
    models = {}
    for model, session in opened.sessions.items():
        latencies, rest = measured.latencies[model.name], alone[model.name]
        models[model.name] = {
            "form": model.form,
            "engine": model.engine,
            "precision": model.precision,
            "file": model.file,
            "runs_on": list(session.providers),
            "size_bytes": opened.bundle.listed[model.file]["size"],
            **form_figures(latencies, rest.phases, options.threads),
            "streams": {str(count): found.to_dict() for count, found in rest.streams.items()},
            **rest.memory.figures(),
            **session.loading(),
        }
    return {
        "schema_version": SCHEMA_VERSION,
        "bundle": str(opened.bundle.manifest.get("name", "")),
        "environment": environment(),
        "conditions": measured.conditions,
        "models": models,
        "not_run_here": {model.name: reason for model, reason in opened.skipped.items()},
    }


def as_lines(opened: Opened, measured: Measured, alone: dict[str, Alone]) -> list[str]:
    """Return the tables, what was skipped and why, and how official the figures are."""
    item = "image" if preprocess_of(opened.bundle).views is None else "object"
    rows = [["model", "batch", "p50 ms", "p90 ms", "p99 ms", "mean", "CoV", "n", f"{item}s/s"]]
    for name, latencies in measured.latencies.items():
        for batch, found in latencies.items():
            times = [milliseconds(value) for value in (found.p50, found.p90, found.p99, found.mean)]
            rate = f"{images_per_second(found, batch):.1f}"
            rows.append([name, str(batch), *times, f"{found.cov:.2f}", str(found.n), rate])
    waits = [["streams at once", "streams", "p50 ms", "p90 ms", f"{item}s/s", "peak MB"]]
    for name, rest in alone.items():
        memory = f"{rest.memory.host_bytes / 1e6:.1f}"
        for count, one in rest.streams.items():
            times = [milliseconds(value) for value in (one.latency.p50, one.latency.p90)]
            waits.append([name, str(count), *times, f"{one.images_per_second:.1f}", memory])
            memory = ""
    lines = [*table_of(rows), "", *table_of(waits), "", *phase_lines(alone, item)]
    lines += [*load_lines(opened), *energy_lines(measured), *skipped_lines(opened.skipped)]
    return [*lines, stamp(measured.conditions)]


def load_lines(opened: Opened) -> list[str]:
    """Return what loading took of models that are made ready then, which no latency includes."""
    lines = []
    for model, session in opened.sessions.items():
        if session.load_seconds:
            parts = ", ".join(f"{part} {took:.2f} s" for part, took in session.load_seconds.items())
            kernels = f", kernels {session.kernels}" if session.kernels else ""
            lines.append(f"{model.name}: loading took, in no figure above: {parts}{kernels}")
    return lines


def phase_lines(alone: dict[str, Alone], item: str) -> list[str]:
    """Return a table of where the time of a photo or object goes, p50 in ms, or why there is none."""
    names = [name for name in (*PHASES, "total") if any(name in rest.phases for rest in alone.values())]
    if not names:
        return [f"phases of an {item}: not measured, the bundle carries none"]
    what = "a photo" if item == "image" else "an object"
    rows = [[f"{what} of the self-test, p50 ms", *(name.replace("_", " ") for name in names)]]
    for model, rest in alone.items():
        cells = [significant(rest.phases[name].p50) if name in rest.phases else "-" for name in names]
        rows.append([model, *cells])
    return [*table_of(rows), ""]


def energy_lines(measured: Measured) -> list[str]:
    """Return a line for each model whose energy was read, or why it was not."""
    lines = []
    for name, latencies in measured.latencies.items():
        read = {batch: one.millijoules for batch, one in latencies.items() if one.millijoules is not None}
        words = [f"{joules / batch:.3g} mJ an image at batch {batch}" for batch, joules in read.items()]
        if words:
            lines.append(f"energy of {name}: {', '.join(words)} ({measured.conditions['energy']})")
    return lines or [f"energy: {measured.conditions['energy']}"]
