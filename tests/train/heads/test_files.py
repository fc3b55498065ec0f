"""Writing heads: the same bytes each time, in half precision, within a size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save
from tests.deploy.runtime.fitted_heads import FORMS, make_head, names, unit

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_deploy.runtime.cache_head import CacheHead
from edgeproof_deploy.runtime.cascade_head import CascadeHead
from edgeproof_deploy.runtime.cascade_step import Step
from edgeproof_deploy.runtime.head import ClassifierHead, parse_head
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.classifier import ClassifierHead as TrainedClassifier
from edgeproof_train.heads.fewer_keys import TooManyKeysError
from edgeproof_train.heads.files import head_bytes, packed, save_head
from edgeproof_train.heads.joined import shifted
from edgeproof_train.heads.zero_shot import ZeroShotHead

ROWS = np.random.default_rng(2).standard_normal((6, 8))


def read(files: list[Path]) -> bytes:
    return files[0].read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_save_head__the_device_reads_it_and_so_does_the_library(form: str, tmp_path: Path) -> None:
    head = make_head(form)
    files = save_head(head, tmp_path / "new")
    assert [file.name for file in files] == ["head.safetensors", "labels.txt"]
    again = parse_head(*(file.read_bytes() for file in files))
    rows = np.resize(ROWS, (6, head.dim))
    np.testing.assert_array_equal(again(rows), head(rows))
    for name, array in load_file(files[0]).items():
        np.testing.assert_array_equal(array, head.arrays()[name])


def test_save_head__a_cascade(tmp_path: Path) -> None:
    head = make_head("tip", 5, 8)
    some = Step(np.arange(2), np.ones(2), head=head.take([0, 1]))
    cascade = CascadeHead(head.labels, (some, Step(np.arange(5), np.ones(5), head=head)))
    again = parse_head(*(file.read_bytes() for file in save_head(cascade, tmp_path)))
    assert isinstance(again, CascadeHead)
    np.testing.assert_array_equal(again(ROWS), cascade(ROWS))


@pytest.mark.parametrize("form", ["zero_shot", "classifier"])
def test_save_head__without_metadata_as_the_library_writes_it(form: str) -> None:
    head = make_head(form)
    assert head_bytes(head) == save(head.arrays())


def test_save_head__the_same_bytes_in_every_process() -> None:
    """The order of metadata must not depend on the seed of hashes."""
    code = (
        "import hashlib; from tests.deploy.runtime.fitted_heads import make_head;"
        "from edgeproof_train.heads.files import head_bytes;"
        "print(hashlib.sha256(head_bytes(make_head('nested'))).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_save__the_kinds_of_words_write_the_same_files(tmp_path: Path) -> None:
    rows = unit(ROWS)
    ZeroShotHead(ZeroShotHead.Config(), names(6), rows, 20.0).save(tmp_path)
    tensors = load_file(tmp_path / "head.safetensors")
    assert set(tensors) == {"weight", "logit_scale"}
    assert (tensors["logit_scale"].shape, tensors["logit_scale"].dtype) == ((), np.float32)
    head = TrainedClassifier(TrainedClassifier.Config(), names(6))
    found = parse_head(*(file.read_bytes() for file in head.save(tmp_path)))
    assert found == ClassifierHead(names(6), tuple(range(6)), 6)
    assert TrainedClassifier.load(tmp_path).labels == names(6)


@pytest.mark.parametrize(
    ("labels", "words"),
    [(("a\nb", "c"), "line break"), (("a", "a"), "there twice"), (("a", ""), "empty or there twice")],
)
def test_save_head__labels_that_cannot_be_told_apart(
    labels: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        save_head(LinearHead(labels, np.eye(2)), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["tip", "proker", "nested"])
def test_save_head__half_keys(form: str, tmp_path: Path) -> None:
    head = make_head(form, 5, 8, shots=40)
    whole, half = read(save_head(head, tmp_path)), read(save_head(head, tmp_path / "half", half=True))
    kinds = {name: array.dtype for name, array in load(half).items()}
    assert {kind for name, kind in kinds.items() if name.endswith("keys")} == {np.dtype(np.float16)}
    assert {kind for name, kind in kinds.items() if name.endswith("weight")} == {np.dtype(np.float32)}
    assert len(half) < 0.75 * len(whole)
    again = parse_head(half, (tmp_path / "labels.txt").read_bytes())
    shares = again.probabilities(ROWS) - head.probabilities(ROWS)
    assert 0 < np.abs(shares).max() < 0.02


@pytest.mark.parametrize("most", [50000.0, 100000.0])
def test_packed__half_precision_of_keys_alone(most: float) -> None:
    """Two keys in the same place whose coefficients cancel but for 1, where half precision steps by 32."""
    keys = np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0]])
    values = np.array([[most + 1, -most - 1], [-most, most], [1.0, -1.0]])
    found = packed(CacheHead(names(2), keys, values, 1.0, None), half=True)
    kinds = {name: array.dtype.name for name, array in load(found.data).items()}
    assert (kinds["keys"], kinds["values"]) == ("float16", "float32")
    assert found.notes == ("keys in half precision, values in float32",)


def test_save_head__half_precision_that_changes_what_it_says(tmp_path: Path) -> None:
    """Two keys so near each other that they are one in half precision, with coefficients that cancel."""
    keys = np.array([[1.0, 0, 0], [1 - 2e-4, 0, 0], [0, 0, 1.0]])
    values = np.array([[5e4, -5e4], [-5e4, 5e4], [1.0, -1.0]])
    head = CacheHead(names(2), keys, values, 1.0, None)
    with pytest.raises(DataError, match=r"changes scores of the head's own keys by \d+ %.*\n.*larger ridge"):
        save_head(head, tmp_path, half=True)
    assert not list(tmp_path.iterdir())


def test_save_head__half_precision_of_a_head_without_keys(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="half precision is for the keys of a cache"):
        save_head(make_head("linear"), tmp_path, half=True)


@pytest.mark.parametrize("half", [False, True])
def test_save_head__within_a_size_by_merging_keys(half: bool, tmp_path: Path) -> None:
    head = make_head("tip", 5, 8, shots=40)
    size = len(read(save_head(head, tmp_path, half=half)))
    assert len(read(save_head(head, tmp_path, half=half, max_bytes=size))) == size
    for part in (0.9, 0.5, 0.3):
        most = int(part * size)
        data = read(save_head(head, tmp_path, half=half, max_bytes=most))
        assert 0.9 * most < len(data) <= most
        again = parse_head(data, (tmp_path / "labels.txt").read_bytes())
        assert isinstance(again, CacheHead)
        assert again(ROWS).shape == (6, 5)
        said = packed(head, half=half, max_bytes=most).notes
        assert said[0] == f"200 keys merged to {len(again.keys)} to fit {most} bytes"
        assert said[1:] == (("keys in half precision",) if half else ())


def test_packed__a_constant_for_each_class_is_no_key_to_leave_out() -> None:
    head = make_head("proker", 5, 8, shots=40)
    more = shifted(head, np.arange(5.0))
    size = len(packed(more).data)
    with pytest.raises(TooManyKeysError) as caught:
        packed(more, max_bytes=size - 60)
    error = caught.value
    assert (error.keys, error.had, error.key_bytes) == (198, 200, 4 * (8 + 5))
    assert error.bytes_of(198) == size - 2 * 52


@pytest.mark.parametrize(
    ("form", "most", "words"),
    [
        ("linear", 100, r"takes \d+ bytes, 100 are allowed\n.*allow more, or choose another head"),
        ("proker", 1200, r"1200 are allowed\n.*fit it with max_keys: 9 at most$"),
        ("proker", 600, r"600 are allowed\n.*allow more$"),
        ("ensemble", 900, r"900 are allowed\n.*save its members in fewer keys"),
        ("tip", 700, r"700 are allowed: \d keys for 5 labels"),
        ("tip", 10, r"10 are allowed: 0 keys for 5 labels"),
    ],
)
def test_save_head__that_cannot_be_made_to_fit(form: str, most: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        save_head(make_head(form), tmp_path, max_bytes=most)
    assert not list(tmp_path.iterdir())
