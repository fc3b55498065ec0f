from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeproof_deploy.engine import BuildOptions, make_engine
from edgeproof_deploy.torch_session import CompiledSession
from edgeproof_train.student import Student


def images_of(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 3, 32, 32)).astype(np.float32)


def expected(student: Student, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return student(torch.from_numpy(images)).embedding.numpy()


def test_open__runs_the_student_from_its_folder(student: Student, tmp_path: Path) -> None:
    student.save(tmp_path)
    engine = make_engine("pytorch")
    assert engine.source == "student"
    session = engine.open(engine.build(tmp_path, tmp_path, BuildOptions()))
    assert session.providers == ("torch cpu",)
    assert (session.inputs, session.outputs) == ({"image": (-1, 3, 32, 32)}, {"embedding": (-1, 16)})
    found = session.run({"image": images_of(2)})["embedding"]
    np.testing.assert_array_equal(found, expected(student, images_of(2)))
    session.close()


def test_compiled_session__one_graph_for_every_batch_size(student: Student) -> None:
    """Through torch.compile's tracer, with a backend that needs no compiler and computes as eager does."""
    session = CompiledSession(student, backend="eager")
    assert session.providers == ("torch.compile eager cpu",)
    for count in (2, 3):
        found = session.run({"image": images_of(count)})["embedding"]
        np.testing.assert_array_equal(found, expected(student, images_of(count)))


def test_why_not_here__compiled_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = make_engine("pytorch_compiled")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert engine.why_not_here() == (
        "torch.compile needs a C++ compiler for the CPU, and there is none of g++, clang++, c++"
    )
    monkeypatch.setenv("CXX", "my-compiler")
    assert "there is none of my-compiler" in str(engine.why_not_here())


@pytest.mark.slow
def test_open__compiled_by_inductor(student: Student, tmp_path: Path) -> None:
    engine = make_engine("pytorch_compiled")
    if engine.why_not_here():
        pytest.skip(str(engine.why_not_here()))
    student.save(tmp_path)
    session = engine.open(tmp_path, threads=1)
    for count in (1, 3):
        found = session.run({"image": images_of(count)})["embedding"]
        eager = expected(student, images_of(count))
        np.testing.assert_allclose(found, eager, rtol=0, atol=1e-5 * np.abs(eager).max())
    session.close()
