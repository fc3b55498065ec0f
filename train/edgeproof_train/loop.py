"""The training loop, on Accelerate: one for distillation, baselines and every later stage that trains.

The randomness of a step depends on (seed, process, epoch, batch) alone and its learning rate on its number.
What a checkpoint has to hold is therefore weights, optimizer, average and position, and a run that was
killed goes on to the same bits on a CPU.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import digest_of, read_json, write_json
from edgeproof_configs.progress import Progress, progress
from edgeproof_configs.schema import TrainConfig
from edgeproof_train.checkpoint import remove_checkpoints, remove_unfinished
from edgeproof_train.ema import Ema
from edgeproof_train.freeze import frozen_parts, rest
from edgeproof_train.journal import Journal, Report, Row
from edgeproof_train.keeper import Evaluate, Keeper
from edgeproof_train.memory import explain_out_of_memory
from edgeproof_train.mixing import mixed
from edgeproof_train.optim import learning_rate_scale, make_optimizer, set_learning_rate
from edgeproof_train.outputs import Mix
from edgeproof_train.patience import patience_ends
from edgeproof_train.position import Position, Trained
from edgeproof_train.task import DistillTask

if TYPE_CHECKING:
    from edgeproof_data.loader import Batch

RESULT_FILE = "training.json"
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
NO_EFFECT_ON_WEIGHTS = {"workers", "checkpoint_every_steps"}


class Loader(Protocol):
    """Training batches in an order that depends on the epoch alone."""

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has."""
        ...

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch (from 0), leaving out the first `start_step`."""
        ...


@dataclass(frozen=True)
class TrainResult:
    """A finished training.

    Attributes:
        best_epoch: from 1; its student lies in the stage's folder.
        best: figures of that epoch.
        last: figures of the last epoch; its student lies in `last/`.
        history: one row for each epoch.
        weights: `ema` where averaged weights were evaluated and saved, else `raw`.
        steps: optimizer steps.
    """

    best_epoch: int
    best: dict[str, float]
    last: dict[str, float]
    history: list[Row]
    weights: str
    steps: int


def train(
    task: DistillTask,
    loader: Loader,
    *,
    config: TrainConfig,
    folder: Path,
    device: str,
    evaluate: Evaluate,
    select: str,
    report: Report = lambda row: None,
    rewind: Callable[[int], None] = lambda step: None,
    label: str = "train",
) -> TrainResult:
    """Train a task's student and keep the best and the last epoch.

    Called again on the same folder with the same settings it goes on where it was, and returns at once when
    it had finished. Called with other settings it starts anew.

    Args:
        task: student, losses and supervision.
        loader: batches, for this process.
        config: the recipe's `train`.
        folder: receives the best student (`model.safetensors`, `config.json`, and `losses.safetensors` where
            losses have trained parts), `last/`, TensorBoard `events/`, and checkpoints while it is under way.
        device: `cpu` or `cuda`.
        evaluate: returns figures of the student on validation data; called on the first process only.
        select: the figure, larger is better, that chooses the best epoch; the earlier of two that are equal.
        report: receives, on the first process, the figures of every 20th step (`event: step`) and of every
            epoch (`event: epoch`).
        rewind: called on the first process, before the first row, with the number of steps done; rows of
            later steps, which an interrupted attempt has reported, are about to come again.
        label: name of the work for the progress line.

    Raises:
        UsageError: settings that cannot work together here.
        EdgeproofError: a loss is no number any more, memory or disk is full, a checkpoint is damaged.
    """
    refuse_what_cannot_work(task, config, device)
    training = Training(task, loader, config, folder, device, evaluate, select, report)
    finished = training.finished()
    if finished is not None:
        return finished
    training.restore()
    if training.main:
        rewind(training.at.step)
    return training.run(label)


class Training:
    """One call of `train`."""

    def __init__(
        self,
        task: DistillTask,
        loader: Loader,
        config: TrainConfig,
        folder: Path,
        device: str,
        evaluate: Evaluate,
        select: str,
        report: Report,
    ):
        self.task, self.loader, self.config, self.folder = task, loader, config, folder
        self.select, self.report = select, report
        self.accelerator = make_accelerator(config.precision, device)
        self.main = self.accelerator.is_main_process
        self.world = self.accelerator.num_processes
        task.to(self.accelerator.device)
        if config.channels_last:
            # torch's own annotation of `to` knows no call with a layout alone.
            task.student.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.frozen = frozen_parts(task.student, config.freeze, config.freeze_except)
        self.optimizer: Any = make_optimizer(task, config)
        self.ema = Ema(task, None if config.ema is True else config.ema) if config.ema else None
        self.changing = Trained(task, self.optimizer, self.ema)
        self.keeper = Keeper(
            task, self.ema, folder, evaluate, select, main=self.main, compiled=config.compile
        )
        self.at = Position()
        self.scaler_state: dict[str, Any] | None = None
        self.steps_per_epoch = math.ceil(loader.steps_per_epoch / config.accumulate)
        self.total_steps = self.steps_per_epoch * config.epochs
        task.steps_per_epoch = self.steps_per_epoch
        self.key = training_key(task, loader, config, select, self.world)

    def finished(self) -> TrainResult | None:
        """Return the result of an earlier call with the same settings that came to its end."""
        file = self.folder / RESULT_FILE
        if not file.exists():
            return None
        stored = read_json(file)
        return TrainResult(**stored) if stored.pop("key") == self.key else None

    def restore(self) -> None:
        """Go on from the newest checkpoint of the same settings, if there is one."""
        if self.main:
            remove_unfinished(self.folder)
        found = self.changing.restore(self.folder, self.key)
        if found is not None:
            self.at, self.scaler_state = found

    def run(self, label: str) -> TrainResult:
        """Train what is left."""
        if self.config.compile:
            self.task.student.compile()
        self.model, self.optimizer = self.accelerator.prepare(self.task, self.optimizer)
        if self.accelerator.scaler is not None and self.scaler_state:
            self.accelerator.scaler.load_state_dict(self.scaler_state)
        self.journal = Journal(
            self.task.weights,
            self.folder,
            self.report if self.main else None,
            self._mean,
            self.at.sums,
            self.at.step,
            read_each_step=self.accelerator.device.type == "cpu",
        )
        try:
            quiet = None if self.main else io.StringIO()
            with progress(label, self.total_steps - self.at.step, "steps", quiet) as shown:
                while self.at.epoch < self.config.epochs and not self._has_stopped_improving():
                    self._epoch(shown)
                    self._close_epoch()
            return self._finish()
        finally:
            self.journal.close()
            # Accelerate has put a wrapper around the task's forward; the task is the caller's.
            self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)

    def _epoch(self, shown: Progress) -> None:
        train_mode(self.task, self.config)
        rest(self.frozen)
        self.journal.start_clock()
        batches = self.loader.epoch(self.at.epoch, start_step=self.at.batch)
        every = self.config.checkpoint_every_steps
        while self.at.batch < self.loader.steps_per_epoch:
            parts = min(self.config.accumulate, self.loader.steps_per_epoch - self.at.batch)
            self._step(batches, parts)
            shown.advance(1, f"epoch {self.at.epoch + 1}/{self.config.epochs}{self.journal.latest()}")
            if every and self.at.step % every == 0 and self.at.batch < self.loader.steps_per_epoch:
                self.journal.read()
                self._save()
                self.journal.start_clock()

    def _step(self, batches: Iterator[Batch], parts: int) -> None:
        """Do one optimizer step on the next batches, each a part of it."""
        lr = self._learning_rate()
        set_learning_rate(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        noted: list[Tensor] = []
        images = 0
        for part in range(parts):
            batch = self._moved(next(batches))
            noted.append(self._part(batch, parts, last=part == parts - 1))
            images += len(batch["image"])
            self.at.batch += 1
        # A loss scaler meets an infinite gradient by itself, by leaving the step out.
        limit = self.config.clip_grad_norm or math.inf
        norm = self.accelerator.clip_grad_norm_(self.task.parameters(), limit)
        self.optimizer.step()
        self.at.step += 1
        if self.ema and not self.optimizer.step_was_skipped:
            self.ema.update(self.at.step)
        losses = torch.stack(noted).mean(dim=0)
        scaled = self.accelerator.scaler is not None
        self.journal.add(
            self.at.epoch + 1, self.at.step, lr, images * self.world, losses, None if scaled else norm
        )

    def _part(self, batch: Batch, parts: int, last: bool) -> Tensor:
        """Run one batch forward and backward; return its raw losses."""
        at, size = self.at, len(batch["image"])
        place = (self.config.seed, self.accelerator.process_index, at.epoch, at.batch)
        torch.manual_seed(step_seed(*place))
        mix: Mix | None = None
        if self.config.mix is not None:
            drawn = torch.Generator().manual_seed(step_seed(*place, use="mixing"))
            image, mix = mixed(batch, self.config.mix, drawn)
            batch = {**batch, "image": image}
        with (
            explain_out_of_memory(size, self.config.accumulate, self.task.batch_bound()),
            nullcontext() if last else self.accelerator.no_sync(self.model),
        ):
            losses = self.model(batch, at.step, mix)
            values = self.journal.checked(at.epoch + 1, at.step + 1, list(losses.values()))
            self.accelerator.backward(self.task.total(losses, at.step) / parts)
        return values

    def _close_epoch(self) -> None:
        """Evaluate where it is due, keep the best, report, and save where to go on."""
        row = self.journal.close_epoch(self.at.epoch + 1, self.at.step, self._learning_rate())
        for name, figures in self.task.epoch_figures().items():
            row["losses"][name]["parts"] = figures
        self.at.epoch, self.at.batch = self.at.epoch + 1, 0
        if self.at.epoch % self.config.eval_every == 0 or self.at.epoch == self.config.epochs:
            figures = self.keeper.evaluate(self.at)
            row |= {"val": figures, "best": self.at.best_epoch == self.at.epoch, "weights": self._weights()}
        self.at.history.append(row)
        self.journal.write(row)
        self._save()

    def _has_stopped_improving(self) -> bool:
        return patience_ends(self.at.history, self.select, self.config.patience)

    def _finish(self) -> TrainResult:
        self.keeper.keep_last()
        at, last = self.at, self.at.history[-1]["val"]
        result = TrainResult(at.best_epoch, at.best, last, at.history, self._weights(), at.step)
        self.accelerator.wait_for_everyone()
        if self.main:
            write_json(self.folder / RESULT_FILE, {"key": self.key, **asdict(result)})
            remove_checkpoints(self.folder)
        return result

    def _save(self) -> None:
        """Write a checkpoint of where training stands."""
        if self.main:
            scaler = self.accelerator.scaler
            self.changing.save(self.folder, self.key, self.at, scaler.state_dict() if scaler else None)

    def _moved(self, batch: Batch) -> Batch:
        """Return the batch on the device; positions stay where the cache is read."""
        device = self.accelerator.device
        image = batch["image"].to(device, non_blocking=True)
        if self.config.channels_last:
            # Views of objects are images to the network, which it sees with the first two axes as one.
            flat = image.flatten(0, -4).contiguous(memory_format=torch.channels_last)
            image = flat.unflatten(0, image.shape[:-3])
        label = batch["label"].to(device, non_blocking=True)
        return {**batch, "image": image, "label": label}

    def _learning_rate(self) -> float:
        warmup = round(self.config.warmup_epochs * self.steps_per_epoch)
        scale = learning_rate_scale(self.at.step, self.total_steps, warmup, self.config.min_lr_scale)
        return self.config.lr * scale

    def _mean(self, values: Tensor) -> Tensor:
        if self.world == 1:
            return values
        mean: Any = self.accelerator.reduce(values, "mean")
        return mean

    def _weights(self) -> str:
        return "ema" if self.ema else "raw"


def train_mode(task: DistillTask, config: TrainConfig) -> None:
    """Put a task into training mode; frozen batch norms go on using the statistics that they have."""
    task.train()
    if config.freeze_batch_norm:
        for module in task.student.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def refuse_what_cannot_work(task: DistillTask, config: TrainConfig, device: str) -> None:
    """Refuse settings that would be ignored or change the meaning of a loss.

    Raises:
        UsageError: naming the keys.
    """
    if config.accumulate > 1 and task.batch_bound():
        raise UsageError(
            f"{', '.join(task.batch_bound())} compares the images of a batch with each other: accumulating"
            f" {config.accumulate} batches is not the same as one that is as large",
            where="train.accumulate",
            fix="set train.accumulate: 1 and the train.batch_size that you want",
        )
    if config.precision == "fp16" and device == "cpu":
        raise UsageError(
            "fp16 training needs a GPU", where="train.precision", fix="set train.precision: bf16 or fp32"
        )


def make_accelerator(precision: str, device: str) -> Accelerator:
    """Return this process's accelerator: its device, its place among `torchrun`'s, its mixed precision."""
    # Accelerate remembers the first precision and device of a process for good; a run trains more than once.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device == "cpu", mixed_precision=PRECISIONS[precision])


def training_key(task: DistillTask, loader: Loader, config: TrainConfig, select: str, processes: int) -> str:
    """Return the digest of everything that decides which bits a training arrives at, the images aside."""
    losses: Any = task.losses
    return digest_of(
        {
            "config": config.model_dump(exclude=NO_EFFECT_ON_WEIGHTS),
            "losses": {name: loss.config.model_dump() for name, loss in losses.items()},
            "student": task.student.card(),
            "steps_per_epoch": loader.steps_per_epoch,
            "select": select,
            "processes": processes,
        }
    )


def step_seed(seed: int, process: int, epoch: int, batch: int, use: str = "") -> int:
    """Return the seed of one batch's randomness: dropout and drop path, or another use, which is named."""
    named = f"/{use}" if use else ""
    digest = hashlib.sha256(f"{seed}/{process}/{epoch}/{batch}{named}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
