"""How long heads take to fit, and to answer, at 1,000 classes.

Features are made up: classes lie around random directions, words near them, so that zero-shot is right on two
to three images of four. Time does not depend on what they mean, but for InMaP, which stops when it has found
its proxies. Fitting is timed with four validation images of each class to choose on, and without any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from edgeproof_benchmarks.head_sets import unit
from edgeproof_benchmarks.latency import Latency, Ratio, alternate, interleave, ratio
from edgeproof_benchmarks.machine.conditions import Watch
from edgeproof_benchmarks.record import keep, parser, timing_of
from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import HeadConfig
from edgeproof_deploy.runtime.head import Head
from edgeproof_train.heads.evidence import Evidence, evidence_of
from edgeproof_train.heads.fitting import fit_kind

FITTED = ("lp_plus_plus", "gda", "tip_adapter", "proker")
VAL_EACH = 4
IMAGE_NOISE, TEXT_NOISE = 3.0, 1.5
BATCH = 64


@dataclass(frozen=True)
class Sizes:
    """What is fitted.

    Attributes:
        classes: K.
        shots: labelled images of each class.
        dim: D.
        images: unlabelled ones of InMaP.
        compared: images and classes on which InMaP is compared with its plain form.
        plain_steps: of that form.
    """

    classes: int = 1000
    shots: int = 16
    dim: int = 512
    images: int = 50_000
    compared: tuple[int, int] = (5000, 100)
    plain_steps: int = 2000


QUICK = Sizes(classes=12, shots=3, dim=32, images=120, compared=(90, 6), plain_steps=300)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Time fitting and answering, print and keep the figures."""
    options_parser = parser("head_speed", __doc__, seconds=5.0)
    options_parser.add_argument("--rounds", type=int, default=3, help="fits of each kind")
    options = options_parser.parse_args(arguments)
    sizes = QUICK if options.quick else Sizes()
    watch = Watch()
    evidence = made_up(sizes.classes, sizes.shots, sizes.dim)
    rounds = 1 if options.quick else options.rounds
    latencies = alternate(fits(evidence), rounds)
    latencies |= alternate({f"fit inmap, {sizes.images} images": inmap_fit(sizes)}, 1 if options.quick else 2)
    plain, figures, plain_ratio = against_plain(sizes, rounds)
    answers = interleave(answering(evidence), **timing_of(options).keywords())
    latencies |= plain | answers
    figures["microseconds_an_image"] = per_image(answers)
    return keep(
        *(options, "head_speed", arguments),
        settings={
            **vars(sizes),
            "compared": list(sizes.compared),
            "val_of_each_class": VAL_EACH,
            "torch_threads": torch.get_num_threads(),
        },
        latencies=latencies,
        ratios=plain_ratio,
        figures=figures,
        conditions=watch.end(latencies),
    )


def made_up(classes: int, shots: int, dim: int, unlabelled: int = 0, seed: int = 0) -> Evidence:
    """Return random classes with text, shots, four validation images of each and images without labels."""
    random = np.random.default_rng(seed)
    centres = unit(random.normal(size=(classes, dim)))

    def near(labels: np.ndarray, noise: float) -> np.ndarray:
        return unit(centres[labels] + noise * random.normal(size=(len(labels), dim)) / np.sqrt(dim))

    each = np.arange(classes)
    labels, val = np.repeat(each, shots), np.repeat(each, VAL_EACH)
    return evidence_of(
        [f"class {number}" for number in each],
        features=near(labels, IMAGE_NOISE),
        labels=labels,
        text=near(each, TEXT_NOISE),
        unlabelled=near(random.integers(0, classes, unlabelled), IMAGE_NOISE) if unlabelled else None,
        val_features=near(val, IMAGE_NOISE),
        val_labels=val,
    )


def config_of(kind: str, **settings: Any) -> HeadConfig:
    """Return a kind's config."""
    return component_class("head", kind).__dict__["Config"](**settings)


def fits(evidence: Evidence) -> dict[str, Callable[[], Head]]:
    """Return what fits each kind, with validation and without."""
    bare = replace(evidence, val=None)
    return {
        f"fit {kind}, {words}": lambda kind=kind, seen=seen: fit_kind(config_of(kind), seen).head
        for kind in FITTED
        for words, seen in (("with val", evidence), ("without val", bare))
    }


def inmap_fit(sizes: Sizes) -> Callable[[], Head]:
    """Return what fits InMaP on many images of all classes."""
    evidence = made_up(sizes.classes, 1, sizes.dim, unlabelled=sizes.images)
    return lambda: fit_kind(config_of("inmap"), evidence).head


def against_plain(sizes: Sizes, rounds: int) -> tuple[dict[str, Latency], dict[str, Any], dict[str, Ratio]]:
    """Return the times of InMaP and of its plain form, in how many answers they agree, and the ratio."""
    images, classes = sizes.compared
    evidence = made_up(classes, 1, sizes.dim, unlabelled=images)
    assert evidence.unlabelled is not None
    ways = {
        "fit inmap": config_of("inmap"),
        "fit inmap, plain steps": config_of("inmap", solver="plain", steps=sizes.plain_steps),
    }
    answers = [fit_kind(way, evidence).head(evidence.unlabelled).argmax(axis=1) for way in ways.values()]
    times = alternate({name: lambda way=way: fit_kind(way, evidence) for name, way in ways.items()}, rounds)
    share = ratio(times["fit inmap"], times["fit inmap, plain steps"])
    agreement = 100 * float((answers[0] == answers[1]).mean())
    return (
        {f"{name}, {images} x {classes}": found for name, found in times.items()},
        {f"inmap agrees with {sizes.plain_steps} plain steps, %": round(agreement, 3)},
        {f"inmap / {sizes.plain_steps} plain steps": share},
    )


def answering(evidence: Evidence) -> dict[str, Callable[[], np.ndarray]]:
    """Return what scores one image, and a batch, with each form of head at all classes."""
    bare = replace(evidence, val=None)
    heads = {kind: fit_kind(config_of(kind), bare).head for kind in ("zero_shot", *FITTED)}
    assert evidence.val is not None
    rows = np.resize(evidence.val.features, (BATCH, evidence.dim))
    return {
        f"answer {kind} ({type(head).__name__}), batch {count}": lambda head=head, few=rows[:count]: head(few)
        for kind, head in heads.items()
        for count in (1, BATCH)
    }


def per_image(answers: dict[str, Latency]) -> dict[str, float]:
    """Return the median microseconds of an image."""
    return {
        name.removeprefix("answer "): round(1000 * found.p50 / int(name.rsplit(" ", 1)[1]), 2)
        for name, found in answers.items()
    }


if __name__ == "__main__":
    main()
