"""Training a student further after something was done to it, with the losses that it was trained with."""

from __future__ import annotations

from pathlib import Path

from edgeproof_configs.schema import TrainConfig
from edgeproof_train.distil import Trained, fit, seed_everything, shortened, supervised_task
from edgeproof_train.keeper import LOSSES_FILE
from edgeproof_train.run_data import RunData
from edgeproof_train.scoring import evaluation
from edgeproof_train.student import Student
from edgeproof_train.weights import load_into, read_weights


def fine_tune(
    data: RunData,
    stage: str,
    student: Student,
    config: TrainConfig,
    *,
    start: Path | None = None,
    folder: Path | None = None,
) -> Trained:
    """Train a student that is there further, under `compress.losses` or those that it was trained with.

    Called again after a kill, on a student made in the same way, it goes on to the same weights.

    Args:
        data: of the run.
        stage: the stage that this belongs to.
        student: with its weights; changed.
        config: of the loop, as `tuning_config` makes it.
        start: folder of the training that the student comes from; the trained parts of the losses go on from
            there where the losses are the same. `train` if not given.
        folder: receives what the loop writes; the stage's own if not given.
    """
    compress, images = data.recipe.compress, data.split("train")
    same = compress is None or compress.losses is None or list(compress.losses) == data.recipe.losses
    tuning = data.for_tuning()
    seed_everything(config.seed)
    task = supervised_task(tuning, student, images)
    if same and task.losses.state_dict():
        parts = (start or data.context.run.stage("train")) / LOSSES_FILE
        load_into(task.losses, read_weights(parts, "losses"), "losses", parts)
    return fit(tuning, stage, task, config, images, evaluation(tuning, "val", task), folder)


def tuning_config(train: TrainConfig, epochs: int, lr: float) -> TrainConfig:
    """Return the loop's settings for fine-tuning: the recipe's, for all of so many epochs.

    A warm-up that does not fit into these takes half of them.
    """
    return shortened(train, epochs, lr, patience=None)
