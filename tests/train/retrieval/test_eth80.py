"""Figures on ETH-80 without any training, which were measured before with other code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from edgeproof_deploy.runtime.preprocess import Preprocess, open_image
from edgeproof_train.metrics import unit_rows
from edgeproof_train.retrieval.protocols import Search

ANCHORS = {
    1: {"nn": 0.900, "map": 0.834, "ndcg": 0.925, "anmrr": 0.135},
    4: {"nn": 0.963, "map": 0.857, "ndcg": 0.942, "anmrr": 0.125},
    12: {"nn": 0.963, "map": 0.852, "ndcg": 0.940, "anmrr": 0.126},
}
VIEWS = {1: ("066-027",), 4: ("068-000", "068-090", "068-180", "068-270")}
HALF = (0.5, 0.5, 0.5)


def features(data: Path, files: list[Path]) -> np.ndarray:
    """Return the pooled features (N, 1280) of views."""
    model = timm.create_model("mobilenetv2_100", num_classes=0, pad_type="same").eval()
    weights = load_file(data / "mobilenetv2_100_imagenet" / "model.safetensors")
    model.load_state_dict({name: value for name, value in weights.items() if "classifier" not in name})
    prepare = Preprocess(image_size=224, resize_size=224, mean=HALF, std=HALF, interpolation="bicubic")
    found = []
    with torch.inference_mode():
        for start in range(0, len(files), 32):
            batch = np.stack([prepare(open_image(file)) for file in files[start : start + 32]])
            found.append(model(torch.from_numpy(batch)).numpy())
    return np.concatenate(found)


@pytest.mark.slow
def test_figures__of_pooled_features_of_eth80(real_data: Path) -> None:
    objects = sorted(folder for folder in (real_data / "eth80").glob("*/*") if folder.is_dir())
    names = sorted(file.stem for file in objects[0].glob("*.jpg") if file.stem[:3] in ("066", "068"))
    files = [folder / f"{name}.jpg" for folder in objects for name in names]
    views = unit_rows(features(real_data, files)).reshape(len(objects), len(names), -1)
    labels = np.unique([folder.parent.name for folder in objects], return_inverse=True)[1]
    assert views.shape == (80, 12, 1280)
    for count, anchor in ANCHORS.items():
        chosen = [names.index(name) for name in VIEWS.get(count, names)]
        found = Search.among(views[:, chosen].mean(axis=1), labels).figures()
        assert {name: found[name] for name in anchor} == pytest.approx(anchor, abs=0.0006), count
