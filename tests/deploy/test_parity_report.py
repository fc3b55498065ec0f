from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeproof_configs.errors import EdgeproofError
from edgeproof_deploy.claims import Claim
from edgeproof_deploy.decisions import Vocabulary
from edgeproof_deploy.gates import Limits, at_most
from edgeproof_deploy.parity import Form, PairParity, compare_pair
from edgeproof_deploy.parity_report import Parity, parity_of, parse_parity, read_parity, write_parity
from edgeproof_deploy.preprocessing_parity import PreprocessingParity

ROWS = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
EAGER = Form("student", "pytorch", embeddings=ROWS, edges=ROWS[:1])
PREPROCESSING = PreprocessingParity(7, ("black",), 0.0, 0.0, None, at_most("preprocessing", 0.0, 0.0))
WORDS = Vocabulary(("a", "b"), ROWS[:2], np.array([0, 1, 0, 1, -1]), tuple("vwxyz"))
CLAIM = Claim("onnxruntime int8", "int8", "refuted", "3 of 20 layers")


@pytest.fixture
def pairs() -> list[PairParity]:
    broken = Form("student", "onnxruntime", embeddings=-ROWS, edges=-ROWS[:1])
    plan = Form("student", "tensorrt_rtx", reason="built, not run here: no driver")
    limits = Limits(cosine=0.99, agreement=0.9, edge_cosine=0.9)
    return [
        compare_pair(EAGER, broken, limits, WORDS, ["black.png"]),
        compare_pair(EAGER, plan, limits, WORDS),
    ]


@pytest.fixture
def written(pairs: list[PairParity], tmp_path: Path) -> Path:
    write_parity(tmp_path / "parity.json", pairs, PREPROCESSING, {"machine": "x"}, [CLAIM])
    return tmp_path / "parity.json"


def test_write_parity__what_is_in_it(written: Path) -> None:
    plain = json.loads(written.read_text())
    assert plain["schema_version"] == 1
    assert plain["preprocessing"]["gates"][0]["status"] == "pass"
    assert [pair["candidate"] for pair in plain["pairs"]] == ["onnxruntime fp32", "tensorrt_rtx fp32"]
    assert plain["pairs"][0]["cosine_min"] == pytest.approx(-1)
    assert plain["pairs"][0]["edges"][0]["image"] == "black.png"
    assert plain["pairs"][0]["retrieval"]["image_to_index"]["queries"] == 4
    assert set(plain["pairs"][0]["intervals"]) == {"top1", "mean_per_class"}
    assert plain["claims"][0]["outcome"] == "refuted"
    gates = {gate["name"]: gate for gate in plain["pairs"][0]["gates"]}
    assert gates["cosine"] == {
        "name": "cosine",
        "value": pytest.approx(-1),
        "limit": 0.99,
        "status": "fail",
        "bound": "at least",
    }


def test_read_parity__gives_what_was_written(written: Path, pairs: list[PairParity]) -> None:
    assert read_parity(written) == parity_of(pairs, PREPROCESSING, [CLAIM])


def test_read_parity__an_older_file_has_no_claims(written: Path) -> None:
    plain = json.loads(written.read_text())
    del plain["claims"]
    written.write_text(json.dumps(plain))
    assert read_parity(written).claims == []


def test_parity_of__gates_by_outcome(pairs: list[PairParity]) -> None:
    parity = parity_of(pairs, PREPROCESSING)
    assert [gate.name for _, gate in parity.of("fail")] == ["cosine", "agreement", "edge_cosine"]
    one, gate = parity.of("not measured")[0]
    assert one.words(gate).endswith("is not measured, must be at least 0.99 (built, not run here: no driver)")


def set_at(*path: Any, value: Any) -> Callable[[Any], Any]:
    def change(plain: Any) -> Any:
        place = plain
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return plain

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plain: [plain], "the file has no 'schema_version'"),
        (set_at("schema_version", value=2), "has schema version 2, this edgeproof reads 1"),
        (set_at("schema_version", value=True), "'schema_version' is 'True'"),
        (set_at("pairs", value={}), "'pairs' is '{}'"),
        (set_at("pairs", 1, value="x"), "pair 1 has no 'reference'"),
        (set_at("pairs", 0, "gates", 1, "status", value="fine"), "pair 0, gate 1: 'status' is 'fine'"),
        (set_at("pairs", 0, "gates", 1, "limit", value="0.9"), "'limit' is '0.9'"),
        (set_at("pairs", 0, "gates", 1, "limit", value=10**400), "'limit' is no finite number"),
        (set_at("pairs", 0, "gates", 0, "value", value=None), "its status is 'pass' and its value None"),
        (set_at("preprocessing", value=[]), "preprocessing has no 'gates'"),
        (set_at("claims", 0, "outcome", value="sure"), "claim 0: 'outcome' is 'sure'"),
    ],
)
def test_read_parity__a_part_that_is_wrong_is_named(
    change: Callable[[Any], Any], message: str, written: Path
) -> None:
    written.write_text(json.dumps(change(json.loads(written.read_text()))))
    with pytest.raises(EdgeproofError) as caught:
        read_parity(written)
    assert message in caught.value.what
    assert caught.value.where == str(written)


def test_read_parity__no_such_file(tmp_path: Path) -> None:
    with pytest.raises(EdgeproofError, match="cannot be read: No such file"):
        read_parity(tmp_path / "none.json")


def test_parse_parity__a_thousand_damaged_files_are_read_or_refused(written: Path) -> None:
    """Bytes flipped, cut out, repeated and values swapped: nothing but a refusal in words comes of it."""
    whole, rng, refused = written.read_bytes(), random.Random(4), 0
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            start = rng.randrange(len(data))
            stop = min(len(data), start + rng.randint(1, 40))
            data[start:stop] = rng.choice(
                [
                    b"",
                    bytes(rng.randrange(256) for _ in range(3)),
                    data[start:stop] * 2,
                    b"null",
                    b"[",
                    b"1e999",
                ]
            )
        try:
            read = parse_parity(bytes(data))
        except ValueError:
            refused += 1
        else:
            assert isinstance(read, Parity)
    assert 500 < refused < 1000


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b'{"schema_version": 1}', b"\xff\xfe", b"NaN"])
def test_parse_parity__what_is_no_parity_at_all(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_parity(data)
