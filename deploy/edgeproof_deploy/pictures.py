"""What the report shows of the verification: the confusion counts and some test images with their answers."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_configs.files import write_json
from edgeproof_deploy.runtime.preprocess import open_image
from edgeproof_deploy.verify import Verification
from edgeproof_train.metrics import confusion
from edgeproof_train.run_data import RunData

THUMBNAIL_PIXELS = 96
RIGHT, WRONG = 12, 12
TOP = 3


def write_pictures(data: RunData, found: Verification, folder: Path) -> list[Path]:
    """Write `examples.json` and, where images have labels, `confusion.json`; return what was written."""
    vocabulary = found.vocabulary
    predicted = vocabulary.scores(found.embeddings).argmax(axis=1)
    labelled = vocabulary.labels >= 0
    written = [folder / "examples.json"]
    chosen = choose(predicted == vocabulary.labels, labelled)
    write_json(written[0], [example(data, found, int(i)) for i in chosen])
    if labelled.any():
        counts = confusion(vocabulary.labels[labelled], predicted[labelled], len(vocabulary.names))
        present = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
        written.append(folder / "confusion.json")
        write_json(
            written[1],
            {
                "labels": [vocabulary.names[i] for i in present],
                "matrix": counts[np.ix_(present, present)].tolist(),
                "unseen": list(vocabulary.unseen),
                "form": found.shipped,
            },
        )
    return written


def choose(right: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Return positions of examples, spread over the set: right and wrong ones, or any if unlabelled."""
    if not labelled.any():
        return spread(np.arange(len(right)), RIGHT + WRONG)
    wrong = spread(np.flatnonzero(labelled & ~right), WRONG)
    return np.sort(np.concatenate([wrong, spread(np.flatnonzero(labelled & right), RIGHT)]))


def spread(positions: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the positions, evenly spread."""
    if len(positions) <= count:
        return positions
    return positions[np.linspace(0, len(positions) - 1, count).astype(int)]


def example(data: RunData, found: Verification, index: int) -> dict[str, Any]:
    """Return one test image with its best labels and their probabilities."""
    vocabulary = found.vocabulary
    logits = found.embeddings[index].astype(np.float64)
    if vocabulary.text is not None:
        cosines = vocabulary.scores(found.embeddings[index : index + 1])[0]
        logits = cosines * data.context.metrics("embed")["logit_scale"]
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    best = np.argsort(-shares, kind="stable")[:TOP]
    label = int(vocabulary.labels[index])
    true = vocabulary.names[label] if label >= 0 else None
    return {
        "path": vocabulary.paths[index],
        "thumbnail": thumbnail(data.source.split("test").root / vocabulary.paths[index]),
        "true": true,
        "top": [[vocabulary.names[i], round(float(shares[i]), 4)] for i in best],
        "seen": true not in vocabulary.unseen,
    }


def thumbnail(file: Path) -> str:
    """Return a small JPEG of an image in base64."""
    image = open_image(file)
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()
