from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_configs.errors import RecipeError, UsageError
from edgeproof_configs.loader import MAX_PROBLEMS, component_config, load_recipe, peek_name, recipe_names
from edgeproof_configs.recipe_files import source_digest
from edgeproof_configs.yaml_text import to_yaml

Problems = Callable[..., list[str]]


@pytest.mark.parametrize("name", recipe_names())
def test_load_recipe__every_shipped_recipe_is_valid(name: str) -> None:
    loaded = load_recipe(name)
    assert loaded.recipe.name == name
    assert not str(loaded.plain["data"].get("root", "")).startswith("/"), "a shipped recipe points outside"


def test_load_recipe__components_have_their_own_configs(small: Path) -> None:
    recipe = load_recipe(str(small)).recipe
    assert recipe.train.lr == 1e-3
    assert recipe.student.kind == "timm"
    assert type(recipe.losses[1]).__module__ == "edgeproof_train.losses.text_kl"
    assert [loss.weight for loss in recipe.losses] == [1.0, 0.1]


def test_load_recipe__provenance_of_every_value(small: Path) -> None:
    loaded = load_recipe(
        str(small), ["train.augment={flip: 0.5}", "losses.1.weight=2", "teacher.view=assume_invariant"]
    )
    origin = loaded.provenance
    assert origin["name"] == "small.yaml:2"
    assert origin["data.kind"] == "small.yaml:3"
    assert origin["losses.0.weight"] == "small.yaml:9"
    assert origin["losses.1.kind"] == "small.yaml:10"
    assert origin["losses.1.weight"] == "--set"
    assert origin["train.augment.flip"] == "--set"
    assert origin["train.augment.erase"] == "default"
    assert origin["train.seed"] == "default"
    assert origin["deploy.engines"] == "default"
    assert loaded.plain["train"]["augment"]["flip"] == 0.5


def test_load_recipe__resolved_recipe_loads_to_the_same(small: Path, tmp_path: Path) -> None:
    loaded = load_recipe(str(small), ["baseline.epochs=2"])
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(to_yaml(loaded.plain, loaded.provenance))
    again = load_recipe(str(resolved))
    assert again.plain == loaded.plain
    assert again.recipe == loaded.recipe
    assert "default" not in again.provenance.values()


def test_load_recipe__source_digest_is_that_of_the_fast_path(small: Path) -> None:
    overrides = ["train.epochs=4"]
    assert load_recipe(str(small), overrides).source_digest == source_digest(str(small), overrides)


def test_load_recipe__all_problems_at_once_in_order_of_lines(problems: Problems) -> None:
    found = problems(
        ("epochs: 3", "epochs: -3"),
        ("batch_size", "batch_sise"),
        ("lr: 1e-3", "lr: fast"),
        ("kind: text_kl", "kind: text_kll"),
        ("image_size: 64", "image_size: 8"),
        ("view: exact", "view: exactly"),
        overrides=("train.epoch=3", "losses.9.weight=1"),
    )
    assert [line.split(": ", 2)[:2] for line in found] == [
        ["small.yaml:4", "teacher.view"],
        ["small.yaml:7", "student.image_size"],
        ["small.yaml:10", "losses.1.kind"],
        ["small.yaml:13", "train.epochs"],
        ["small.yaml:14", "train.batch_sise"],
        ["small.yaml:15", "train.lr"],
        ["--set", "losses.9.weight"],
        ["--set", "train.epoch"],
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs: 3", "epochs: -3", "small.yaml:13: train.epochs: expected a number above 0, got -3"),
        ("epochs: 3", "epochs: 3.0", "small.yaml:13: train.epochs: expected a whole number, got 3.0"),
        ("epochs: 3", "epochs: true", "small.yaml:13: train.epochs: expected a whole number, got true"),
        ("epochs: 3", "epochs: [3]", "small.yaml:13: train.epochs: expected a whole number, got [3]"),
        ("epochs: 3", "epochs:", "small.yaml:13: train.epochs: expected a whole number, got nothing"),
        (
            "epochs: 3",
            "epochs: '3'",
            "small.yaml:13: train.epochs: expected a whole number, got '3' (write it without quotes)",
        ),
        ("lr: 1e-3", "lr: fast", "small.yaml:15: train.lr: expected a number, got 'fast'"),
        ("lr: 1e-3", "lr: .nan", "small.yaml:15: train.lr: expected a number, got '.nan'"),
        ("lr: 1e-3", "lr: 1e999", "small.yaml:15: train.lr: expected a number, got '1e999'"),
        ("lr: 1e-3", "ema: x", "small.yaml:15: train.ema: expected true or false or a number, got 'x'"),
        ("lr: 1e-3", "channels_last: 1", "small.yaml:15: train.channels_last: expected true or false, got 1"),
        (
            "lr: 1e-3",
            "optimizer: AdamW",
            "small.yaml:15: train.optimizer: expected one of 'adamw', 'adam' or 'sgd', got 'AdamW'. "
            "Did you mean 'adamw'?",
        ),
        (
            "lr: 1e-3",
            "augment: 3",
            "small.yaml:15: train.augment: expected a mapping of keys to values, got 3",
        ),
        (
            "lr: 1e-3",
            "augment: {random_resized_crop: [0.5]}",
            "small.yaml:15: train.augment.random_resized_crop: expected a list of at least 2, got [0.5]",
        ),
        (
            "lr: 1e-3",
            "augment: {random_resized_crop: [0.5, 1, 1]}",
            "small.yaml:15: train.augment.random_resized_crop: expected a list of at most 2, got [0.5, 1, 1]",
        ),
        (
            "lr: 1e-3",
            "augment: {random_resized_crop: [0.5, 2]}",
            "small.yaml:15: train.augment.random_resized_crop.1: expected a number of at most 1, got 2",
        ),
        (
            "lr: 1e-3",
            "augment: {flp: 1}",
            "small.yaml:15: train.augment.flp: unknown key. Did you mean 'flip'?",
        ),
        (
            "lr: 1e-3",
            "warmup_epochs: 3",
            "small.yaml:12: train: warmup_epochs must be below epochs (3), got 3",
        ),
        (
            "lr: 1e-3",
            "batch_size: 8",
            "small.yaml:15: train.batch_size: duplicate key: it stands on line 14 already",
        ),
        ("epochs: 3", "seed: 3", "small.yaml:12: train.epochs: missing, expected a whole number"),
        ("epochs: 3", "epoch: 3", "small.yaml:13: train.epoch: unknown key. Did you mean 'epochs'?"),
        ("name: small", "name: 3", 'small.yaml:2: name: expected text, got 3 (write it with quotes: "3")'),
        ("name: small", "lr: 3", "small.yaml:2: lr: unknown key at the top level. Did you mean 'train.lr'?"),
        ("head: {kind: zero_shot}", "bensh: {}", "small.yaml:16: bensh: unknown key. Did you mean 'bench'?"),
        ("{kind: zero_shot}", "zero_shot", "got 'zero_shot'. Did you mean {kind: zero_shot}?"),
        ("{kind: zero_shot}", "{}", "small.yaml:16: head.kind: missing, expected one of"),
        ("{kind: zero_shot}", "{kind: [zero_shot]}", "head.kind: expected one of"),
        ("kind: stored", "kind: open-clip", "Did you mean 'open_clip'?"),
        (
            "kind: solids",
            "kind: solids, viws: 3",
            "small.yaml:3: data.viws: unknown key. Did you mean 'views'?",
        ),
        (
            "losses:\n",
            "losses: []\nbench:\n",
            "small.yaml:8: losses: expected a list of mappings with a kind, got []",
        ),
        (
            "losses:\n",
            "losses: {}\nbench:\n",
            "small.yaml:8: losses: expected a list of mappings with a kind, got {}",
        ),
    ],
)
def test_load_recipe__one_mistake_in_plain_words(
    old: str, new: str, message: str, problems: Problems
) -> None:
    found = problems((old, new))
    assert any(message in line for line in found), found


