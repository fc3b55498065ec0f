from __future__ import annotations

import re
from typing import Any

import pytest
from tests.benchmarks.page import Page

from edgeproof_benchmarks.formats import MINUS
from edgeproof_benchmarks.report import render_report
from edgeproof_benchmarks.report_data import ReportData, report_data


@pytest.fixture
def page(made_up: Any) -> Page:
    return Page(render_report(everything(made_up)))


def everything(made_up: Any, of: str = "image", **changed: Any) -> ReportData:
    """Return all that a run can have."""
    files = {
        "metrics": made_up.metrics(),
        "confusion": made_up.confusion(64),
        "examples": made_up.examples(maps=3),
        "per_class": made_up.per_class(64),
        "calibration": made_up.calibration(),
        "embedding": made_up.embedding(64, 300),
    }
    return report_data(made_up.result() | {"item": of}, **(files | changed))


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


def test_render_report__objects_are_called_objects(made_up: Any):
    """Beside the verdict, which another one words, only single files are images."""
    page = Page(render_report(everything(made_up, of="object")))
    said = page.text.replace("edge images", "").replace("images whose pixels", "").replace("p50 an image", "")
    assert "test objects" in said
    assert "one object, from files to answer" in said
    assert re.findall(r".{0,40}\bimages?\b.{0,20}", said, re.IGNORECASE) == []
    assert "test object" not in Page(render_report(everything(made_up))).text


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
        "Each class",
        "Calibration",
        "The space of embeddings",
        "Grad-CAM beside 3 images",
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
    assert len(drawings) >= 10
    assert all(drawing.get("role") == "img" and drawing.get("aria-label") for drawing in drawings)
    pictures = [attributes for name, attributes in page.tags if name == "img"]
    assert len(pictures) == 12 + 3
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
    fixed = ("thumbnail", "jpeg", "status", "stage", "engine", "verdict")
    return value + '"><script>x</script>' if isinstance(value, str) and key not in fixed else value


def test_render_report__escapes_everything(made_up: Any):
    labels = made_up.confusion(5)
    labels["labels"] = hostile(labels["labels"])
    labels["form"] = hostile(labels["form"])
    metrics = [
        row | {"losses": hostile(row["losses"], "losses")} for row in made_up.metrics(2) if "losses" in row
    ]
    data = report_data(
        hostile(made_up.result()),
        metrics,
        labels,
        hostile(made_up.examples(maps=2)),
        per_class=hostile(made_up.per_class(30)),
        embedding=hostile(made_up.embedding(30, 60)),
    )
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


def test_render_report__fine_tuning_of_compressed_students_has_curves(made_up: Any):
    plain = [row for row in made_up.metrics(6) if row["stage"] == "train"]
    tuned = [row | {"stage": stage} for stage in ("sparsify", "quantize int8") for row in plain[:3]]
    text = Page(render_report(report_data(made_up.result(), [*plain, *tuned]))).text
    assert "fine-tuning: loss" in text
    assert "2:4 ends at" in text
    assert "fine-tuning: validation top-1" in text
    once = [row | {"stage": "sparsify"} for row in plain[:1]]
    assert "fine-tuning: validation" not in Page(render_report(report_data(made_up.result(), once))).text
    assert "fine-tuning" not in Page(render_report(report_data(made_up.result(), plain))).text


def test_render_report__resumed_epochs_are_not_drawn_twice(made_up: Any):
    rows = [row for row in made_up.metrics(6) if row["stage"] == "train"]
    once = render_report(report_data(made_up.result(), rows))
    resumed = render_report(report_data(made_up.result(), [*rows[:4], *rows[2:]]))
    assert once == resumed


def test_render_report__runs_from_before_the_class_table_have_bars(made_up: Any):
    old = everything(made_up, per_class=None, calibration=None, embedding=None, examples=made_up.examples())
    text = Page(render_report(old)).text
    assert "Accuracy of each class" in text
    for words in ("Each class", "Calibration", "The space of", "Grad-CAM"):
        assert words not in text


