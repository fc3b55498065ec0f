from __future__ import annotations

import random
from xml.etree import ElementTree

import pytest

from edgeproof_deploy.claims import Claim
from edgeproof_deploy.gates import at_least, at_most
from edgeproof_deploy.junit import clean, junit, write_junit
from edgeproof_deploy.parity_report import Judged, Parity

FAILED, PASSED = at_least("cosine", -1.0, 0.99), at_most("finite", 0.0, 0.0)
ABSENT = at_least("agreement", None, 0.9)
PLAN = Judged("student -> plan", [ABSENT], "built, not run here: <no> | driver")
CLAIMS = [Claim("onnxruntime int8", "int8", "proven", "20 of 20")]
PARITY = Parity([Judged("pytorch fp32 -> onnxruntime fp32", [PASSED, FAILED]), PLAN], CLAIMS)

ALLOWED = {
    "testsuites": ({"name", "tests", "failures", "errors", "skipped", "time"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": ({"name", "classname", "time", "file", "line"}, {"skipped", "failure", "error"}),
    "failure": ({"message", "type"}, set()),
    "skipped": ({"message", "type"}, set()),
}
"""Element: its attributes and its children, as Jenkins's xUnit plug-in and GitLab allow."""


def check_shape(element: ElementTree.Element) -> None:
    attributes, children = ALLOWED[element.tag]
    assert set(element.attrib) <= attributes, element.tag
    assert {child.tag for child in element} <= children, element.tag
    if element.tag in ("testsuite", "testcase", "property"):
        assert "name" in element.attrib
    if element.tag in ("testsuites", "testsuite"):
        cases = element.findall(".//testcase")
        assert int(element.attrib["tests"]) == len(cases)
        assert int(element.attrib["failures"]) == sum(c.find("failure") is not None for c in cases)
        assert int(element.attrib["skipped"]) == sum(c.find("skipped") is not None for c in cases)
        assert element.attrib["errors"] == "0"
    for child in element:
        check_shape(child)


def test_junit__has_the_shape_that_build_servers_read() -> None:
    root = ElementTree.fromstring(junit(PARITY))
    assert root.tag == "testsuites"
    check_shape(root)
    assert root.attrib["tests"] == "3"
    assert [suite.attrib["name"] for suite in root] == [*(one.name for one in PARITY.judged), "claims"]


def test_junit__a_failure_has_the_words_of_the_gate() -> None:
    root = ElementTree.fromstring(junit(PARITY))
    failure, skipped = root.find(".//failure"), root.find(".//skipped")
    assert failure is not None
    assert skipped is not None
    words = "pytorch fp32 -> onnxruntime fp32: cosine is -1, must be at least 0.99"
    assert failure.attrib["message"] == failure.text == words
    assert skipped.attrib["message"] == "built, not run here: <no> | driver"
    told = root.find(".//property")
    assert told is not None
    assert told.attrib == {"name": "onnxruntime int8: int8", "value": "proven: 20 of 20"}


def test_junit__nothing_was_compared() -> None:
    root = ElementTree.fromstring(junit(Parity([])))
    check_shape(root)
    assert len(root) == 0


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("käse/日本 🧀", "käse/日本 🧀"),
        ("a\x00b\x1b[31m", "a\\x00b\\x1b[31m"),
        ("\udcff.jpg", "\\udcff.jpg"),
        ("\ufffe\uffff", "\\ufffe\\uffff"),
        ('<a href="x">&amp;', '<a href="x">&amp;'),
    ],
)
def test_clean__what_xml_cannot_hold(name: str, shown: str) -> None:
    assert clean(name) == shown
    root = ElementTree.fromstring(junit(Parity([Judged(name, [FAILED], name)]), name))
    assert root.attrib["name"] == root[0].attrib["name"] == shown


def test_junit__a_thousand_odd_names_are_read_back() -> None:
    rng = random.Random(6)
    ranges = [(0, 32), (32, 127), (0x80, 0x100), (0xD800, 0xE000), (0xFFF0, 0x10000), (0x1F600, 0x1F650)]
    for _ in range(1000):
        name = "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randint(0, 12)))
        data = junit(Parity([Judged(name, [FAILED, ABSENT], name)], [Claim(name, "int8", "refuted", name)]))
        root = ElementTree.fromstring(data)
        check_shape(root)
        assert root[0].attrib["name"] == clean(name)


def test_write_junit__in_a_new_folder_with_an_odd_name(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("käse") / "neu \x01" / "ergebnis.xml"
    write_junit(path, PARITY)
    assert ElementTree.parse(path).getroot().tag == "testsuites"
