"""Running out of memory, as a sentence that says what to change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from edgeproof_configs.errors import EdgeproofError

CPU_COMPLAINTS = ("can't allocate memory", "not enough memory", "out of memory")


@contextmanager
def explain_out_of_memory(batch_size: int, accumulate: int, batch_bound: Sequence[str]) -> Iterator[None]:
    """Turn an allocation that failed in a training step into an error that says which batch to try.

    Args:
        batch_size: images of a step and process.
        accumulate: parts that an optimizer step consists of.
        batch_bound: names of losses that compare the images of a batch, which rules out smaller parts.

    Raises:
        EdgeproofError: a GPU or the machine has no memory left.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        raise EdgeproofError(
            f"out of memory in a training step with train.batch_size {batch_size}",
            fix=smaller_batch(batch_size, accumulate, batch_bound),
        ) from error


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch is about memory; on a CPU only its text tells."""
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in CPU_COMPLAINTS)


def smaller_batch(batch_size: int, accumulate: int, batch_bound: Sequence[str]) -> str:
    """Return the settings to try."""
    if batch_size == 1:
        return "a smaller student.image_size or student.model: one image at a time is too much already"
    half = batch_size // 2
    if batch_bound:
        names = ", ".join(batch_bound)
        return f"--set train.batch_size={half} ({names} compares the images of a batch: fewer from then on)"
    settings = f"--set train.batch_size={half} --set train.accumulate={2 * accumulate}"
    return f"{settings}: the same step in smaller parts"
