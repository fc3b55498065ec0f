"""Components inside a component: each is validated by its own kind, at its own place in the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_configs.loader import load_recipe
from edgeproof_configs.yaml_text import to_yaml

STORED = "teacher: {kind: stored, folder: embeddings, view: exact}"
COSINE = ("{kind: cosine_embedding, weight: 1.0}", "{kind: multi_teacher}")
TWO = """\
teacher:
  kind: ensemble
  members:
    - {kind: stored, folder: one}
    - {kind: stored, folder: two, logit_scale: 10}
  weights: [0.25, 0.75]"""


def edited(small: Path, teacher: str) -> str:
    text = small.read_text().replace(STORED, teacher).replace(*COSINE)
    small.write_text(text)
    return str(small)


def test_load_recipe__members_have_their_own_configs(small: Path, tmp_path: Path) -> None:
    loaded = load_recipe(edited(small, TWO), ["teacher.members.0.folder=three"])
    members = loaded.plain["teacher"]["members"]
    assert [member["folder"] for member in members] == ["three", "two"]
    assert [member["logit_scale"] for member in members] == [100.0, 10.0]
    assert loaded.provenance["teacher.members.0.folder"] == "--set"
    assert loaded.provenance["teacher.members.1.folder"] == "small.yaml:8"
    assert loaded.provenance["teacher.members.1.files"] == "default"
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(to_yaml(loaded.plain, loaded.provenance))
    assert load_recipe(str(resolved)).recipe == loaded.recipe


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([("folder: one", "foldr: one")], "small.yaml:7: teacher.members.0.foldr: unknown key. Did you mean"),
        ([("kind: stored, folder: two", "kind: stord")], "small.yaml:8: teacher.members.1.kind: expected"),
        ([("scale: 10", "scale: x")], "small.yaml:8: teacher.members.1.logit_scale: expected a number"),
        (
            [("{kind: stored, folder: one}", "3")],
            "small.yaml:7: teacher.members.0: expected a mapping with a",
        ),
        ([("[0.25, 0.75]", "[0.5, 0.25, 0.25]")], "small.yaml:4: teacher: 3 weights for 2 members"),
        ([("[0.25, 0.75]", "[0.5, 0.6]")], "small.yaml:4: teacher: weights must have a sum of 1, got 1.1"),
        (
            [("folder: one", "folder: one, view: assume_invariant")],
            "members.0.view: set teacher.view, for all",
        ),
        ([("{kind: stored, folder: one}", "{kind: none}")], "members.0: a teacher of kind 'none' cannot be"),
        ([("    - {kind: stored, folder: one}\n", "")], "teacher.members: expected a list of at least 2"),
        (
            [("  weights", "  space: everything\n  weights")],
            "teacher.space: expected one of 'first' or 'all'",
        ),
    ],
)
def test_load_recipe__one_problem(
    edits: list[tuple[str, str]], message: str, problems: Callable[..., list[str]]
) -> None:
    teacher = TWO
    for old, new in edits:
        assert old in teacher
        teacher = teacher.replace(old, new)
    found = problems((STORED, teacher), COSINE)
    assert len(found) == 1
    assert message in found[0]


def test_load_recipe__all_problems_of_all_members(problems: Callable[..., list[str]]) -> None:
    teacher = (
        TWO.replace("one}", "one, wiew: exact}").replace("stored, folder: two", "stord").replace("75", "6")
    )
    assert [line.split(": ", 2)[:2] for line in problems((STORED, teacher), COSINE)] == [
        ["small.yaml:4", "teacher"],
        ["small.yaml:7", "teacher.members.0.wiew"],
        ["small.yaml:8", "teacher.members.1.kind"],
    ]


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("teacher: {kind: ensemble}", "teacher.members: missing, expected a list of mappings"),
        (
            "teacher: {kind: ensemble, members: {kind: stored}}",
            "teacher.members: expected a list of mappings",
        ),
        (
            "teacher: {kind: ensemble, members: []}",
            "teacher.members: expected a list of mappings with a kind",
        ),
    ],
)
def test_load_recipe__no_list_of_members(
    teacher: str, message: str, problems: Callable[..., list[str]]
) -> None:
    found = problems((STORED, teacher), COSINE)
    assert len(found) == 1
    assert message in found[0]


def test_check__stored_members_and_random_views(problems: Callable[..., list[str]]) -> None:
    found = problems((STORED, TWO), COSINE, overrides=("train.augment.flip=0.5",))
    assert len(found) == 1
    assert "teacher.view: stored embeddings were computed on the plain photos" in found[0]


def test_check__live_members_look_at_random_views(small: Path) -> None:
    live = (
        "teacher: {kind: ensemble, members: [{kind: timm, model: resnet10t}, {kind: timm, model: resnet18}]}"
    )
    load_recipe(edited(small, live), ["train.augment.flip=0.5"])


def test_check__a_space_of_class_scores_is_shared(problems: Callable[..., list[str]]) -> None:
    overrides = ("head={kind: classifier}", "losses=[{kind: soft_target}]", "teacher.space=all")
    found = problems((STORED, TWO), COSINE, overrides=overrides)
    assert len(found) == 1
    assert "teacher.space: has no effect on class scores" in found[0]
