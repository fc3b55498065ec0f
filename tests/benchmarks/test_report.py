from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from edgeproof_benchmarks.formats import MINUS
from edgeproof_benchmarks.report import render_report
from edgeproof_benchmarks.report_data import report_data


class Page(HTMLParser):
    """Checks that every tag is closed in order, and collects tags, attributes and text."""

    def __init__(self, source: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words).replace("\u00a0", " ")


@pytest.fixture
def page(made_up: Any) -> Page:
    data = report_data(made_up.result(), made_up.metrics(), made_up.confusion(64), made_up.examples())
    return Page(render_report(data))


def test_render_report__needs_nothing_beside_it(page: Page):
    names = {name for name, _ in page.tags}
    assert names.isdisjoint({"script", "link", "iframe", "object", "embed", "base"})
    for name, attributes in page.tags:
        for key in ("src", "href", "srcset", "xlink:href", "data"):
            assert (attributes.get(key) or "data:").startswith("data:"), (name, key)
        assert not any(key.startswith("on") for key in attributes)


def test_render_report__style_fetches_nothing(made_up: Any):
    source = render_report(report_data(made_up.result()))
    assert "url(" not in source
    assert "@import" not in source
    assert "http" not in source.replace("http-equiv", "")


def test_render_report__verdict_and_figures_come_first(page: Page):
    top = page.text[:900]
    for words in (
        "96.9 % top-1, 0.3 points below its teacher",
        f"teacher 97.1 % ({MINUS}0.3)",
        "1.91 ms",
        "19.7 MB",
        "0 flips",
    ):
        assert words in top


def test_render_report__every_part_is_there(page: Page):
    for words in (
        "Every form of the model",
        "Speed",
        "Parity and gates",
        "Examples",
        "What is taken for what",
        "Accuracy of each class",
        "Learning",
        "Left out, and why",
        "Where this comes from",
        "TensorRT-RTX fp32",
        "built, not run here",
        "untrained student",
        "cosine_embedding",
        "the file is truncated",
        "No CUDA device was found",
        "An invented one",
    ):
        assert words in page.text


def test_render_report__drawings_say_what_they_show(page: Page):
    drawings = [
        attributes for name, attributes in page.tags if name == "svg" and "aria-hidden" not in attributes
    ]
    assert len(drawings) >= 7
    assert all(drawing.get("role") == "img" and drawing.get("aria-label") for drawing in drawings)
    pictures = [attributes for name, attributes in page.tags if name == "img"]
    assert len(pictures) == 12
    assert all(picture.get("alt") for picture in pictures)


def hostile(value: Any, key: str = "") -> Any:
    """Put markup into every text of plain data, keys of mappings included where they are shown."""
    if isinstance(value, dict):
        return {
            (name if key not in ("losses", "versions", "counts") else name + "<script>x</script>"): hostile(
                item, name
            )
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [hostile(item, key) for item in value]
    fixed = ("thumbnail", "status", "stage", "engine", "verdict")
    return value + '"><script>x</script>' if isinstance(value, str) and key not in fixed else value


def test_render_report__escapes_everything(made_up: Any):
    labels = made_up.confusion(5)
    labels["labels"] = hostile(labels["labels"])
    labels["form"] = hostile(labels["form"])
    metrics = [
        row | {"losses": hostile(row["losses"], "losses")} for row in made_up.metrics(2) if "losses" in row
    ]
    data = report_data(hostile(made_up.result()), metrics, labels, hostile(made_up.examples()))
    source = render_report(data)
    assert source.count("&lt;script&gt;") > 60
    assert "script" not in {name for name, _ in Page(source).tags}


def test_render_report__no_form_is_marked_as_shipped_when_the_verdict_is_not_to(made_up: Any):
    def marked(verdict: str) -> list[str | None]:
        page = Page(render_report(report_data(made_up.result(verdict=verdict))))
        return [attributes.get("class") for name, attributes in page.tags if name == "tr"]

    assert "shipped" in marked("ship")
    assert "shipped" not in marked("do not ship")


@pytest.mark.parametrize(
    ("verdict", "style"), [("ship", "good"), ("do not ship", "bad"), ("not proven", "unsure")]
)
def test_render_report__the_verdict_has_its_colour(made_up: Any, verdict: str, style: str):
    page = Page(render_report(report_data(made_up.result(verdict=verdict))))
    assert any(attributes.get("class") == f"verdict {style}" for _, attributes in page.tags)


def test_render_report__failed_gates_and_flips_are_shown(made_up: Any):
    rows = made_up.rows()
    rows[2]["gates"] = made_up.gates(agreement="fail")
    flip = {
        "path": "test/7.png",
        "true": "red cube",
        "tie": True,
        "reference": "red cube",
        "candidate": "red ball",
        "reference_margin": 0.0004,
        "candidate_margin": 0.1,
    }
    rows[2]["parity"] = made_up.parity() | {
        "flips": [flip],
        "top1_agreement": 0.99998,
        "metrics": {"delta": {"top1": -0.002}},
        "interval": [-0.006, 0.0],
    }
    text = Page(render_report(report_data(made_up.result(rows=rows)))).text
    assert "✗ fail" in text
    assert "test/7.png: red cube → red ball, true" in text
    assert f"true: red cube (a tie, margins 4.0e{MINUS}04 and 0.10)" in text
    assert "1 flip in 512 images" in text
    assert "99.99 %" in text
    assert f"{MINUS}0.2 ({MINUS}0.6 to ±0.0)" in text
    assert "not measured: no NVIDIA GPU" in text
    assert "PyTorch fp32 → ONNX Runtime fp32" in text


def test_render_report__more_than_a_hundred_classes_show_pairs_only(made_up: Any):
    few = render_report(report_data(made_up.result(), confusion=made_up.confusion(100)))
    many = render_report(report_data(made_up.result(), confusion=made_up.confusion(101)))
    assert "chart matrix" in few
    assert "chart matrix" not in many
    assert "taken for" in many


def test_render_report__a_control_on_other_images_says_so(made_up: Any):
    rows = made_up.rows()
    rows[0]["metrics"]["images"] = 768.0
    controls = [{"form": "baseline", "metrics": {"top1": 0.9, "images": 2465.0}}]
    text = Page(render_report(report_data(made_up.result(rows=rows, controls=controls)))).text
    assert "control on other images (2,465)" in text


def test_render_report__the_least_that_a_run_can_have():
    row = {"form": "student", "engine": "onnxruntime", "metrics": {}, "latency_ms": {}}
    least = {"name": "x", "sentence": "Nothing yet.", "verdict": "not proven", "rows": [row]}
    text = Page(render_report(report_data(least))).text
    assert "Nothing yet." in text
    assert "not measured" in text


def test_render_report__steps_are_drawn_where_there_are_few_epochs(made_up: Any):
    means = [row | {"event": "epoch"} for row in made_up.metrics(2) if row["stage"] == "train"]
    steps = [row | {"event": "step", "step": 20 * number} for number in range(1, 9) for row in means[:1]]
    few = render_report(report_data(made_up.result(), [*steps, *means]))
    many = render_report(report_data(made_up.result(), [*steps, *made_up.metrics(9)]))
    points = [source.split('<polyline points="')[1].split('"')[0].split() for source in (few, many)]
    assert [len(line) for line in points] == [8, 9]


def test_render_report__resumed_epochs_are_not_drawn_twice(made_up: Any):
    rows = [row for row in made_up.metrics(6) if row["stage"] == "train"]
    once = render_report(report_data(made_up.result(), rows))
    resumed = render_report(report_data(made_up.result(), [*rows[:4], *rows[2:]]))
    assert once == resumed
