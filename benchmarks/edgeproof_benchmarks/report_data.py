"""What the report shows, and how it is read from a run directory.

The report is a view of files that other stages write. Beside `result.json` (its rows are `FormRow`) and
`metrics.jsonl` it reads files of the verify stage, all optional: those of `answer_data`, that of
`example_data`, and

`bench/layers.json`, as `layer_data` describes it,

`bench/traces.npz`: every sample of a latency in milliseconds, by `form/engine/precision/batchN`,

`report/curation.json`, as `curation_data` describes it,

`verify/retrieval.json`, as `retrieval_data` describes it, and

`verify/confusion.json`:
    {"labels": [...], "matrix": [[count]] with a row for each true and a column for each predicted label,
     "unseen": [labels held out of training], "form": name of the form that answered}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_benchmarks.answer_data import (
    Calibration,
    ClassRow,
    Space,
    read_calibration,
    read_classes,
    read_space,
)
from edgeproof_benchmarks.curation_data import Curation, read_curation
from edgeproof_benchmarks.example_data import Example, read_example
from edgeproof_benchmarks.formats import ENGINE_NAMES, known
from edgeproof_benchmarks.layer_data import LAYERS_FILE, Layers
from edgeproof_benchmarks.retrieval_data import Retrieval, read_retrieval
from edgeproof_benchmarks.traces import TRACES_FILE, read_traces
from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.files import read_json
from edgeproof_configs.run import RunDir
from edgeproof_deploy.engine import RUN_HERE

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Gate:
    """A limit, what was measured, and how it came out: `pass`, `fail` or `not measured`.

    `bound` says on which side of the limit the value has to be: `at least`, `at most`, or nothing.
    """

    name: str
    value: float | None
    limit: float | None
    status: str
    bound: str = ""

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Gate:
        """Read a gate; keys that are not known here are left alone."""
        return cls(
            plain["name"], plain.get("value"), plain.get("limit"), plain["status"], plain.get("bound", "")
        )


@dataclass(frozen=True)
class FormRow:
    """One form of the model, in one engine: a row of `result.json`.

    Attributes:
        form: `teacher`, `student`, ... as the chain calls it.
        engine: kind of the engine that executed it; empty where none did.
        precision: `fp32`, `fp16`, `int8`.
        status: `run here` or `built, not run here`.
        metrics: accuracies as fractions, `cosine` to the teacher.
        latency_ms: by batch size, `{p50, p90, p99, n, ...}`, and `rounds_p50_ms`: the median of each round.
        images_per_second: by batch size.
        streams: by how many asked at once, `{images_per_second, latency_ms, ...}`.
        phases_ms: p50 of `decode`, `preprocess`, `compute`, `head` for one image.
        parity: pairs that end in this form, as `compare_pair` gives them.
        claims: whether it is in its engine what it is called, `{claim, outcome, evidence}`.
    """

    form: str
    engine: str = ""
    precision: str = "fp32"
    status: str = RUN_HERE
    metrics: Mapping[str, float] = field(default_factory=dict)
    latency_ms: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    images_per_second: Mapping[int, float] = field(default_factory=dict)
    streams: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    phases_ms: Mapping[str, float] = field(default_factory=dict)
    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    size_bytes: int | None = None
    threads: int | None = None
    parity: tuple[Mapping[str, Any], ...] = ()
    gates: tuple[Gate, ...] = ()
    claims: tuple[Mapping[str, str], ...] = ()

    @property
    def ran(self) -> bool:
        """Whether its figures were measured on this machine."""
        return self.status == RUN_HERE

    @property
    def key(self) -> str:
        """`form/engine/precision`, as other files call it."""
        return f"{self.form}/{self.engine}/{self.precision}"

    @property
    def name(self) -> str:
        """The form in words: `ONNX Runtime fp32`, `ONNX Runtime sparse int8`, `teacher`."""
        if self.form == "teacher" or not self.engine:
            return self.form
        if self.form == "sparse":
            return f"{self.engine_name} sparse {self.precision}"
        engine = f"{self.engine_name} {self.precision}"
        return engine if self.form == "student" else f"{self.form}, {engine}"

    @property
    def engine_name(self) -> str:
        """The engine as people write it; empty where none executed the form."""
        return ENGINE_NAMES.get(self.engine, self.engine)

    def latency(self, statistic: str, batch: int = 1) -> float | None:
        """Return a latency in milliseconds, or None where it was not measured."""
        return self.latency_ms.get(batch, {}).get(statistic)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> FormRow:
        """Read a row of `result.json`."""
        parity = plain.get("parity") or []
        pairs = [parity] if isinstance(parity, Mapping) else parity
        return cls(
            form=plain["form"],
            engine=plain.get("engine") or "",
            precision=plain.get("precision") or "fp32",
            status=plain.get("status") or RUN_HERE,
            metrics=accuracies(plain.get("metrics")),
            latency_ms=by_batch(plain.get("latency_ms")),
            images_per_second=by_batch(plain.get("images_per_second")),
            streams=by_batch(plain.get("streams")),
            phases_ms=plain.get("phases_ms") or {},
            memory_bytes=plain.get("memory_bytes"),
            gpu_memory_bytes=plain.get("gpu_memory_bytes"),
            size_bytes=plain.get("size_bytes"),
            threads=plain.get("threads"),
            parity=tuple(pair for pair in pairs if pair),
            gates=tuple(Gate.from_dict(gate) for gate in plain.get("gates") or []),
            claims=tuple(plain.get("claims") or ()),
        )


@dataclass(frozen=True)
class Control:
    """A row to compare with that is not shipped: chance, the untrained student, training on labels alone."""

    form: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Confusion:
    """Counts of true (row) against predicted (column) labels, as int64 (K, K)."""

    labels: tuple[str, ...]
    matrix: np.ndarray
    unseen: frozenset[str] = frozenset()
    form: str = ""


@dataclass(frozen=True)
class ReportData:
    """Everything on the page.

    Attributes:
        item: what the forms answer about, `image` or `object`.
        head: what `head.json` says of a head that was fitted.
    """

    name: str
    sentence: str
    verdict: str
    rows: tuple[FormRow, ...]
    caveats: tuple[str, ...] = ()
    controls: tuple[Control, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    view: str = ""
    stages: tuple[tuple[str, float], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    corrupt: tuple[Mapping[str, str], ...] = ()
    corrupt_total: int = 0
    notes: tuple[str, ...] = ()
    metrics: tuple[Mapping[str, Any], ...] = ()
    confusion: Confusion | None = None
    examples: tuple[Example, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    calibration: Calibration | None = None
    space: Space | None = None
    retrieval: Retrieval | None = None
    curation: Curation | None = None
    compression: Mapping[str, Any] | None = None
    conditions: Mapping[str, Any] | None = None
    traces: Mapping[str, np.ndarray] = field(default_factory=dict)
    layers: Layers = field(default_factory=dict)
    item: str = "image"
    head: Mapping[str, Any] | None = None

    @property
    def teacher(self) -> FormRow | None:
        """The teacher's row."""
        return next((row for row in self.rows if row.form == "teacher"), None)