def test_load_recipe__a_misspelt_required_key_is_one_problem(problems: Problems) -> None:
    assert len(problems(("epochs: 3", "epoch: 3"))) == 1
    assert len(problems(("\nhead:", "\nhaed:"))) == 1


def test_load_recipe__a_missing_section_stands_at_the_top(problems: Problems) -> None:
    assert problems(("head: {kind: zero_shot}", "")) == ["small.yaml:2: head: missing, expected a mapping"]


def test_load_recipe__unknown_key_without_a_near_word_lists_what_is_allowed(problems: Problems) -> None:
    (line,) = problems(("head: {kind: zero_shot}", "head: {kind: zero_shot}\nbench: {qqqq: 1}"))
    allowed = "seconds, warmup_seconds, threads, streams"
    assert line == f"small.yaml:17: bench.qqqq: unknown key, allowed here: {allowed}"


def test_load_recipe__syntax_error_is_the_only_problem(problems: Problems) -> None:
    assert problems(("epochs: 3", "epochs: [3")) == [
        "small.yaml:14: not YAML: a ',' or the closing bracket is missing"
    ]


def test_load_recipe__thousands_of_problems_are_cut(problems: Problems) -> None:
    found = problems(("head:", "\n".join(f"x{n}: 1" for n in range(1000)) + "\nhead:"))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1].endswith("and 950 more problems")


def test_load_recipe__a_set_that_replaces_a_section(problems: Problems) -> None:
    found = problems(overrides=("train={epochs: x}",))
    assert found == ["--set: train.epochs: expected a whole number, got 'x'"]


def test_load_recipe__a_set_that_makes_a_section(problems: Problems) -> None:
    assert problems(overrides=("baseline.lr=1",)) == [
        "--set: baseline.epochs: missing, expected a whole number"
    ]
    assert problems(overrides=("trian.epochs=1",)) == ["--set: trian: unknown key. Did you mean 'train'?"]


def test_load_recipe__exit_code_is_2(small: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(str(small), ["x=1"])
    assert caught.value.exit_code == 2


def test_peek_name__without_validating_the_rest(small: Path) -> None:
    small.write_text(small.read_text().replace("epochs: 3", "epochs: -3"))
    assert peek_name(str(small)) == "small"
    assert peek_name(str(small), ["name=other"]) == "other"


@pytest.mark.parametrize("name", ["name: a/b", "name: ..", "name: 3", "nmae: x", "name: ["])
def test_peek_name__unusable(name: str, small: Path) -> None:
    small.write_text(small.read_text().replace("name: small", name))
    with pytest.raises(RecipeError):
        peek_name(str(small))


def test_component_config__valid_and_not() -> None:
    assert component_config("loss", {"kind": "cosine_embedding", "weight": 2}).weight == 2
    with pytest.raises(RecipeError) as caught:
        component_config("loss", {"kind": "cosine_embedding", "wieght": 2})
    assert caught.value.lines() == ["loss: wieght: unknown key. Did you mean 'weight'?"]
