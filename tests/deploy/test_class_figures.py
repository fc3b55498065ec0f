from __future__ import annotations

import numpy as np
import pytest

from edgeproof_deploy.class_figures import class_figures

NAMES = ("ant", "bee", "cat", "dog")
TRUE = np.array([0, 0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 3, 3])


def test_class_figures__by_hand():
    found = {row["name"]: row for row in class_figures(TRUE, PREDICTED, NAMES, unseen=["cat"])}
    assert set(found) == {"ant", "bee", "cat"}
    assert (found["ant"]["precision"], found["ant"]["recall"], found["ant"]["images"]) == (1.0, 0.75, 4)
    assert found["ant"]["f1"] == pytest.approx(2 * 0.75 / 1.75, abs=1e-6)
    assert (found["bee"]["precision"], found["bee"]["recall"], found["bee"]["f1"]) == (0.5, 0.5, 0.5)
    assert [found[name]["seen"] for name in ("ant", "bee", "cat")] == [True, True, False]


def test_class_figures__weakest_first_and_no_precision_without_an_answer():
    rows = class_figures(TRUE, PREDICTED, NAMES)
    assert [row["name"] for row in rows] == ["cat", "bee", "ant"]
    assert rows[0]["precision"] is None
    assert rows[0]["recall"] == 0.0