def named(form: str) -> str:
    """Return a form's name with its engine as people write it: `ONNX Runtime fp32`, `PyTorch sparse int8`."""
    sparse = "sparse " if form.startswith("sparse ") else ""
    engine, _, rest = form.removeprefix(sparse).partition(" ")
    return f"{ENGINE_NAMES.get(engine, engine)} {sparse}{rest}".strip()


def by_batch(plain: Mapping[str, Any] | None) -> dict[int, Any]:
    """Turn the keys `batch1`, `batch8` into 1, 8, sorted."""
    return dict(sorted((int(str(key).removeprefix("batch")), value) for key, value in (plain or {}).items()))


def accuracies(plain: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the metrics that are numbers; `cosine_mean`, as evaluation calls it, is the row's `cosine`."""
    named = {"cosine" if name == "cosine_mean" else name: value for name, value in (plain or {}).items()}
    return {name: float(value) for name, value in named.items() if known(value)}


def report_data(
    result: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]] = (),
    confusion: Mapping[str, Any] | None = None,
    examples: Sequence[Mapping[str, Any]] = (),
    *,
    per_class: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
    embedding: Mapping[str, Any] | None = None,
    retrieval: Mapping[str, Any] | None = None,
    curation: Sequence[Mapping[str, Any]] = (),
    traces: Mapping[str, np.ndarray] | None = None,
    layers: Layers | None = None,
) -> ReportData:
    """Build the page's data from the plain contents of the files.

    Raises:
        EdgeproofError: `result.json` has another schema version.
    """
    version = result.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise EdgeproofError(
            f"result.json has schema version {version}, this edgeproof reads {SCHEMA_VERSION}"
        )
    data = result.get("data") or {}
    corrupt = data.get("corrupt") or []
    listed = [] if isinstance(corrupt, int) else [corrupt_image(entry) for entry in corrupt]
    return ReportData(
        name=result["name"],
        sentence=result["sentence"],
        verdict=result["verdict"],
        rows=tuple(FormRow.from_dict(row) for row in result["rows"]),
        caveats=tuple(result.get("caveats") or ()),
        controls=tuple(
            Control(row["form"], accuracies(row.get("metrics"))) for row in result.get("controls") or ()
        ),
        environment=result.get("environment") or {},
        view=result.get("view") or "",
        stages=tuple((stage["stage"], stage["seconds"]) for stage in result.get("stages") or ()),
        counts=data.get("counts") or {},
        corrupt=tuple(listed),
        corrupt_total=corrupt if isinstance(corrupt, int) else len(listed),
        notes=tuple(result.get("notes") or ()),
        metrics=tuple(metrics),
        confusion=read_confusion(confusion) if confusion else None,
        examples=tuple(read_example(example) for example in examples),
        classes=read_classes(per_class) if per_class else (),
        calibration=read_calibration(calibration) if calibration else None,
        space=read_space(embedding) if embedding else None,
        retrieval=read_retrieval(retrieval) if retrieval else None,
        curation=read_curation(result["curation"], curation) if "curation" in result else None,
        compression=result.get("compression"),
        conditions=result.get("bench_conditions"),
        traces=traces or {},
        layers=layers or {},
        item=result.get("item") or "image",
        head=result.get("head"),
    )


