from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from edgeproof_deploy.engine import BuildOptions, make_engine
from edgeproof_train.student import Student


def test_open__runs_the_student_from_its_folder(student: Student, tmp_path: Path) -> None:
    student.save(tmp_path)
    engine = make_engine("pytorch")
    assert engine.source == "student"
    session = engine.open(engine.build(tmp_path, tmp_path, BuildOptions()))
    assert session.providers == ("torch cpu",)
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        expected = student(torch.from_numpy(images)).embedding.numpy()
    np.testing.assert_array_equal(session.run({"image": images})["embedding"], expected)
    session.close()
