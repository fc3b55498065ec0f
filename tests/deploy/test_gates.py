from __future__ import annotations

import pytest

from edgeproof_configs.schema import GatesConfig
from edgeproof_deploy.gates import GateResult, Limits, Step, at_least, at_most, gates_of, limits_of


def test_limits_of__defaults_of_each_pair() -> None:
    none = GatesConfig()
    assert limits_of("distil", "fp32", none) == Limits()
    assert limits_of("export", "fp32", none) == Limits(
        cosine=0.99999, agreement=1.0, zero_shot_drop=0.0, map_drop=0.001, edge_cosine=0.9999
    )
    assert limits_of("engine", "fp32", none) == Limits(
        mean_abs=1e-4, agreement=0.999, map_drop=0.001, edge_cosine=0.9999
    )


def test_limits_of__the_recipe_wins() -> None:
    gates = GatesConfig(cosine=0.9, agreement=0.8, zero_shot_drop=0.02, map_drop=0.03)
    assert limits_of("export", "fp32", gates) == Limits(
        cosine=0.9, agreement=0.8, zero_shot_drop=0.02, map_drop=0.03, edge_cosine=0.9
    )
    assert limits_of("sparsify", "fp32", gates) == Limits(zero_shot_drop=0.02, map_drop=0.03)
    drops = {"zero_shot_drop": 0.02, "map_drop": 0.03}
    own = Limits(cosine=0.9, mean_abs=1e-4, agreement=0.8, **drops, edge_cosine=0.9)
    assert limits_of("engine", "fp32", gates) == own


@pytest.mark.parametrize("step", ["quantize", "shipped"])
def test_limits_of__of_int8_the_mean_cosine_is_judged(step: Step) -> None:
    found = limits_of(step, "int8", GatesConfig(cosine=0.9))
    assert (found.cosine, found.cosine_mean) == (None, 0.9)


def test_limits_of__of_an_exported_int8_model_every_cosine_is_judged() -> None:
    assert limits_of("export", "int8", GatesConfig()).cosine == 0.999
    found = limits_of("export", "int8", GatesConfig(cosine=0.9))
    assert (found.cosine, found.cosine_mean) == (0.9, None)


def test_limits_of__against_the_teacher_only_what_is_asked_for() -> None:
    gates = GatesConfig(cosine=0.9, agreement=0.8, zero_shot_drop=0.02, teacher_drop=0.03)
    assert limits_of("distil", "fp32", gates) == Limits(zero_shot_drop=0.03)


@pytest.mark.parametrize(
    ("gate", "status"),
    [
        (at_least("cosine", 0.99, 0.99), "pass"),
        (at_least("cosine", 0.9899, 0.99), "fail"),
        (at_least("cosine", float("nan"), 0.99), "fail"),
        (at_least("cosine", None, 0.99), "not measured"),
        (at_most("mean_abs", 1e-4, 1e-4), "pass"),
        (at_most("mean_abs", 2e-4, 1e-4), "fail"),
        (at_most("mean_abs", float("nan"), 1e-4), "fail"),
        (at_most("mean_abs", None, 1e-4), "not measured"),
    ],
)
def test_gate__outcome(gate: GateResult, status: str) -> None:
    assert gate.status == status


def test_gate_result__words() -> None:
    assert at_least("cosine", 0.91, 0.99999).words("onnxruntime fp32") == (
        "onnxruntime fp32: cosine is 0.91, must be at least 0.99999"
    )
    assert at_most("mean_abs", None, 1e-4).words("x") == "x: mean_abs is not measured, must be at most 0.0001"
    assert at_most("finite", 8.0, 0.0).words("x") == (
        "x: finite is 8 (embeddings with NaN or infinity), must be at most 0"
    )


def test_gates_of__one_for_each_limit_that_is_set() -> None:
    measured = {"cosine": 1.0, "mean_abs": 0.5, "agreement": 0.7, "zero_shot_drop": None}
    gates = gates_of(Limits(mean_abs=0.1, agreement=0.7, zero_shot_drop=0.0), measured)
    assert [(gate.name, gate.status) for gate in gates] == [
        ("mean_abs", "fail"),
        ("agreement", "pass"),
        ("zero_shot_drop", "not measured"),
    ]


def test_words__a_failed_value_does_not_look_like_its_limit() -> None:
    assert at_least("cosine", 1 - 1e-12, 1.0).words("x") == "x: cosine is 0.999999999999, must be at least 1"
    assert at_least("cosine", 0.91, 0.99).words("x") == "x: cosine is 0.91, must be at least 0.99"
    assert at_most("drop", 1.0, 1.0).words("x") == "x: drop is 1, must be at most 1"
