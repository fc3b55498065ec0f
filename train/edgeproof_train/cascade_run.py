"""A cascade within a run: its specialists, the images that they look at, and what became of those."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_configs.files import write_json, write_text
from edgeproof_data.prompts import clean_name
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.runtime.bundle import SPECIALISTS_FOLDER
from edgeproof_deploy.runtime.cascade_head import AskingCascade, CascadeHead
from edgeproof_train.heads.routing import cost, routing_figures, step_names, time_spent, with_oracle
from edgeproof_train.run_data import RunData
from edgeproof_train.specialist import Consultation, Specialist
from edgeproof_train.student import Student

Plain = dict[str, Any]


def consultation(data: RunData, images: ImageSet) -> Consultation:
    """Return who can be asked about some images of a run whose head is a cascade.

    Raises:
        UsageError: a specialist is no finished run of a classifier.
    """
    config: Any = data.recipe.head
    specialists = {name: Specialist.read(path, data.source.root) for name, path in config.specialists.items()}
    return Consultation(images, specialists, data.context.device)


def on_images(heads: Sequence[Any], data: RunData, images: ImageSet) -> list[Any]:
    """Return heads that can decide about some images, in their order.

    A cascade with specialists is given the images, and two of them share what the specialists say; every
    other head is as it was.
    """
    if not any(map(asks_specialists, heads)):
        return list(heads)
    ask, all_of_them = consultation(data, images), np.arange(len(images))
    return [head.asking(ask).at(all_of_them) if asks_specialists(head) else head for head in heads]


def asks_specialists(head: Any) -> bool:
    """Whether a head needs the images that it decides about."""
    return isinstance(head, CascadeHead) and bool(head.specialists)


def heads_alone(head: Any) -> Any:
    """Return a head whose time is that of its matrices: what specialists would say is left at nothing."""
    if not asks_specialists(head):
        return head
    classes = head.specialists
    return head.asking(lambda name, images: np.zeros((len(images), classes[name]), np.float32))


def routing_of(
    data: RunData, head: Any, embeddings: np.ndarray, labels: np.ndarray, images: ImageSet
) -> Plain | None:
    """Return who answered which images of a run, how well, and what it cost; None of another head.

    Milliseconds are of this machine: `heads` of all steps' matrices an image, of a specialist an image that
    reached it, reading and preparing included; `mean` is what both cost a mean image (`time_spent`).

    Args:
        data: of the run.
        head: of the run; where it is bound to the images, what specialists said already is not asked again.
        embeddings: (N, D), the student's.
        labels: (N,) true rows of the head's labels; -1 where there is none.
        images: N images.
    """
    cascade = head.cascade if isinstance(head, AskingCascade) else head
    if not isinstance(cascade, CascadeHead):
        return None
    config: Any = data.recipe.head
    told = head.ask if isinstance(head, AskingCascade) else None
    ask = told if isinstance(told, Consultation) else consultation(data, images)
    routed = cascade.routed(embeddings, ask)
    waited = {name: 1e3 * ask.seconds[name] / ask.asked[name] for name in ask.asked if ask.asked[name]}
    known = np.flatnonzero(labels >= 0)
    oracle = with_oracle(cascade, embeddings[known], labels[known], lambda name, at: ask(name, known[at]))
    names = step_names(cascade, [step.name for step in config.steps])
    found = routing_figures(cascade, routed, labels, names, oracle)
    student = Student.load(data.context.run.stage("train"))
    counted = sum(parameter.numel() for parameter in student.parameters())
    specialists = {name: one.parameters for name, one in ask.specialists.items()}
    began = time.perf_counter()
    heads_alone(cascade).logits(embeddings)
    spent = 1e3 * (time.perf_counter() - began) / max(len(embeddings), 1)
    found["parameters"] = cost(cascade, routed.arrived, counted, specialists)
    found["milliseconds"] = time_spent(cascade, routed.arrived, spent, waited)
    return found


def write_specialists(data: RunData, head: Any, folder: Path) -> list[Path]:
    """Write what a bundle says of each specialist beside its model; return the files."""
    if not isinstance(head, CascadeHead):
        return []
    config: Any = data.recipe.head
    label_of = {clean_name(label): label for label in head.labels}
    written = []
    for name, path in config.specialists.items():
        specialist = Specialist.read(path, data.source.root)
        place = folder / SPECIALISTS_FOLDER / name
        place.mkdir(parents=True, exist_ok=True)
        labels = [label_of[clean_name(label)] for label in specialist.classes]
        write_text(place / "labels.txt", "".join(f"{label}\n" for label in labels))
        write_json(place / "preprocess.json", specialist.preprocess.to_dict())
        written += [place / "labels.txt", place / "preprocess.json"]
    return written


def shipped_specialists(data: RunData, folder: Path) -> dict[str, Path]:
    """Return the files of the specialists by their names below `specialists/` of a bundle.

    Args:
        data: of the run.
        folder: of its stage `head`.
    """
    config: Any = data.recipe.head
    found: dict[str, Path] = {}
    for name, path in getattr(config, "specialists", {}).items():
        specialist = Specialist.read(path, data.source.root)
        place = folder / SPECIALISTS_FOLDER / name
        found[f"{name}/model.onnx"] = specialist.model
        found |= {f"{name}/{file}": place / file for file in ("labels.txt", "preprocess.json")}
    return found


def routing_line(found: Plain) -> str:
    """Return a cascade's routing in words: what each step answered, what wrong routes cost, how much ran."""
    count = max(found["images"], 1)
    steps = ", ".join(f"{row['step']} {100 * row['answered'] / count:.1f} %" for row in found["steps"])
    words = [f"answered by {steps}"]
    if found.get("lost_by_routing") is not None:
        words.append(
            f"top-1 {100 * found['accuracy']:.1f} %, with an oracle for routes"
            f" {100 * found['oracle_accuracy']:.1f} %"
        )
    return "; ".join([*words, cost_line(found)])


def cost_line(found: Plain) -> str:
    """Return in words what a cascade costs; runs of before do not say what their milliseconds count."""
    parameters, spent = found["parameters"], found["milliseconds"]
    said = (
        f"{parameters['loaded'] / 1e6:.2f} M parameters loaded, {parameters['used_mean'] / 1e6:.2f} M used by"
        " a mean image"
    )
    if "mean_of" not in spent:
        return said
    return f"{said}; {spent['mean']:.3g} ms a mean image ({spent['mean_of']})"


def routing_table(found: Plain) -> str:
    """Return a line for each step of a cascade, and what they cost; a share of nothing is a dash."""
    counts, shares = ("arrived", "answered"), ("precision", "recall", "accuracy")
    width = max(len(row["step"]) for row in found["steps"])
    lines = [" ".join([f"{'step':<{width}}", *(f"{name:>9}" for name in (*counts, *shares))])]
    for row in found["steps"]:
        cells = [str(row[name]) for name in counts]
        cells += ["-" if row[name] is None else f"{row[name]:.4f}" for name in shares]
        lines.append(" ".join([f"{row['step']:<{width}}", *(f"{cell:>9}" for cell in cells)]))
    return "\n".join([*lines, cost_line(found)])
