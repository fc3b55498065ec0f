"""Reading heads: what is stored comes back, older files stay readable, damage is refused in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from tests.deploy.runtime.fitted_heads import FORMS, make_head, names

from edgeproof_deploy.runtime.ensemble_head import EnsembleHead
from edgeproof_deploy.runtime.errors import BundleError, LabelError
from edgeproof_deploy.runtime.head import ClassifierHead, Head, ZeroShotHead, head_of_rows, parse_head
from edgeproof_deploy.runtime.linear_head import LinearHead

LABELS = "".join(f"{name}\n" for name in names(5)).encode()


def stored(head: Head) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    return head.arrays(), head.described()


def read(arrays: dict[str, np.ndarray], said: dict[str, str] | None = None, labels: bytes = LABELS) -> Head:
    return parse_head(save(arrays, said), labels)


def parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield all that a head holds, below members and bases too."""
    for name, part in vars(value).items():
        for one in part if isinstance(part, tuple) else [part]:
            if hasattr(one, "__dict__"):
                yield from parts_of(one)
            else:
                yield name, one


@pytest.mark.parametrize("form", FORMS)
def test_parse_head__gives_back_what_was_stored(form: str) -> None:
    head = make_head(form)
    again = read(*stored(head))
    assert type(again) is type(head)
    before, after = list(parts_of(head)), list(parts_of(again))
    assert [name for name, _ in before] == [name for name, _ in after]
    for (name, one), (_, other) in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    rows = np.random.default_rng(0).standard_normal((3, head.dim)).astype(np.float32)
    np.testing.assert_array_equal(again(rows), head(rows))


@pytest.mark.parametrize("form", FORMS)
def test_described__says_form_and_labels_but_for_heads_of_older_bundles(form: str) -> None:
    said = make_head(form).described()
    if form in ("zero_shot", "classifier", "some_classes"):
        assert said == {}
    else:
        assert said["labels"] == "5"
        assert said["form"] in ("linear", "cache", "ensemble", "gallery")


@pytest.mark.parametrize("scale", [np.array(20.0, np.float32), np.array([20.0], np.float64)])
def test_parse_head__zero_shot_heads_of_older_bundles(scale: np.ndarray) -> None:
    rows = np.eye(5, 8, dtype=np.float32)
    head = read({"weight": rows, "logit_scale": scale})
    assert isinstance(head, ZeroShotHead)
    assert head.logit_scale == 20.0
    assert np.array_equal(head.weight, rows)


@pytest.mark.parametrize("classes", [np.array(5), np.array([5], np.int32)])
def test_parse_head__classifiers_of_older_bundles(classes: np.ndarray) -> None:
    head = read({"classes": classes})
    assert head == ClassifierHead(names(5), tuple(range(5)), 5)


def test_parse_head__half_keys() -> None:
    arrays, said = stored(make_head("tip"))
    head = read(arrays | {"keys": arrays["keys"].astype(np.float16)}, said)
    rows = np.random.default_rng(0).standard_normal((3, 8))
    np.testing.assert_allclose(head(rows), make_head("tip")(rows), rtol=0.01)


