"""The classes of Caltech-101 that text embeddings are there for, with real features."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_train.heads.evidence import Evidence, evidence_of


def covered(root: Path, shots: int = 4) -> tuple[Evidence, np.ndarray, np.ndarray]:
    """Return evidence of the 41 classes that text is there for, and the test images with their labels."""
    stored: Any = np.load(root / "fewshot_b32" / "caltech101.npz", allow_pickle=False)
    folder = root / "caltech_clip_b32"
    with (folder / "text_classes_41.txt").open(encoding="utf-8") as lines:
        names = [row[0] for row in csv.reader(lines)]
    places = [list(stored["classnames"]).index(name) for name in names]

    def part(which: str) -> tuple[np.ndarray, np.ndarray]:
        kept = np.isin(stored[f"{which}_labels"], places)
        new = np.array([places.index(label) for label in stored[f"{which}_labels"][kept]])
        return stored[f"{which}_features"][kept].astype(np.float32), new

    features, labels = part(f"shots_{shots}")
    val_features, val_labels = part("val")
    text = np.load(folder / "text_embeddings_41.npy", allow_pickle=False)
    evidence = evidence_of(
        names,
        features=features,
        labels=labels,
        text=text,
        val_features=val_features,
        val_labels=val_labels,
    )
    return evidence, *part("test")
