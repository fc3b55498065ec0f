"""Gates on GitHub Actions: a table in the summary of a job, and a line of its own for each that failed."""

from __future__ import annotations

import os
from pathlib import Path

from edgeproof_configs.files import explain_os_errors
from edgeproof_deploy.gates import FAIL, NOT_MEASURED
from edgeproof_deploy.junit import clean
from edgeproof_deploy.parity_report import Parity

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


def github_summary(parity: Parity, title: str = "Parity") -> str:
    """Return Markdown: a table with a line for each gate, and one with a line for each claim."""
    lines = [
        f"### {cell(title)}",
        "",
        "| compared | gate | measured | limit | outcome |",
        "|---|---|---|---|---|",
    ]
    for one in parity.judged:
        for gate in one.gates:
            outcome = f"**{FAIL}**" if gate.status == FAIL else gate.status
            if gate.status == NOT_MEASURED and one.reason:
                outcome = f"{outcome}: {cell(one.reason)}"
            limit = f"{gate.bound} {gate.limit:.7g}"
            lines.append(f"| {cell(one.name)} | {cell(gate.name)} | {gate.shown} | {limit} | {outcome} |")
    if parity.claims:
        lines += ["", "| form | claim | outcome | evidence |", "|---|---|---|---|"]
    for claim in parity.claims:
        outcome = f"**{claim.outcome}**" if claim.outcome == "refuted" else claim.outcome
        lines.append(f"| {cell(claim.form)} | {cell(claim.claim)} | {outcome} | {cell(claim.evidence)} |")
    return "\n".join(lines) + "\n\n"


def error_commands(parity: Parity) -> list[str]:
    """Return a workflow command `::error::` for each gate that failed."""
    return [
        f"::error title={escaped(f'edgeproof: {gate.name}', of_property=True)}::{escaped(one.words(gate))}"
        for one, gate in parity.of(FAIL)
    ]


def write_github(parity: Parity, title: str = "Parity") -> Path | None:
    """Append the summary to the file that GitHub names, or print it elsewhere; print the annotations.

    Returns:
        the file, or None where it was printed.
    """
    text, target = github_summary(parity, title), os.environ.get(SUMMARY_VARIABLE)
    if target:
        path = Path(target)
        with explain_os_errors(path), path.open("a", encoding="utf-8") as handle:
            handle.write(text)
    else:
        print(text, end="")
    for line in error_commands(parity):
        print(line)
    return Path(target) if target else None


def cell(text: str) -> str:
    """Return a text that does not break a Markdown table, nor is taken for HTML or formatting."""
    shown = " ".join(clean(text).split())
    for character in "\\|*_`[]":
        shown = shown.replace(character, f"\\{character}")
    return shown.replace("<", "&lt;")


def escaped(text: str, *, of_property: bool = False) -> str:
    """Return a text as GitHub's workflow commands take it."""
    shown = clean(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return shown.replace(":", "%3A").replace(",", "%2C") if of_property else shown
