from __future__ import annotations

from pathlib import Path

import pytest

from edgeproof.study.variants import numbers_of, parse_varied, take_over, unseen_of, variants_of
from edgeproof_configs.errors import UsageError

NAMES = tuple("abcdefgh")


def test_variants_of__every_combination() -> None:
    varied = parse_varied(["student.model=resnet18, resnet10t", "train.lr=1e-3"])
    found = variants_of(varied, seeds=2)
    assert [variant.folder for variant in found] == [
        "student.model=resnet18,train.lr=1e-3,seed=0",
        "student.model=resnet18,train.lr=1e-3,seed=1",
        "student.model=resnet10t,train.lr=1e-3,seed=0",
        "student.model=resnet10t,train.lr=1e-3,seed=1",
    ]
    assert found[1].overrides == ("student.model=resnet18", "train.lr=1e-3", "train.seed=1")
    assert found[0].name == found[1].name == "student.model=resnet18, train.lr=1e-3"


def test_variants_of__nothing_varied_is_the_recipe_as_it_is() -> None:
    (only,) = variants_of([])
    assert (only.folder, only.overrides, only.name) == ("", (), "as it is")


def test_variants_of__values_may_have_commas_and_slashes() -> None:
    ((key, values),) = parse_varied(["losses=[{kind: triplet}, {kind: mse}];[]"])
    assert (key, values) == ("losses", ["[{kind: triplet}, {kind: mse}]", "[]"])
    folders = [variant.folder for variant in variants_of([("student.weights", ["/a/b", "../c d"])])]
    assert folders == ["student.weights=-a-b", "student.weights=..-c-d"]


def test_unseen_of__the_fewer_are_among_the_more() -> None:
    two, six = set(unseen_of(NAMES, 2, seed=0)), set(unseen_of(NAMES, 6, seed=0))
    assert (len(two), len(six)) == (6, 2)
    assert six < two
    assert unseen_of(NAMES, 2, seed=0) == unseen_of(NAMES, 2, seed=0) != unseen_of(NAMES, 2, seed=1)


def test_variants_of__seen_classes_are_drawn_by_the_seed() -> None:
    found = variants_of([], seeds=2, seen=(2, 4), class_names=NAMES)
    assert [variant.folder for variant in found] == [
        "seen=2,seed=0",
        "seen=2,seed=1",
        "seen=4,seed=0",
        "seen=4,seed=1",
    ]
    first, second = (variant.overrides[0] for variant in found[:2])
    assert first.startswith('data.unseen=["')
    assert first != second


def test_take_over__what_a_teacher_said(tmp_path: Path) -> None:
    for file in ("embed/test/index.npy", "embed/pixels/0.npy", "teacher/model.safetensors", "train/x"):
        (tmp_path / "a" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / file).write_text(file)
    take_over(tmp_path / "a", tmp_path / "b")
    copied = sorted(file.relative_to(tmp_path / "b").as_posix() for file in (tmp_path / "b").rglob("*.*"))
    assert copied == ["embed/test/index.npy", "teacher/model.safetensors"]


def test_numbers_of__in_order() -> None:
    assert numbers_of("4,1,12, 1", "--views") == (1, 4, 12)
    assert numbers_of(None, "--views") == ()


@pytest.mark.parametrize("text", ["0,1", "two", "-1", ","])
def test_numbers_of__anything_else(text: str) -> None:
    with pytest.raises(UsageError, match="--views"):
        numbers_of(text, "--views")


@pytest.mark.parametrize(
    ("varied", "options", "words"),
    [
        ([("a", ["1"]), ("a", ["2"])], {}, "what is varied twice"),
        ([("train.seed", ["1"])], {"seeds": 2}, "what is varied twice"),
        ([], {"seen": (8,), "class_names": NAMES}, "--seen 8: the data have 8 classes"),
    ],
)
def test_variants_of__what_does_not_fit(varied: list, options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        variants_of(varied, **options)


@pytest.mark.parametrize("text", ["student.model", "=a,b", "student.model=a,,b"])
def test_parse_varied__what_is_no_list(text: str) -> None:
    with pytest.raises(UsageError, match="expected key=value,value"):
        parse_varied([text])
