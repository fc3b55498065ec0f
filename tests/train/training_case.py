"""A training small enough for tests: 24 random images in memory, a teacher that is a fixed random map.

`python training_case.py FOLDER CASES-AS-JSON` trains in a process of its own, or in several under `torchrun`.
Cases are settings of `run` by name; rows of figures go to FOLDER/NAME/rows.jsonl.
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
from edgeproof_train.loss import LossContext, nodes_of
from edgeproof_train.outputs import ModelOutputs
from edgeproof_train.student import Student
from edgeproof_train.students.timm import TimmStudent
from edgeproof_train.taps import node_shapes
from edgeproof_train.task import DistillTask

IMAGES, DIM, SIDE, CLASSES, MAP = 24, 8, 32, 3, 8
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
    """The teacher's embeddings, which are its class scores too, and a map of it at the node `map`."""

    embedding_dim = DIM

    def __init__(self) -> None:
        images, _, self.rows = tensors()
        self.maps = torch.nn.functional.avg_pool2d(images, MAP)

    def __call__(self, batch: Batch) -> ModelOutputs:
        rows, maps = (all_of[batch["index"]].to(batch["image"].device) for all_of in (self.rows, self.maps))
        return ModelOutputs(embedding=rows, logits=rows, features={"map": maps})


def text() -> Tensor:
    """Return unit rows for the classes."""
    rows = torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.normalize(rows)


def make_task(
    terms: Sequence[dict[str, Any]] = TERMS,
    model: str = "test_resnet",
    class_scores: bool = False,
    **kwargs: Any,
) -> DistillTask:
    """Return a task with a seeded student that has dropout, of embeddings or of the scores of DIM classes."""
    torch.manual_seed(1)
    config = TimmStudent.Config(model=model, image_size=SIDE, kwargs={"drop_rate": 0.2} | kwargs)
    configs: list[LossConfig] = []
    needs: dict[str, Sequence[str]] = {}
    for number, term in enumerate(terms):
        component: Any = component_class("loss", term["kind"])
        configs.append(component.Config.model_validate(term))
        needs[str(number)] = component.needs_of(configs[-1])
    student = TimmStudent(config, DIM)
    student.classes = tuple(f"class {number}" for number in range(DIM)) if class_scores else ()
    image = torch.zeros(1, 3, SIDE, SIDE)
    context = LossContext(
        *(DIM, DIM, DIM if class_scores else CLASSES),
        None if class_scores else lambda spec: text(),
        torch.arange(CLASSES),
        class_scores,
        student_features=node_shapes(student.module(), nodes_of(needs, "student"), image),
        teacher_features={"map": (3, SIDE // MAP, SIDE // MAP)},
    )
    return DistillTask(student, configs, context, MemorySupervision())


def evaluate(student: Student) -> dict[str, float]:
    """Return the mean cosine to the teacher over all images."""
    images, _, teacher = tensors()
    assert not student.training
    with torch.no_grad():
        embedding = student(images.to(next(student.parameters()).device)).embedding.cpu()
    return {"cosine_mean": float(torch.cosine_similarity(embedding, teacher).mean())}


def figures(student: Student) -> dict[str, float]:
    """Return the mean cosine, and the share of images whose own class or word comes first."""
    images, label, _ = tensors()
    with torch.no_grad():
        embedding = student(images).embedding
    scores = embedding if student.classes else embedding @ text().T
    return {**evaluate(student), "top1": float((scores.argmax(dim=1) == label).float().mean())}


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
    task.gather = config.gather
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
    for name, settings in json.loads(sys.argv[2]).items():
        run(Path(sys.argv[1]) / name, score=figures, **settings)
