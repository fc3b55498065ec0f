from __future__ import annotations

import pytest
import torch

from edgeproof_benchmarks.loss_overhead import main
from edgeproof_configs.registry import discover


@pytest.mark.slow
def test_main__every_registered_loss_beside_cross_entropy():
    torch.set_num_threads(1)
    record = main(["--quick", "--device", "cpu"])
    timed = {name.split(" ")[2] for name in record["ratios"]}
    untimed = {name.removeprefix("not timed, ") for name in record["figures"]}
    assert timed | untimed == set(discover("loss"))
    assert {"soft_target", "r_drop", "relational", "similarity_preserving", "simkd", "text_kl"} <= timed
    assert all(one["rounds"] == 1 and one["median"] > 0 for one in record["ratios"].values())
    assert len(record["latencies_ms"]) == 2 * len(timed)


def test_main__a_loss_that_does_not_fit_says_why():
    torch.set_num_threads(1)
    chosen = ["--losses", "soft_target", "attention_transfer", "--teacher-node", "fc"]
    record = main(["--quick", "--device", "cpu", *chosen])
    assert list(record["ratios"]) == ["cross_entropy + soft_target / cross_entropy"]
    assert "a map of one place" in record["figures"]["not timed, attention_transfer"]
