from __future__ import annotations

import pytest

from edgeproof_configs.errors import EdgeproofError, Problem, RecipeError, did_you_mean


def test_edgeproof_error__lines() -> None:
    assert EdgeproofError("what").lines() == ["error: what"]
    full = EdgeproofError("what", where="there", fix="this")
    assert full.lines() == ["error: what", "  at: there", "  do: this"]
    assert str(full) == "\n".join(full.lines())


def test_recipe_error__a_line_for_each_problem() -> None:
    problems = [
        Problem("r.yaml", 3, "a.b", "wrong"),
        Problem("--set", None, "c", "bad"),
        Problem("r.yaml", 1, "", "empty"),
    ]
    assert RecipeError(problems).lines() == ["r.yaml:3: a.b: wrong", "--set: c: bad", "r.yaml:1: empty"]


@pytest.mark.parametrize(
    ("word", "hint"),
    [("epoch", " Did you mean 'epochs'?"), ("epochs", " Did you mean 'epochs'?"), ("qqq", "")],
)
def test_did_you_mean__nearest_or_nothing(word: str, hint: str) -> None:
    assert did_you_mean(word, ["epochs", "seed"]) == hint
