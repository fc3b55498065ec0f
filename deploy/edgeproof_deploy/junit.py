"""Gates as JUnit XML, which build servers show as tests.

There is no standard of the format; what is written is what the schema of the Jenkins xUnit plug-in allows and
GitLab, GitHub and Azure read: `testsuites > testsuite > testcase > failure | skipped`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from edgeproof_configs.files import write_bytes
from edgeproof_deploy.gates import FAIL, NOT_MEASURED
from edgeproof_deploy.parity_report import Judged, Parity

FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even as references: most control characters and half surrogates,
which Python puts into names of files that are not UTF-8."""


def junit(parity: Parity, name: str = "edgeproof parity") -> bytes:
    """Return JUnit XML: a suite for each comparison, a case for each gate.

    A failed gate is a failure with the words of the gate, one that was not measured is skipped with the
    reason. Claims are properties of a suite of their own, since nothing fails by them.

    Args:
        parity: what was compared.
        name: of the whole.
    """
    root = ElementTree.Element("testsuites", counts(parity.judged) | {"name": clean(name)})
    for one in parity.judged:
        suite = ElementTree.SubElement(root, "testsuite", counts([one]) | {"name": clean(one.name)})
        for gate in one.gates:
            told = {"classname": clean(one.name), "name": clean(gate.name)}
            case = ElementTree.SubElement(suite, "testcase", told)
            words = clean(one.words(gate))
            if gate.status == FAIL:
                failure = ElementTree.SubElement(case, "failure", message=words, type="gate")
                failure.text = words
            elif gate.status == NOT_MEASURED:
                ElementTree.SubElement(case, "skipped", message=clean(one.reason) or NOT_MEASURED)
    if parity.claims:
        suite = ElementTree.SubElement(root, "testsuite", counts([]) | {"name": "claims"})
        properties = ElementTree.SubElement(suite, "properties")
        for claim in parity.claims:
            words = f"{claim.outcome}: {claim.evidence}"
            told = {"name": clean(f"{claim.form}: {claim.claim}"), "value": clean(words)}
            ElementTree.SubElement(properties, "property", told)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def write_junit(path: Path, parity: Parity, name: str = "edgeproof parity") -> None:
    """Write JUnit XML, atomically."""
    write_bytes(path, junit(parity, name))


def counts(judged: Sequence[Judged]) -> dict[str, str]:
    """Return how many gates there are, how many failed, and how many were not measured."""
    statuses = [gate.status for one in judged for gate in one.gates]
    told = {
        "tests": len(statuses),
        "failures": statuses.count(FAIL),
        "errors": 0,
        "skipped": statuses.count(NOT_MEASURED),
    }
    return {key: str(value) for key, value in told.items()}


def clean(text: str) -> str:
    r"""Return a text that XML can hold: a forbidden character as `\x1b` or `\udcff`."""
    return FORBIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
