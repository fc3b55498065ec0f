"""`import`: a student out of a checkpoint of another tool."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path


def import_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    model: str,
    image_size: int | None,
    embedding_dim: int | None,
    classes: Path | None,
) -> int:
    """Write the student of a checkpoint into a folder, print what was in it, and return 0.

    Args:
        checkpoint: .safetensors, or .pt and the like where its tensors are all that it holds.
        out: a folder without a student.
        model: timm's name of the network.
        image_size: side of its input in pixels; timm's if None.
        embedding_dim: how many values it must give; not checked if None.
        classes: a file with the names of the classes that it scores.

    Raises:
        EdgeproofError: the file cannot be used, or should not be opened.
    """
    from edgeproof_compress.import_student import Wanted, import_student

    with redirect_stdout(sys.stderr):
        found = import_student(checkpoint, out, Wanted(model, image_size, embedding_dim, classes))
    for line in found.told:
        print(line)
    print(f"{out}: {', '.join(file.name for file in found.files)}")
    return 0
