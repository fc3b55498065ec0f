from __future__ import annotations

import pytest

from edgeproof_benchmarks.export_peers import BARE, OURS, PLAIN, POLYGRAPHY, main
from edgeproof_benchmarks.peer_student import make_student


@pytest.mark.slow
def test_main__every_way_gives_the_same(capsys: pytest.CaptureFixture[str]):
    record = main(["--quick", "--model", "test_resnet", "--image-size", "32"])
    assert set(record["latencies_ms"]) == {OURS, BARE, *PLAIN, POLYGRAPHY}
    differences = record["figures"]["max_abs_difference"]
    assert differences[BARE] == differences[POLYGRAPHY] == 0.0
    assert all(difference < 1e-5 for difference in differences.values())
    assert record["conditions"]["official"] is False
    assert "not official: " in capsys.readouterr().out


def test_make_student__the_same_name_gives_the_same_weights():
    first, second = (make_student("test_resnet", 32).state_dict() for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)
