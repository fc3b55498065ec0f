from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tests.train.heads.few_shot_case import few_shot_case, images_of

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import HeadConfig
from edgeproof_deploy.runtime.ensemble_head import EnsembleHead
from edgeproof_train.heads.ensemble import Ensemble
from edgeproof_train.heads.evidence import Evidence
from edgeproof_train.heads.fitting import fit_kind

LABELS = np.repeat(np.arange(5), 40)
IMAGES = images_of(LABELS, 1.0, 5)


def config_of(kind: str, **settings: Any) -> HeadConfig:
    return component_class("head", kind).__dict__["Config"](**settings)


PAIR = (config_of("zero_shot"), config_of("nearest_mean"))


def ensemble(evidence: Evidence, **settings: Any) -> tuple[EnsembleHead, dict[str, Any]]:
    fitted = Ensemble.fit(Ensemble.Config(**{"members": PAIR, **settings}), evidence)
    assert isinstance(fitted.head, EnsembleHead)
    return fitted.head, fitted.chosen


def accuracy(head: Any) -> float:
    return float((head(IMAGES).argmax(axis=1) == LABELS).mean())


def test_fit__without_validation_a_plain_mean_of_probabilities() -> None:
    evidence = few_shot_case(val=None)
    head, chosen = ensemble(evidence)
    parts = [fit_kind(member, evidence).head.probabilities(IMAGES) for member in PAIR]
    np.testing.assert_allclose(head.probabilities(IMAGES), (parts[0] + parts[1]) / 2, rtol=1e-4, atol=1e-6)
    assert chosen["weights"] == "equal: there is no validation"
    assert [one["sharpness"] for one in chosen["members"].values()] == [1.0, 1.0]


@pytest.mark.parametrize("of", ["probabilities", "z_scores"])
def test_fit__is_as_good_as_its_members(of: str) -> None:
    evidence = few_shot_case(val=20)
    head, chosen = ensemble(evidence, of=of)
    assert accuracy(head) >= max(accuracy(fit_kind(member, evidence).head) for member in PAIR) - 0.01
    assert chosen["weights"] == "chosen on validation"
    assert [one["weight"] for one in chosen["members"].values()] == list(head.weights)


def test_fit__a_useless_member_counts_little() -> None:
    evidence = few_shot_case(val=20)
    assert evidence.text is not None
    misled = replace(evidence, text=evidence.text[::-1].copy())
    head, _ = ensemble(misled)
    assert head.weights[0] < 0.2
    assert accuracy(head) >= accuracy(fit_kind(PAIR[1], misled).head) - 0.02


def test_fit__calibration_can_be_left_out_and_weights_given() -> None:
    evidence = few_shot_case()
    head, chosen = ensemble(evidence, weights=(0.3, 0.7), calibrate=False)
    parts = [fit_kind(member, evidence).head.probabilities(IMAGES) for member in PAIR]
    np.testing.assert_allclose(
        head.probabilities(IMAGES), 0.3 * parts[0] + 0.7 * parts[1], rtol=1e-4, atol=1e-6
    )
    assert chosen["weights"] == "given"


def test_fit__a_member_can_do_without_text() -> None:
    evidence = few_shot_case()
    images_only = config_of("gda", use_text=False)
    head, chosen = ensemble(evidence, members=(config_of("gda"), images_only), calibrate=False)
    assert set(chosen["members"]) == {"gda 1", "gda 2"}
    plain = fit_kind(images_only, replace(evidence, text=None)).head
    np.testing.assert_array_equal(head.members[1](IMAGES), plain(IMAGES))


def test_fit__members_ask_for_what_they_need() -> None:
    asked = Ensemble.asked(Ensemble.Config(members=PAIR))
    assert asked.needs == {"text", "shots"}
    assert "val" in asked.uses
    assert not asked.transductive
    with pytest.raises(DataError, match="zero_shot needs text"):
        ensemble(few_shot_case(text=False))


def test_fit__a_member_that_says_its_own_shots() -> None:
    with pytest.raises(UsageError, match=r"members.1.shots has no effect"):
        ensemble(few_shot_case(), members=(PAIR[0], config_of("gda", shots=2)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"members": PAIR[:1]}, "at least 2"),
        ({"members": (*PAIR, config_of("classifier"))}, "'classifier' cannot be a member"),
        ({"members": PAIR, "weights": (0.5, 0.6)}, "sum of 1, got 1.1"),
        ({"members": PAIR, "weights": (0.5, 0.25, 0.25)}, "3 weights for 2 members"),
        ({"members": PAIR, "weights": (1.5, -0.5)}, "greater than or equal to 0"),
    ],
)
def test_config__refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Ensemble.Config(**settings)
