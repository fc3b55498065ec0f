"""A training small enough for tests: 24 random images in memory, a teacher that is a fixed random map.

`python training_case.py FOLDER SETTINGS-AS-JSON` trains in a process of its own, or in several under
`torchrun`. Rows of figures go to FOLDER/rows.jsonl.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import LossConfig, TrainConfig
from edgeproof_data.loader import Batch
from edgeproof_train.loop import TrainResult, train
from edgeproof_train.loss import LossContext
from edgeproof_train.outputs import ModelOutputs
from edgeproof_train.student import Student
from edgeproof_train.students.timm import TimmStudent
from edgeproof_train.task import DistillTask

IMAGES, DIM, SIDE, CLASSES = 24, 8, 32, 3
TERMS: list[dict[str, Any]] = [
    {"kind": "cosine_embedding"},
    {"kind": "text_cross_entropy", "weight": 0.1, "logit_scale": 10, "learn_logit_scale": True},
]


def tensors() -> tuple[Tensor, Tensor, Tensor]:
    """Return images (N, 3, H, W), labels (N,) and the teacher's embeddings (N, D)."""
    generator = torch.Generator().manual_seed(11)
    images = torch.randn(IMAGES, 3, SIDE, SIDE, generator=generator)
    teacher = images.mean(dim=(2, 3)) @ torch.randn(3, DIM, generator=generator)
    return images, torch.arange(IMAGES) % CLASSES, 30 * teacher + 1


class MemoryLoader:
    """Batches in an order that the epoch alone decides."""

    def __init__(self, batch_size: int, rank: int = 0, world: int = 1):
        self.images, self.label, _ = tensors()
        self.batch_size, self.rank, self.world = batch_size, rank, world
        self.steps_per_epoch = IMAGES // (batch_size * world)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(epoch))
        size = self.batch_size * self.world
        for step in range(start_step, self.steps_per_epoch):
            index = order[step * size : (step + 1) * size][self.rank :: self.world]
            yield {"image": self.images[index], "label": self.label[index], "index": index}


class MemorySupervision:
    """The teacher's embeddings from memory."""

    embedding_dim = DIM

    def __init__(self) -> None:
        self.rows = tensors()[2]

    def __call__(self, batch: Batch) -> ModelOutputs:
        return ModelOutputs(embedding=self.rows[batch["index"]].to(batch["image"].device))


def text() -> Tensor:
    """Return unit rows for the classes."""
    rows = torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.normalize(rows)


def make_task(
    terms: Sequence[dict[str, Any]] = TERMS, model: str = "test_resnet", **kwargs: Any
) -> DistillTask:
    """Return a task with a seeded student that has dropout."""
    torch.manual_seed(1)
    config = TimmStudent.Config(model=model, image_size=SIDE, kwargs={"drop_rate": 0.2} | kwargs)
    configs: list[LossConfig] = []
    for term in terms:
        component: Any = component_class("loss", term["kind"])
        configs.append(component.Config.model_validate(term))
    context = LossContext(DIM, DIM, CLASSES, lambda spec: text(), torch.arange(CLASSES))
    return DistillTask(TimmStudent(config, DIM), configs, context, MemorySupervision())


def evaluate(student: Student) -> dict[str, float]:
    """Return the mean cosine to the teacher over all images."""
    images, _, teacher = tensors()
    assert not student.training
    with torch.no_grad():
        embedding = student(images.to(next(student.parameters()).device)).embedding.cpu()
    return {"cosine_mean": float(torch.cosine_similarity(embedding, teacher).mean())}


def run(
    folder: Path,
    terms: Sequence[dict[str, Any]] = TERMS,
    *,
    model: dict[str, Any] | None = None,
    task: DistillTask | None = None,
    supervision: Any = None,
    loader: Any = None,
    score: Any = evaluate,
    log: bool = True,
    device: str = "cpu",
    **settings: Any,
) -> TrainResult:
    """Train in this process; rows go to `rows.jsonl` unless `log` is off."""
    plain = {"epochs": 3, "batch_size": 4, "lr": 0.01, "ema": True, "checkpoint_every_steps": 2}
    config = TrainConfig.model_validate(plain | settings)
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / "rows.jsonl"
    task = task or make_task(terms, **(model or {}))
    task.supervision = supervision or task.supervision
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))

    def report(row: dict[str, Any]) -> None:
        with rows.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row, allow_nan=False) + "\n")

    def rewind(step: int) -> None:
        kept = [row for row in read_rows(folder) if row["step"] <= step]
        rows.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    logging: dict[str, Any] = {"report": report, "rewind": rewind} if log else {}
    return train(
        task,
        loader or MemoryLoader(config.batch_size, rank, world),
        config=config,
        folder=folder,
        device=device,
        evaluate=score,
        select="cosine_mean",
        **logging,
    )


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows that were written; a line that a kill has cut is left out."""
    file = folder / "rows.jsonl"
    lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), **json.loads(sys.argv[2]))
