"""What each loss adds to a training step: cross-entropy and the loss, against cross-entropy alone.

A step is the student's forward pass, the losses, the backward pass, clipping and the optimizer, on one
synthetic batch. The teacher's class scores and maps lie in memory: what the teacher costs is another question
(`teacher_supply`). Both tasks of a pair take turns, step by step, so that a drift of the machine meets both.
The first pair, cross-entropy twice, shows how far the ratios can be trusted. A loss that cannot be built with
its defaults on this pair is named with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from edgeproof_benchmarks.latency import Latency, Ratio, alternate, ratio
from edgeproof_benchmarks.record import keep, parser
from edgeproof_benchmarks.train_step import trainer
from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.registry import component_class, discover
from edgeproof_configs.schema import LossConfig, TrainConfig
from edgeproof_data.loader import Batch
from edgeproof_train.loss import LossContext
from edgeproof_train.outputs import ModelOutputs
from edgeproof_train.students.timm import TimmStudent
from edgeproof_train.taps import Taps, node_shapes
from edgeproof_train.task import DistillTask

PLAIN = "cross_entropy"
SIZES = ("student", "teacher", "student_node", "teacher_node", "classes", "image_size", "batch", "device")


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Time every loss, print and keep the figures."""
    options_parser = parser("loss_overhead", __doc__)
    options_parser.add_argument("--losses", nargs="+", metavar="KIND", help="these only; all if not given")
    options_parser.add_argument("--student", default="resnet10t", help="any timm name")
    options_parser.add_argument("--teacher", default="resnet18", help="any timm name")
    options_parser.add_argument("--student-node", default="layer4", help="of losses on maps")
    options_parser.add_argument("--teacher-node", default="layer4", help="of losses on maps")
    options_parser.add_argument("--classes", type=int, default=100)
    options_parser.add_argument("--image-size", type=int, default=96)
    options_parser.add_argument("--batch", type=int, default=32)
    options_parser.add_argument("--rounds", type=int, default=7, help="steps of each task of a pair")
    options_parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = options_parser.parse_args(arguments)
    if options.quick:
        options.student = options.teacher = "test_resnet"
        options.image_size, options.batch, options.rounds, options.classes = 64, 4, 1, 8
    return compare(options, arguments)


def compare(options: Any, arguments: Sequence[str] | None) -> dict[str, Any]:
    """Measure pair after pair."""
    pair = Pair.untrained(options)
    latencies: dict[str, Latency] = {}
    ratios: dict[str, Ratio] = {}
    untimed: dict[str, str] = {}
    kinds = options.losses or [PLAIN, *(kind for kind in discover("loss") if kind != PLAIN)]
    for kind in kinds:
        more, alone = f"{PLAIN} + {kind}", f"{PLAIN} beside {kind}"
        try:
            steps = {more: pair.step([PLAIN, kind]), alone: pair.step([PLAIN])}
        except (EdgeproofError, ValidationError) as error:
            untimed[f"not timed, {kind}"] = str(error).splitlines()[0]
            continue
        found = alternate(steps, options.rounds)
        latencies |= found
        ratios[f"{more} / {PLAIN}"] = ratio(found[more], found[alone])
    return keep(
        options,
        "loss_overhead",
        arguments,
        settings={
            **{key: getattr(options, key) for key in SIZES},
            "rounds": options.rounds,
            "torch_threads": torch.get_num_threads(),
            "precision": "fp32",
        },
        latencies=latencies,
        ratios=ratios,
        figures=untimed,
    )


class Taught:
    """What the teacher gives for the one batch, in memory."""

    def __init__(self, outputs: ModelOutputs):
        self.outputs = outputs
        self.embedding_dim = outputs.embedding.shape[1]

    def __call__(self, batch: Batch) -> ModelOutputs:
        """Return it."""
        return self.outputs


@dataclass(frozen=True)
class Pair:
    """A student's settings, what the teacher gives for one batch, and what losses may ask for.

    Attributes:
        student: settings of the student.
        taught: the teacher's class scores, which are its embedding too, and its map.
        batch: random images and labels.
        context: the same for every loss.
        nodes: the pair that losses on maps compare.
        device: where it all lies.
    """

    student: TimmStudent.Config
    taught: Taught
    batch: Batch
    context: LossContext
    nodes: list[dict[str, str]]
    device: str

    @classmethod
    def untrained(cls, options: Any) -> Pair:
        """Return a pair of networks with random weights, which are as fast as trained ones."""
        torch.manual_seed(0)
        classes, side, device = options.classes, options.image_size, options.device
        image = torch.randn(options.batch, 3, side, side, device=device)
        teacher: Any = timm.create_model(options.teacher, num_classes=classes).eval().to(device)
        taps = Taps(teacher, [options.teacher_node])
        with torch.no_grad():
            scores: Tensor = teacher(image)
        maps = taps.taken()
        config = TimmStudent.Config(model=options.student, image_size=side)
        probe = TimmStudent(config, classes).module()
        words = nn.functional.normalize(torch.randn(classes, classes))
        classifier = teacher.get_classifier()
        context = LossContext(
            *(classes, classes, classes),
            lambda spec: words,
            torch.arange(classes),
            class_scores=True,
            student_features=node_shapes(probe, [options.student_node], torch.zeros(1, 3, side, side)),
            teacher_features={node: tuple(found.shape[1:]) for node, found in maps.items()},
            teacher_head=classifier if isinstance(classifier, nn.Linear) else None,
        )
        label = torch.randint(classes, (options.batch,), device=device)
        batch: Batch = {"image": image, "label": label, "index": torch.arange(options.batch)}
        nodes = [{"student": options.student_node, "teacher": options.teacher_node}]
        return cls(config, Taught(ModelOutputs(scores, scores, maps)), batch, context, nodes, device)

    def step(self, kinds: Sequence[str]) -> Callable[[], None]:
        """Return a training step of a new student under some losses."""
        torch.manual_seed(0)
        classes = self.context.num_classes
        student = TimmStudent(self.student, classes)
        student.classes = tuple(f"class {number}" for number in range(classes))
        task = DistillTask(student, [self.config(kind) for kind in kinds], self.context, self.taught)
        task.to(self.device)
        student.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        train = trainer(task, TrainConfig(epochs=2), self.device)
        return lambda: train([self.batch])

    def config(self, kind: str) -> LossConfig:
        """Return a loss's settings as they are, with the nodes where it cannot do without."""
        component: Any = component_class("loss", kind)
        field = component.Config.model_fields.get("nodes")
        wanted = field is not None and field.is_required()
        return component.Config(nodes=self.nodes) if wanted else component.Config()


if __name__ == "__main__":
    main()
