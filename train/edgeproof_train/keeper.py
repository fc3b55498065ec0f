"""What a training keeps: the student of the best epoch and of the last, as they would be shipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from safetensors.torch import save

from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import write_bytes
from edgeproof_train.ema import Ema
from edgeproof_train.position import Position
from edgeproof_train.student import Student
from edgeproof_train.task import DistillTask

Evaluate = Callable[[Student], dict[str, float]]
LOSSES_FILE = "losses.safetensors"


class Keeper:
    """Evaluates and saves the weights that would be shipped: averaged ones where there are some.

    The first process evaluates, on all images, and tells the others: no image is counted twice, and all go
    the same way.

    Args:
        task: whose student is kept, with the trained parts of its losses.
        ema: the averaged weights, if any.
        folder: receives the best student; `last/` in it the last one.
        evaluate: returns figures of the student.
        select: the figure, larger is better, that chooses the best epoch; the earlier of two that are equal.
        main: whether this is the first process.
        compiled: whether the student is compiled for training.
    """

    def __init__(
        self,
        task: DistillTask,
        ema: Ema | None,
        folder: Path,
        evaluate: Evaluate,
        select: str,
        *,
        main: bool,
        compiled: bool,
    ):
        self.task, self.ema, self.folder = task, ema, folder
        self.score, self.select = evaluate, select
        self.main, self.compiled = main, compiled

    def evaluate(self, at: Position) -> dict[str, float]:
        """Return the figures of this moment's student; save it, and note so in `at`, if none was better.

        Raises:
            UsageError: the figure that chooses the best epoch is not among them.
        """
        with self._as_shipped():
            found = [self.score(self.task.student) if self.main else {}]
            figures = {name: float(value) for name, value in broadcast_object_list(found)[0].items()}
            if self.select not in figures:
                raise UsageError(
                    f"'{self.select}' chooses the best epoch, but evaluation gives {', '.join(figures)}",
                    where="train.select",
                )
            if not at.best_epoch or figures[self.select] > at.best[self.select]:
                at.best_epoch, at.best = at.epoch, figures
                self._save(self.folder)
        return figures

    def keep_last(self) -> None:
        """Save this moment's student as the last."""
        with self._as_shipped():
            self._save(self.folder / "last")

    @contextmanager
    def _as_shipped(self) -> Iterator[None]:
        # Compiling for every batch size of an evaluation, without gradients, takes longer than it saves.
        eager = torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()
        with eager, self.ema.swapped() if self.ema else nullcontext():
            self.task.eval()
            yield

    def _save(self, folder: Path) -> None:
        """Write the student as it is, and the trained parts of the losses beside it."""
        if not self.main:
            return
        self.task.student.save(folder)
        parts = self.task.losses.state_dict()
        if parts:
            tensors = {name: value.detach().cpu().contiguous() for name, value in parts.items()}
            write_bytes(folder / LOSSES_FILE, save(tensors))
