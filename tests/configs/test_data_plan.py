from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeproof.__main__ import main
from edgeproof.data_plan import count_of, duration, size, worked_out
from edgeproof_configs.errors import UsageError


@pytest.mark.parametrize(("text", "count"), [("1M", 10**6), ("2.5k", 2500), ("5B", 5 * 10**9), ("17", 17)])
def test_count_of__units(text: str, count: int):
    assert count_of(text) == count


@pytest.mark.parametrize("text", ["", "-1", "many", "1T", "0", "1e6"])
def test_count_of__what_is_no_number_is_refused(text: str):
    with pytest.raises(UsageError):
        count_of(text)


def test_worked_out__by_hand():
    found = worked_out(3_600_000, 100, 500, 2, 5, 20, 512, 100, 3)
    assert found.embed_hours == pytest.approx(5)
    assert found.train_hours == pytest.approx(5)
    assert found.device_hours == pytest.approx(20)
    assert found.price == pytest.approx(60)
    assert found.cache_bytes == 3_600_000 * (1024 + 68)
    assert found.fetch_hours == pytest.approx(3.6e6 * (20_000 + 1536) / 1e8 / 3600)


def test_words__of_sizes_and_times():
    assert (size(999), size(2.15e12), size(5e18)) == ("999 B", "2.15 TB", "5e+03 PB")
    assert (duration(0.5), duration(3.94), duration(240)) == ("30.0 minutes", "3.9 hours", "10.0 days")


def test_plan__command(capsys: pytest.CaptureFixture[str]):
    command = ["data", "plan", "--images", "1M", "--embed-rate", "100", "--train-rate", "50"]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 10**6
    assert told["price"] is None
    assert main(command) == 0
    assert "2.8 hours" in capsys.readouterr().out
    assert main([*command[:3], "lots", *command[4:]]) == 2


def test_page__says_what_is_worked_out():
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    for text in ("1M", "100M", "5B"):
        found = worked_out(count_of(text), 1, 1, 1, 1, 20, 512, 1, None)
        sizes = [size(one) for one in (found.shard_bytes, found.cache_bytes, found.set_bytes_per_process)]
        assert f"| {text} | {' | '.join(sizes)} |" in page
        assert f"{found.embed_hours:,.0f} h" in page
        assert found.fetch_hours is not None
        assert f"{found.fetch_hours:,.0f} h" in page or f"{found.fetch_hours:,.1f} h" in page