def corrupt_image(entry: Mapping[str, str] | Sequence[str]) -> Mapping[str, str]:
    """Return a skipped image as `{path, reason}`; also from (path, reason) or (split, path, reason)."""
    return entry if isinstance(entry, Mapping) else {"path": entry[-2], "reason": entry[-1]}


def read_confusion(plain: Mapping[str, Any]) -> Confusion:
    """Read the confusion counts.

    Raises:
        EdgeproofError: the matrix does not fit the labels.
    """
    labels = tuple(str(label) for label in plain["labels"])
    matrix = np.asarray(plain["matrix"], dtype=np.int64)
    if matrix.shape != (len(labels), len(labels)):
        raise EdgeproofError(
            f"the confusion matrix is {matrix.shape}, expected {len(labels)} x {len(labels)} labels"
        )
    return Confusion(labels, matrix, frozenset(plain.get("unseen") or ()), plain.get("form") or "")


def load_report_data(run: Path) -> ReportData:
    """Read what the report shows from a run directory.

    Raises:
        EdgeproofError: there is no `result.json`, or a file is cut.
    """
    result = run / "result.json"
    if not result.exists():
        raise EdgeproofError(
            "this run has no result.json yet", where=run, fix="run the stages verify and bench first"
        )
    names = ("confusion", "examples", "per_class", "calibration", "embedding", "retrieval")
    files = {name: run / "verify" / f"{name}.json" for name in names}
    files["curation"] = run / "report" / "curation.json"
    files["layers"] = run / "bench" / LAYERS_FILE
    found = {name: read_json(file) for name, file in files.items() if file.exists()}
    return report_data(
        read_json(result), RunDir(run).metrics(), **found, traces=read_traces(run / "bench" / TRACES_FILE)
    )
