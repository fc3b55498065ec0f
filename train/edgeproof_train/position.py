"""Where a training stands, and everything that has to be on disk to go on from there."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from edgeproof_train.checkpoint import (
    Tensors,
    load_checkpoint,
    load_optimizer,
    optimizer_tensors,
    prefixed,
    save_checkpoint,
    under,
)
from edgeproof_train.ema import Ema
from edgeproof_train.journal import EpochSums, Row


@dataclass
class Position:
    """Where a training stands.

    Attributes:
        epoch: epochs finished.
        batch: batches done of the epoch that is under way.
        step: optimizer steps done.
        best_epoch: from 1; 0 before the first evaluation.
        best: figures of that epoch.
        history: one row for each finished epoch.
        sums: of the epoch that is under way.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    sums: EpochSums = field(default_factory=EpochSums)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Position:
        """Read what `asdict` gave."""
        return cls(**{**plain, "sums": EpochSums(**plain["sums"])})


@dataclass(frozen=True)
class Trained:
    """The parts of a training that change."""

    task: nn.Module
    optimizer: Optimizer
    ema: Ema | None

    def save(self, folder: Path, key: str, at: Position, scaler: dict[str, Any] | None) -> None:
        """Write a checkpoint.

        Args:
            folder: of the stage.
            key: digest of the settings; a checkpoint of others is not taken up.
            at: the position.
            scaler: state of the loss scaler, if there is one.
        """
        tensors: Tensors = prefixed("task", self.task.state_dict())
        tensors |= prefixed("optimizer", optimizer_tensors(self.optimizer))
        if self.ema:
            tensors |= prefixed("ema", self.ema.average)
        save_checkpoint(folder, tensors, {"key": key, "position": asdict(at), "scaler": scaler})

    def restore(self, folder: Path, key: str) -> tuple[Position, dict[str, Any] | None] | None:
        """Take the weights of the newest checkpoint; return its position and the scaler's state.

        Returns None where there is no checkpoint, or one of other settings.
        """
        found = load_checkpoint(folder)
        if found is None:
            return None
        if found[1]["key"] != key:
            print(
                "train: other settings than those of the checkpoint, begun anew", file=sys.stderr, flush=True
            )
            return None
        tensors, state = found
        self.task.load_state_dict(under("task", tensors))
        load_optimizer(self.optimizer, under("optimizer", tensors))
        if self.ema:
            self.ema.load(under("ema", tensors))
        return Position.from_dict(state["position"]), state["scaler"]
