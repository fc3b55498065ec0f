"""`bench` of a bundle, on this machine: every model in every engine that runs here."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeproof_benchmarks.latency import Latency, interleave
from edgeproof_benchmarks.machine.conditions import Watch, stamp
from edgeproof_benchmarks.machine.energy import Meter, find_meter, joules_or_reason
from edgeproof_benchmarks.phases import images_per_second
from edgeproof_benchmarks.record import milliseconds, table_of
from edgeproof_benchmarks.streams import Throughput, sweep
from edgeproof_benchmarks.traces import write_traces
from edgeproof_configs.run import environment
from edgeproof_deploy.bundle_models import Opened, inputs_of, open_models, skipped_lines
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
        threads: threads within one operator; None leaves the choice to the engine.
        batches: sizes of a call.
        streams: how many clients at once.
        traces: where to write every sample, as .npz.
        rebuild: build plans that do not fit this machine.
        as_json: print one JSON document.
    """

    seconds: float = SECONDS
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


def bench(path: Path, options: BenchOptions = BenchOptions()) -> int:
    """Measure every model of a bundle that runs here, print the tables, and return 0.

    Raises:
        EdgeproofError: a file was changed, or nothing runs here.
    """
    with ExitStack() as stack:
        opened = open_models(path, stack, options.threads, rebuild=options.rebuild)
        measured = measure_models(opened, options.batches, options.seconds)
        streams = {model.name: streams_of(opened, model.name, options) for model in opened.sessions}
    if options.traces is not None:
        write_traces(options.traces, measured.latencies)
    if options.as_json:
        told = as_plain(opened, measured, streams)
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        print("\n".join(as_lines(opened, measured, streams)))
    return 0


def measure_models(opened: Opened, batches: tuple[int, ...], seconds: float) -> Measured:
    """Measure all models in alternating rounds, at each batch size."""
    sessions = {model.name: session for model, session in opened.sessions.items()}
    gpu = any(on_gpu(session) for session in sessions.values())
    watch = Watch(uses_gpu=gpu)
    meters = {on_gpu(session): find_meter(on_gpu(session)) for session in sessions.values()}
    found: dict[str, dict[int, Latency]] = {name: {} for name in sessions}
    try:
        for batch in batches:
            calls = {}
            for name, session in sessions.items():
                inputs = inputs_of(session, batch)
                calls[name] = lambda session=session, inputs=inputs: session.run(inputs)
            each = {name: meters[on_gpu(session)] for name, session in sessions.items()}
            times = interleave(
                calls,
                seconds=seconds,
                warmup_seconds=seconds / 4,
                rounds=ROUNDS,
                meters={name: meter for name, meter in each.items() if isinstance(meter, Meter)},
            )
            watch.look()
            for name, latency in times.items():
                found[name][batch] = latency
    finally:
        for meter in meters.values():
            if isinstance(meter, Meter):
                meter.close()
    energy = "; ".join(dict.fromkeys(joules_or_reason(meter) for meter in meters.values()))
    first = {f"{name}, batch {batches[0]}": measured[batches[0]] for name, measured in found.items()}
    return Measured(found, watch.end(first, energy))


def on_gpu(session: Session) -> bool:
    """Whether a session runs on a GPU, by what it says of itself."""
    return any(word in session.providers[0].lower() for word in ("cuda", "tensorrt", "gpu"))


def streams_of(opened: Opened, name: str, options: BenchOptions) -> dict[int, Throughput]:
    """Measure several clients of a model at once."""
    model, session = next(pair for pair in opened.sessions.items() if pair[0].name == name)

    def another() -> Session:
        return open_engine(opened.bundle, model.engine, options.threads, model=model.file)

    return sweep(another, inputs_of(session, 1), options.streams, seconds=options.seconds / 4)


def as_plain(opened: Opened, measured: Measured, streams: dict[str, dict[int, Throughput]]) -> dict[str, Any]:
    """Return everything as plain data."""
    models = {}
    for model, session in opened.sessions.items():
        latencies = measured.latencies[model.name]
        models[model.name] = {
            "form": model.form,
            "engine": model.engine,
            "precision": model.precision,
            "file": model.file,
            "runs_on": list(session.providers),
            "size_bytes": opened.bundle.listed[model.file]["size"],
            "latency_ms": {f"batch{batch}": latency.to_dict() for batch, latency in latencies.items()},
            "images_per_second": {
                f"batch{batch}": round(images_per_second(latency, batch), 2)
                for batch, latency in latencies.items()
            },
            "streams": {str(count): found.to_dict() for count, found in streams[model.name].items()},
        }
    return {
        "schema_version": SCHEMA_VERSION,
        "bundle": str(opened.bundle.manifest.get("name", "")),
        "environment": environment(),
        "conditions": measured.conditions,
        "models": models,
        "not_run_here": {model.name: reason for model, reason in opened.skipped.items()},
    }


def as_lines(opened: Opened, measured: Measured, streams: dict[str, dict[int, Throughput]]) -> list[str]:
    """Return two tables, what was skipped and why, and how official the figures are."""
    rows = [["model", "batch", "p50 ms", "p90 ms", "p99 ms", "mean", "CoV", "n", "images/s"]]
    for name, latencies in measured.latencies.items():
        for batch, found in latencies.items():
            times = [milliseconds(value) for value in (found.p50, found.p90, found.p99, found.mean)]
            rate = f"{images_per_second(found, batch):.1f}"
            rows.append([name, str(batch), *times, f"{found.cov:.2f}", str(found.n), rate])
    waits = [["streams at once", "streams", "p50 ms", "p90 ms", "images/s"]]
    for name, found in streams.items():
        for count, one in found.items():
            times = [milliseconds(value) for value in (one.latency.p50, one.latency.p90)]
            waits.append([name, str(count), *times, f"{one.images_per_second:.1f}"])
    energy = energy_lines(measured)
    lines = [*table_of(rows), "", *table_of(waits), "", *energy, *skipped_lines(opened.skipped)]
    return [*lines, stamp(measured.conditions)]


def energy_lines(measured: Measured) -> list[str]:
    """Return a line for each model whose energy was read, or why it was not."""
    lines = []
    for name, latencies in measured.latencies.items():
        read = {batch: one.millijoules for batch, one in latencies.items() if one.millijoules is not None}
        words = [f"{joules / batch:.3g} mJ an image at batch {batch}" for batch, joules in read.items()]
        if words:
            lines.append(f"energy of {name}: {', '.join(words)} ({measured.conditions['energy']})")
    return lines or [f"energy: {measured.conditions['energy']}"]
