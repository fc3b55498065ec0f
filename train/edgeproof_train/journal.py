"""What a training writes down: figures of steps and epochs, and where a loss stopped being a number."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.files import explain_os_errors

Row = dict[str, Any]
Report = Callable[[Row], None]
ROW_EVERY_STEPS = 20
GRADIENT = "the gradient"


@dataclass
class EpochSums:
    """Sums over the steps of an epoch that is under way; part of a checkpoint.

    Attributes:
        losses: raw losses by name.
        steps: how many steps they were summed over.
        images: how many images went through.
        seconds: how long the steps took, without evaluation.
    """

    losses: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    images: int = 0
    seconds: float = 0.0

    def clear(self) -> None:
        """Begin an epoch."""
        self.losses.clear()
        self.steps, self.images, self.seconds = 0, 0, 0.0


class Journal:
    """Collects figures on the device, reads them in one go, checks them and writes rows.

    On a CPU every step is read at once. On a GPU that would make the host wait for each step, so steps are
    read every `ROW_EVERY_STEPS` and before anything is saved; the step that went wrong is named exactly all
    the same.

    Args:
        weights: weight of each loss, by name.
        folder: of the stage, for errors and TensorBoard events.
        report: receives every row; None on all processes but the first.
        mean_over_processes: averages a tensor over all processes.
        sums: of the epoch that is under way; kept up to date in place.
        start_step: optimizer steps done before this journal; TensorBoard forgets events from there on.
        read_each_step: as on a CPU.
    """

    def __init__(
        self,
        weights: dict[str, float],
        folder: Path,
        report: Report | None,
        mean_over_processes: Callable[[Tensor], Tensor],
        sums: EpochSums,
        start_step: int,
        *,
        read_each_step: bool,
    ):
        self.weights = weights
        self.folder = folder
        self.sums = sums
        self._loss = math.nan
        self._report = report
        self._mean = mean_over_processes
        self._read_each_step = read_each_step
        self._unread: list[tuple[int, int, float, int, Tensor]] = []
        self._since = time.perf_counter()
        self._events = events_writer(folder, start_step) if report else None

    def checked(self, epoch: int, step: int, losses: Sequence[Tensor]) -> Tensor:
        """Return the losses of a batch as one tensor; on a CPU a bad one is refused before it does harm.

        Raises:
            EdgeproofError: a loss is NaN or infinite; names it.
        """
        values = torch.stack([loss.detach().float() for loss in losses])
        if self._read_each_step:
            self._check(epoch, step, values.tolist())
        return values

    def add(
        self, epoch: int, step: int, lr: float, images: int, losses: Tensor, gradient: Tensor | None
    ) -> None:
        """Note a finished optimizer step.

        Args:
            epoch: from 1.
            step: from 1.
            lr: learning rate.
            images: how many images, over all processes.
            losses: (L,) raw losses.
            gradient: norm of the gradient; None where a loss scaler deals with infinite ones by itself.

        Raises:
            EdgeproofError: a loss or the gradient is NaN or infinite.
        """
        if gradient is not None:
            losses = torch.cat([losses, gradient.detach().float().to(losses.device)[None]])
        self._unread.append((epoch, step, lr, images, losses))
        if self._read_each_step or step % ROW_EVERY_STEPS == 0:
            self.read()

    def read(self) -> None:
        """Read what has been noted, check it, and write a row where one is due."""
        if not self._unread:
            return
        values = self._mean(torch.stack([entry[-1] for entry in self._unread])).tolist()
        now = time.perf_counter()
        images = sum(entry[3] for entry in self._unread)
        self.sums.seconds += now - self._since
        per_second = images / max(now - self._since, 1e-9)
        self._since = now
        for (epoch, step, lr, count, _), figures in zip(self._unread, values, strict=True):
            self._check(epoch, step, figures)
            for name, value in zip(self.weights, figures, strict=False):
                self.sums.losses[name] = self.sums.losses.get(name, 0.0) + value
            self.sums.steps += 1
            self.sums.images += count
            if step % ROW_EVERY_STEPS == 0:
                raw = dict(zip(self.weights, figures, strict=False))
                row = {"event": "step", "epoch": epoch, "step": step, "lr": lr, **self.in_words(raw)}
                norm = {"grad_norm": figures[-1]} if len(figures) > len(self.weights) else {}
                self.write(row | norm | {"images_per_second": per_second})
        self._loss = self.in_words(dict(zip(self.weights, values[-1], strict=False)))["loss"]
        self._unread.clear()

    def start_clock(self) -> None:
        """Leave out of the seconds whatever was done since the last reading: it was not training."""
        self._since = time.perf_counter()

    def close_epoch(self, epoch: int, step: int, lr: float) -> Row:
        """Return the epoch's row, means over its steps, and begin the next epoch's sums."""
        self.read()
        sums = self.sums
        raw = {name: value / sums.steps for name, value in sums.losses.items()}
        row = {"event": "epoch", "epoch": epoch, "step": step, "lr": lr, **self.in_words(raw)}
        row |= {"seconds": sums.seconds, "images_per_second": sums.images / max(sums.seconds, 1e-9)}
        sums.clear()
        return row

    def latest(self) -> str:
        """Return the last loss that was read, for a progress line."""
        return "" if math.isnan(self._loss) else f", loss {self._loss:.4g}"

    def in_words(self, raw: dict[str, float]) -> Row:
        """Return the total and each loss, raw and weighted."""
        losses = {name: {"raw": value, "weighted": value * self.weights[name]} for name, value in raw.items()}
        return {"loss": sum(loss["weighted"] for loss in losses.values()), "losses": losses}

    def write(self, row: Row) -> None:
        """Give a row to the run and to TensorBoard."""
        if self._report is None or self._events is None:
            return
        self._report(row)
        with explain_os_errors(self.folder):
            for name, value in scalars(row):
                self._events.add_scalar(name, value, row["step"])
            self._events.flush()

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._events is not None:
            with explain_os_errors(self.folder):
                self._events.close()

    def _check(self, epoch: int, step: int, figures: Sequence[float]) -> None:
        for name, value in zip([*self.weights, GRADIENT], figures, strict=False):
            if not math.isfinite(value):
                kind = "NaN" if math.isnan(value) else "infinite"
                what = name if name == GRADIENT else f"loss '{name}'"
                raise EdgeproofError(
                    f"{what} became {kind} at step {step}, epoch {epoch}",
                    where=self.folder,
                    fix="a smaller train.lr, a longer train.warmup_epochs or train.precision: fp32; the last"
                    " checkpoint is kept",
                )


def scalars(row: Row) -> list[tuple[str, float]]:
    """Return a row's figures under the names that TensorBoard groups by."""
    group = "steps" if row["event"] == "step" else "epochs"
    plain = ("loss", "lr", "grad_norm", "images_per_second")
    found = [(f"{group}/{key}", row[key]) for key in plain if key in row]
    for name, loss in row["losses"].items():
        found += [(f"{group}_raw/{name}", loss["raw"]), (f"{group}_weighted/{name}", loss["weighted"])]
        found += [(f"{group}_parts/{name}_{part}", value) for part, value in loss.get("parts", {}).items()]
    return found + [(f"val/{name}", value) for name, value in row.get("val", {}).items()]


def events_writer(folder: Path, start_step: int) -> Any:
    """Return a TensorBoard writer; viewers drop what an interrupted attempt wrote after `start_step`."""
    from torch.utils.tensorboard import SummaryWriter

    place = folder / "events"
    with explain_os_errors(folder):
        if not start_step and place.exists():
            shutil.rmtree(place)
        return SummaryWriter(str(place), purge_step=start_step + 1 if start_step else None)