@pytest.mark.parametrize(
    ("form", "change", "words"),
    [
        ("linear", {"weight": None}, "has no array 'weight', it has (bias, scale|scale, bias)"),
        ("linear", {"scale": None}, "has no array 'scale'"),
        ("linear", {"scale": np.ones(2)}, r"scale has the shape \(2,\), expected one number"),
        ("linear", {"scale": np.array(np.nan)}, "scale is nan"),
        ("linear", {"bias": np.ones(4)}, r"bias has the shape \(4,\), expected \(5\)"),
        ("linear", {"prior": np.ones(5)}, "has an array 'prior', expected weight, scale, bias"),
        ("linear", {"weight": np.full((5, 8), np.nan)}, "weight holds NaN"),
        ("tip", {"keys": None}, "has no array 'keys'"),
        ("tip", {"heights": None}, "has no array 'heights'"),
        ("tip", {"classes": np.full(15, 9)}, "outside of the 5 labels"),
        ("tip", {"classes": np.zeros(15)}, "expected integers"),
        ("tip", {"values": np.ones((15, 5))}, "has an array 'values'"),
        ("tip", {"beta": np.array(1e8), "keys": np.ones((15, 8))}, "the votes may overflow"),
        ("tip", {"base.weight": np.ones((5, 7))}, "the base is for other labels or embeddings"),
        ("tip", {"base.scale": None}, "has no array 'scale'"),
        ("proker", {"values": np.ones((14, 5))}, r"values has the shape \(14, 5\)"),
        ("proker", {"values": None}, "has no array 'values'"),
        ("ensemble", {"weights": np.ones(2)}, "has an array '2"),
        ("ensemble", {"weights": np.ones(65)}, "of 64 members at most"),
        ("ensemble", {"weights": np.ones((3, 1))}, "weights of shape"),
        ("ensemble", {"weights": -np.ones(3)}, "none is below 0"),
        ("ensemble", {"weights": None}, "has no array 'weights'"),
        ("ensemble", {"0.weight": None}, "has no array 'weight'"),
        ("some_classes", {"columns": np.arange(5) + 3}, "do not choose columns of 7 scores"),
        ("some_classes", {"columns": -np.arange(5)}, "do not choose columns"),
        ("some_classes", {"columns": np.ones(5)}, "do not choose columns"),
        ("classifier", {"classes": np.array(np.inf)}, "classes is inf"),
        ("zero_shot", {"weight": np.ones((5, 2, 2))}, "weight has the shape"),
    ],
)
def test_parse_head__arrays_that_make_no_sense(form: str, change: dict[str, Any], words: str) -> None:
    arrays, said = stored(make_head(form))
    changed = {name: array for name, array in {**arrays, **change}.items() if array is not None}
    with pytest.raises(BundleError, match=rf"head\.safetensors: .*{words}"):
        read(changed, said)


@pytest.mark.parametrize(
    ("form", "said", "words"),
    [
        ("linear", {"form": "quadratic"}, "is of the form 'quadratic', which this runtime does not know"),
        ("linear", {"form": ""}, "has no array 'logit_scale'"),
        ("linear", {"labels": "five"}, "says that it is for 'five' labels"),
        ("linear", {"labels": "\N{SUPERSCRIPT FIVE}"}, "says that it is for"),
        ("linear", {"labels": "9" * 5000}, "says that it is for '9999"),
        ("linear", {"labels": "6"}, r"labels\.txt: has 5 labels, expected 6, all different"),
        ("tip", {"base_form": "maybe"}, "base_form is 'maybe'"),
        ("tip", {"form": "linear"}, "has an array"),
        ("ensemble", {"of": "votes"}, "an ensemble of 'votes'"),
        ("ensemble", {"1.form": "linear"}, "has an array"),
    ],
)
def test_parse_head__metadata_that_make_no_sense(form: str, said: dict[str, str], words: str) -> None:
    arrays, before = stored(make_head(form))
    with pytest.raises(BundleError, match=words):
        read(arrays, before | said)


def test_parse_head__labels_that_do_not_fit() -> None:
    for form in FORMS:
        for labels in (LABELS + b"more\n", LABELS.replace(b"label 0", b"label 1"), b"one\n"):
            with pytest.raises(BundleError, match=r"labels\.txt: has \d labels, expected 5, all different"):
                read(*stored(make_head(form)), labels)


def test_parse_head__ensembles_lie_only_so_deep_in_each_other() -> None:
    head: Head = make_head("linear")
    for _ in range(3):
        head = EnsembleHead(head.labels, (head,), np.ones(1), "probabilities")
    assert read(*stored(head)).labels == head.labels
    deeper = EnsembleHead(head.labels, (head,), np.ones(1), "probabilities")
    with pytest.raises(BundleError, match="more than 3 deep"):
        read(*stored(deeper))


def test_head_of_rows__only_a_zero_shot_head_takes_other_words() -> None:
    rows = 3 * np.eye(2, 8)
    head = head_of_rows(["a", "b"], rows, make_head("zero_shot"))
    assert np.array_equal(head.weight, rows / 3)
    for form in ("linear", "tip", "proker", "ensemble"):
        with pytest.raises(LabelError, match="fitted on its labels and takes no other words"):
            head_of_rows(["a", "b"], rows, make_head(form))
    with pytest.raises(LabelError, match="scores the classes"):
        head_of_rows(["a", "b"], rows, make_head("classifier"))


def test_linear_head__says_what_the_same_zero_shot_head_says() -> None:
    zero_shot = make_head("zero_shot")
    assert isinstance(zero_shot, ZeroShotHead)
    linear = LinearHead(zero_shot.labels, zero_shot.weight, None, zero_shot.logit_scale)
    rows = np.random.default_rng(0).standard_normal((3, 8))
    assert np.array_equal(linear(rows), zero_shot(rows))
