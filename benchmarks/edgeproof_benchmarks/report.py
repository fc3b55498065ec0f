"""The report: one HTML file that needs nothing beside it, no script and no network."""

from __future__ import annotations

from importlib.resources import files

from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import ReportData
from edgeproof_benchmarks.sections.calibration import calibration
from edgeproof_benchmarks.sections.classes import classes
from edgeproof_benchmarks.sections.compression import compression
from edgeproof_benchmarks.sections.curation import curation
from edgeproof_benchmarks.sections.examples import examples
from edgeproof_benchmarks.sections.forms import forms
from edgeproof_benchmarks.sections.layers import layers
from edgeproof_benchmarks.sections.learning import learning
from edgeproof_benchmarks.sections.machine import machine
from edgeproof_benchmarks.sections.parity import parity
from edgeproof_benchmarks.sections.provenance import provenance
from edgeproof_benchmarks.sections.retrieval import retrieval
from edgeproof_benchmarks.sections.space import space
from edgeproof_benchmarks.sections.speed import speed
from edgeproof_benchmarks.sections.spread import spread
from edgeproof_benchmarks.sections.summary import summary

SECTIONS = (
    summary,
    forms,
    compression,
    speed,
    spread,
    layers,
    parity,
    retrieval,
    examples,
    curation,
    classes,
    calibration,
    space,
    learning,
    machine,
    provenance,
)


def render_report(data: ReportData) -> str:
    """Return the page."""
    style = files("edgeproof_benchmarks").joinpath("report.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{data.name}: {data.verdict}"),
        tag("style", Html(style)),
    )
    header = tag("header", tag("h1", data.name), tag("p", "edgeproof report"))
    body = tag("body", header, tag("main", *[section(data) for section in SECTIONS]))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"
