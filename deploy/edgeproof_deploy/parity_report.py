"""Parity for others to read: `parity.json`, JUnit XML for a build server, a summary for GitHub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from edgeproof_configs.files import explain_os_errors, write_bytes, write_json
from edgeproof_deploy.gates import FAIL, NOT_MEASURED, GateResult
from edgeproof_deploy.parity import PairParity
from edgeproof_deploy.preprocessing_parity import PreprocessingParity

SCHEMA_VERSION = 1
Judged = tuple[str, str, list[GateResult]]
"""What was judged, why it was not measured (or an empty text), and its gates."""


def write_parity(
    path: Path,
    pairs: Sequence[PairParity],
    preprocessing: PreprocessingParity | None,
    environment: dict[str, Any],
) -> None:
    """Write `parity.json`: every pair, the preprocessing, and where it was measured."""
    write_json(
        path,
        {
            "schema_version": SCHEMA_VERSION,
            "environment": environment,
            "preprocessing": preprocessing.to_dict() if preprocessing else None,
            "pairs": [pair.to_dict() for pair in pairs],
        },
    )


def judged(pairs: Sequence[PairParity], preprocessing: PreprocessingParity | None) -> list[Judged]:
    """Return everything that has gates, the preprocessing first."""
    first: list[Judged] = [("preprocessing", "", [preprocessing.gate])] if preprocessing else []
    return first + [(f"{p.reference} -> {p.candidate}", p.reason, p.gates) for p in pairs]


def junit(pairs: Sequence[PairParity], preprocessing: PreprocessingParity | None = None) -> bytes:
    """Return JUnit XML: a suite for each pair, a case for each gate."""
    root = ElementTree.Element("testsuites", name="edgeproof parity")
    for name, reason, gates in judged(pairs, preprocessing):
        failed = sum(gate.status == FAIL for gate in gates)
        skipped = sum(gate.status == NOT_MEASURED for gate in gates)
        told = {"name": name, "tests": len(gates), "failures": failed, "skipped": skipped, "errors": 0}
        texts = {key: str(value) for key, value in told.items()}
        suite = ElementTree.SubElement(root, "testsuite", texts)
        for gate in gates:
            case = ElementTree.SubElement(suite, "testcase", classname=name, name=gate.name)
            if gate.status == FAIL:
                ElementTree.SubElement(case, "failure", message=gate.words(name))
            elif gate.status == NOT_MEASURED:
                ElementTree.SubElement(case, "skipped", message=reason or NOT_MEASURED)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def write_junit(
    path: Path, pairs: Sequence[PairParity], preprocessing: PreprocessingParity | None = None
) -> None:
    """Write JUnit XML, atomically."""
    write_bytes(path, junit(pairs, preprocessing))


def github_summary(pairs: Sequence[PairParity], preprocessing: PreprocessingParity | None = None) -> str:
    """Return a Markdown table with a line for each gate."""
    lines = ["### Parity", "", "| compared | gate | measured | limit | outcome |", "|---|---|---|---|---|"]
    for name, reason, gates in judged(pairs, preprocessing):
        for gate in gates:
            value = "" if gate.value is None else f"{gate.value:.7g}"
            outcome = f"**{FAIL}**" if gate.status == FAIL else gate.status
            if gate.status == NOT_MEASURED and reason:
                outcome = f"{outcome}: {reason}"
            limit = f"{gate.bound} {gate.limit:.7g}"
            lines.append(f"| {cell(name)} | {gate.name} | {value} | {limit} | {cell(outcome)} |")
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Return a text that does not break a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def write_github(
    pairs: Sequence[PairParity], preprocessing: PreprocessingParity | None = None
) -> Path | None:
    """Append the summary to the file that GitHub Actions names in `GITHUB_STEP_SUMMARY`; else print it.

    Returns:
        the file, or None where it was printed.
    """
    text = github_summary(pairs, preprocessing)
    target = os.environ.get("GITHUB_STEP_SUMMARY")
    if not target:
        print(text)
        return None
    path = Path(target)
    with explain_os_errors(path), path.open("a", encoding="utf-8") as handle:
        handle.write(text)
    return path
