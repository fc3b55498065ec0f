"""`bench --compare A B`: two models in alternating rounds in one process, their ratio and its interval."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof.bundles import bundle_of, open_student
from edgeproof_benchmarks.formats import significant
from edgeproof_benchmarks.latency import Latency, Ratio, interleave, ratio
from edgeproof_benchmarks.machine.conditions import Watch, stamp
from edgeproof_benchmarks.machine.energy import on_gpu
from edgeproof_benchmarks.record import milliseconds, table_of
from edgeproof_configs.errors import EdgeproofError, MissingPackageError, UsageError, did_you_mean
from edgeproof_configs.run import environment
from edgeproof_deploy.bundle import read_bundle, tampered
from edgeproof_deploy.bundle_models import inputs_of
from edgeproof_deploy.engine import make_engine
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.session import ENGINES, Session, open_engine

DEFAULT_ENGINE = "onnxruntime"
STUDENT_ENGINES = ("pytorch", "pytorch_compiled")
"""Engines that run the student of a run, and no bundle."""
SECONDS = 10.0
ROUNDS = 20
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Side:
    """One of two that are compared: where it lies, and the engine that was asked for."""

    place: Path
    engine: str

    @classmethod
    def read(cls, text: str) -> Side:
        """Read `PLACE` or `PLACE@ENGINE`; a plan names its engine in its sidecar.

        Raises:
            UsageError: there is no such engine.
        """
        place, at, engine = text.rpartition("@")
        if not at or Path(text).exists():
            return cls(Path(text), "")
        known = (*STUDENT_ENGINES, *ENGINES)
        if engine not in known:
            hint = did_you_mean(engine, known)
            raise UsageError(f"'{engine}' is none of the engines {', '.join(known)}.{hint}", where=text)
        return cls(Path(place), engine)

    @property
    def is_file(self) -> bool:
        """Whether this is a model itself, and not a bundle or a run."""
        return self.place.suffix in (".onnx", ".engine") and not self.place.is_dir()

    def open(self, threads: int | None) -> Session:
        """Load what is to be measured.

        Raises:
            EdgeproofError: it cannot be loaded.
            MissingPackageError: its engine cannot be used here.
        """
        if self.engine in STUDENT_ENGINES:
            return open_student(self.place, self.engine, threads)
        if self.is_file:
            if not self.place.is_file():
                raise UsageError("no such model", where=self.place)
            return make_engine(self.engine or engine_of(self.place)).open(self.place, threads)
        bundle = bundle_of(self.place)
        try:
            return open_engine(read_bundle(bundle), self.engine or DEFAULT_ENGINE, threads)
        except UnavailableError as error:
            raise MissingPackageError(str(error), where=bundle, fix="see `edgeproof ls engines`") from error
        except BundleError as error:
            raise tampered(error, bundle) from error


@dataclass(frozen=True)
class CompareOptions:
    """How two are compared: `seconds` for each over all `rounds`, in calls of `batch` images."""

    seconds: float = SECONDS
    rounds: int = ROUNDS
    batch: int = 1
    threads: int | None = None
    as_json: bool = False


@dataclass(frozen=True)
class Compared:
    """What was found: both latencies, how many times longer A takes than B, and what is known of each."""

    latencies: dict[str, Latency]
    a_over_b: Ratio
    sides: dict[str, dict[str, Any]]
    conditions: dict[str, Any]


def compare(a: str, b: str, options: CompareOptions = CompareOptions()) -> int:
    """Measure two models in alternating rounds, print their ratio, and return 0.

    Args:
        a: a bundle, a run, an ONNX file or a plan; `@ENGINE` behind it chooses the engine.
        b: the other one.
        options: how to measure.

    Raises:
        UsageError: one of them is none of these.
        MissingPackageError: an engine cannot be used here.
    """
    with ExitStack() as stack:
        sessions = {}
        for letter, text in (("A", a), ("B", b)):
            sessions[letter] = Side.read(text).open(options.threads)
            stack.callback(sessions[letter].close)
        found = measure_both(sessions, {"A": a, "B": b}, options)
    if options.as_json:
        print(json.dumps(as_plain(found, options), indent=2, ensure_ascii=False))
    else:
        print("\n".join(as_lines(found)))
    return 0


def engine_of(file: Path) -> str:
    """Return the engine that a model's file is for.

    Raises:
        EdgeproofError: a plan has no sidecar that tells.
    """
    if file.suffix == ".onnx":
        return DEFAULT_ENGINE
    try:
        return str(json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["engine"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "copy the .json that lies beside it, too, or name the engine: FILE@tensorrt"
        raise EdgeproofError("the plan has no .json that says what it is for", where=file, fix=fix) from error


def measure_both(sessions: dict[str, Session], given: dict[str, str], options: CompareOptions) -> Compared:
    """Measure both sessions in turns."""
    watch = Watch(uses_gpu=any(on_gpu(session) for session in sessions.values()))
    calls, sides = {}, {}
    for letter, session in sessions.items():
        inputs: dict[str, np.ndarray] = inputs_of(session, options.batch)
        calls[letter] = lambda session=session, inputs=inputs: session.run(inputs)
        shapes = {name: list(value.shape) for name, value in inputs.items()}
        sides[letter] = {
            "given": given[letter],
            "model": session.model,
            "runs_on": list(session.providers),
            "inputs": shapes,
        }
    latencies = interleave(
        calls,
        seconds=options.seconds,
        warmup_seconds=min(options.seconds / 5, 2.0),
        rounds=options.rounds,
    )
    return Compared(latencies, ratio(latencies["A"], latencies["B"]), sides, watch.end(latencies))


def as_plain(found: Compared, options: CompareOptions) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": environment(),
        "conditions": found.conditions,
        "threads": options.threads,
        "sides": {
            letter: side | {"latency_ms": found.latencies[letter].to_dict()}
            for letter, side in found.sides.items()
        },
        "a_over_b": found.a_over_b.to_dict(),
        "sentence": sentence(found.a_over_b),
    }


def as_lines(found: Compared) -> list[str]:
    """Return who is who, a table, the ratio in a sentence, and how official it is."""
    lines = [
        f"{letter}  {side['given']}: {side['model']}, {side['runs_on'][0]}, "
        + ", ".join(f"{name} {tuple(shape)}" for name, shape in side["inputs"].items())
        for letter, side in found.sides.items()
    ]
    rows = [["", "p50 ms", "p90 ms", "p99 ms", "mean", "CoV", "n"]]
    for letter, one in found.latencies.items():
        times = [milliseconds(value) for value in (one.p50, one.p90, one.p99, one.mean)]
        rows.append([letter, *times, f"{one.cov:.2f}", str(one.n)])
    return [*lines, *table_of(rows), sentence(found.a_over_b), stamp(found.conditions)]


def sentence(found: Ratio) -> str:
    """Return the ratio of the medians with its interval, and what follows from it."""
    low, high = found.interval
    within = f"{100 * found.confidence:.0f} % interval {significant(low, 4)} to {significant(high, 4)}"
    figures = f"A / B = {significant(found.median, 4)} ({within}, {found.rounds} rounds, n {found.n})"
    if found.confidence < 0.95:
        return f"{figures}: too few rounds to tell."
    if low > 1:
        return f"{figures}: B is {significant(found.median)} times faster."
    if high < 1:
        return f"{figures}: A is {significant(1 / found.median)} times faster."
    return f"{figures}: no difference that can be told from noise."