@pytest.mark.parametrize("count", [20, 21, 600])
def test_render_report__many_classes_are_folded_and_very_many_cut(made_up: Any, count: int):
    page = Page(
        render_report(
            everything(made_up, confusion=made_up.confusion(count), per_class=made_up.per_class(count))
        )
    )
    assert (f"the other {count - 20}" in page.text) == (count > 20)
    assert ("and 80 more, in verify/per_class.json" in page.text) == (count == 600)


def test_render_report__weakest_class_first_and_means_by_kind(made_up: Any):
    text = Page(render_report(everything(made_up, per_class=made_up.per_class(10)))).text
    table = text[text.index("Each class") :]
    assert table.index("red cube") < table.index("red ball") < table.index("red cone")
    assert "seen in training: mean F1 40.0 %, mean recall 40.0 % over 8" in table
    assert "held out of training: mean F1 65.0 %, mean recall 65.0 % over 2" in table


@pytest.mark.parametrize(
    ("confidence", "words"),
    [
        (0.9, "too sure, by 19.5 points"),
        (0.5, "too unsure, by 20.5 points"),
        (0.703, "as sure as it is right"),
    ],
)
def test_render_report__calibration_in_words(made_up: Any, confidence: float, words: str):
    calibration = made_up.calibration() | {"confidence": confidence}
    assert words in Page(render_report(everything(made_up, calibration=calibration))).text


def test_render_report__no_heat_map_says_why(made_up: Any):
    examples = [one | {"cam": {"reason": "the student has no map"}} for one in made_up.examples(2)]
    text = Page(render_report(everything(made_up, examples=examples))).text
    assert "No Grad-CAM: the student has no map." in text


def test_render_report__a_space_without_labels(made_up: Any):
    plain = made_up.embedding(1, 40) | {"labels": [None], "unseen": [], "knn": None}
    text = Page(render_report(everything(made_up, embedding=plain))).text
    assert "40 test images, brought to length 1" in text
    assert "should lie together" not in text
    assert "Accuracy of nearest neighbours" not in text


def test_render_report__a_part_of_many_images(made_up: Any):
    plain = made_up.embedding(5, 40) | {"images": 90_000}
    plain["pictures"].pop()
    text = Page(render_report(everything(made_up, embedding=plain))).text
    assert "40 of 90,000 test images" in text
    assert "90.0 % by the 20 nearest" in text
    assert "Measured on 40 images." in text


def test_render_report__classes_without_confusion_counts(made_up: Any):
    text = Page(render_report(everything(made_up, confusion=None))).text
    assert "Each class" in text
    assert "What is taken for what" not in text


def test_render_report__a_gate_says_which_pair_it_is_of(made_up: Any):
    rows = made_up.rows()
    limit = made_up.gates()[0]
    pairs = [
        made_up.parity() | {"reference": name, "gates": [limit]} for name in ("pytorch int8", "pytorch fp32")
    ]
    rows[2] |= {"parity": pairs, "gates": [limit, limit, made_up.gates()[3]]}
    text = Page(render_report(report_data(made_up.result(rows=rows)))).text
    assert "cosine beside PyTorch int8" in text
    assert "cosine beside PyTorch fp32" in text
    assert "latency_p90_ms beside" not in text


def test_render_report__a_gate_says_what_it_measures_where_its_name_does_not(made_up: Any):
    rows = made_up.rows()
    finite = made_up.gates()[0] | {"name": "finite", "value": 0.0, "limit": 0.0, "bound": "at most"}
    pairs = [made_up.parity() | {"reference": name, "gates": [finite]} for name in ("pytorch fp32", "x")]
    rows[2] |= {"parity": pairs, "gates": [finite, finite]}
    text = Page(render_report(report_data(made_up.result(rows=rows)))).text
    assert "finite embeddings with NaN or infinity, beside PyTorch fp32" in text
