from __future__ import annotations

import numpy as np
import pytest

from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.model_interface import check_tensors, checked_input

EMBEDDING = {"embedding": ("batch", 16)}


@pytest.mark.parametrize("shape", [("batch", 3, 32, 32), (-1, 3, 32, 32), (4, 3, "h", "w")])
def test_check_tensors__ours(shape: tuple[str | int, ...]) -> None:
    check_tensors({"image": shape}, EMBEDDING, "m.onnx")
    check_tensors({"views": (shape[0], "views", *shape[1:])}, {"logits": ()}, "m.onnx")


def test_check_tensors__two_inputs() -> None:
    both = {"image": ("batch", 3, 8, 8), "mask": ("batch",)}
    with pytest.raises(BundleError, match=r"m\.onnx: has the inputs image, mask; expected one of"):
        check_tensors(both, EMBEDDING, "m.onnx")


def test_checked_input__free_sides() -> None:
    image = np.zeros((2, 3, 5, 7), np.float32)
    for shape in (("batch", 3, "h", "w"), (-1, 3, 5, 7), (2, 3, -1, -1)):
        assert checked_input({"image": image}, {"image": shape}, "m") is image
    with pytest.raises(ValueError, match=r"m takes 'image' as \(4, 3, 5, 7\), got \(2, 3, 5, 7\)"):
        checked_input({"image": image}, {"image": (4, 3, 5, 7)}, "m")
    half = image.astype(np.float16)
    assert checked_input({"image": half}, {"image": (-1, 3, 5, 7)}, "m", np.float16) is half
