"""Distillation methods beside each other: a ResNet-8 for CIFAR-10 pictures, alone and under a ResNet-56.

The recipes `cifar10-*` are trained with several seeds each through the command line. The epoch is chosen on a
part of the training images; it and the last one are then scored on all test images. Runs that are there
already are not trained again.
"""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edgeproof_benchmarks.recipe_runs import over_seeds, points, run_recipe
from edgeproof_benchmarks.record import keep, parser
from edgeproof_configs.files import read_json
from edgeproof_configs.registry import component_class
from edgeproof_data.sets import DataSource, ImageSet
from edgeproof_train.embeddings import embed_images
from edgeproof_train.metrics import classifier_metrics
from edgeproof_train.student import Student

TEACHER = "cifar10-resnet56"
LOGITS = ("soft-target", "dkd", "dist", "standardised")
MAPS = ("attention", "similarity", "mgd", "rkd", "simkd")
METHODS = ("baseline", *LOGITS, *MAPS)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train what is missing, score everything, print and keep the table."""
    made = parser("distillation", __doc__)
    made.add_argument("--data", type=Path, required=True, help="folder with train/<class> and test/<class>")
    made.add_argument("--weights", required=True, help="of the ResNet-56")
    made.add_argument("--work", type=Path, required=True, help="where the runs are, or will be")
    made.add_argument("--images", type=int, default=5000, help="training images, the first of each class")
    made.add_argument("--epochs", type=int, default=15)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    made.add_argument("--jobs", type=int, default=1, help="trainings at a time, one thread each")
    options = made.parse_args(arguments)
    if options.quick:
        options.images, options.epochs, options.seeds = 200, 4, 1
    work: Path = options.work.absolute()
    data = subset(options.data.absolute(), work / f"data_{options.images}", options.images)
    teacher = work / TEACHER
    run_recipe(
        "train", TEACHER, teacher, [f"data.root={data}", f"student.weights={options.weights}"], threads=None
    )
    # Seed by seed, so that an interrupted benchmark has a whole table of fewer seeds.
    wanted = [
        (method, seed, work / f"cifar10-{method}-{seed}")
        for seed in range(options.seeds)
        for method in options.methods
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        tasks = [
            pool.submit(train_method, method, seed, run, data, teacher, options.epochs)
            for method, seed, run in wanted
        ]
        for task in tasks:
            task.result()
    test = test_images(data)
    runs = {TEACHER: [teacher]} | {
        name: [run for one, _, run in wanted if one == name] for name in options.methods
    }
    figures = {name: summary([score(run, test) for run in found]) for name, found in runs.items()}
    for name, found in figures.items():
        print(f"{name:<16} {words(found)}")
    return keep(
        options,
        "distillation",
        arguments,
        settings={
            "training images": options.images,
            "epochs": options.epochs,
            "test images": len(test),
            "threads of each training": 1,
        },
        latencies={},
        ratios={},
        figures=figures,
    )


def subset(data: Path, folder: Path, count: int) -> Path:
    """Return a folder with links to the first images of each class, for training, and to all for testing."""
    if (folder / "test").exists():
        return folder
    classes = sorted(place for place in (data / "train").iterdir() if place.is_dir())
    for place in classes:
        target = folder / "train" / place.name
        target.mkdir(parents=True, exist_ok=True)
        for file in sorted(place.iterdir())[: count // len(classes)]:
            (target / file.name).unlink(missing_ok=True)
            (target / file.name).hardlink_to(file)
    shutil.copytree(data / "test", folder / "test", copy_function=os.link)
    return folder


def train_method(method: str, seed: int, run: Path, data: Path, teacher: Path, epochs: int) -> None:
    """Train one method with one seed; the teacher's stored outputs are taken over from an earlier run."""
    settings = [f"data.root={data}", f"train.seed={seed}", f"train.epochs={epochs}"]
    if method != "baseline":
        settings.append(f"teacher.path={teacher}")
        take_over(run, with_views=method in LOGITS)
    if method in LOGITS:
        settings.append(f"teacher.stored_views={epochs}")
    run_recipe("train", f"cifar10-{method}", run, settings, threads=1)


def take_over(run: Path, *, with_views: bool) -> None:
    """Copy the teacher's stored outputs of the first run that has them; the cache checks that they fit."""
    wanted = "train_view_000" if with_views else "test"
    fitting = [file.parent for file in sorted(run.parent.glob(f"cifar10-*/embed/{wanted}"))]
    finished = [folder for folder in fitting if (folder / "stage.json").exists()]
    if finished and not run.exists():
        run.mkdir()
        unwanted = ("stage.json", "started.json", *(() if with_views else ("train_view_*",)))
        shutil.copytree(finished[0], run / "embed", ignore=shutil.ignore_patterns(*unwanted))


def test_images(data: Path) -> ImageSet:
    """Return all test images with their labels."""
    component: Any = component_class("data", "image_folder")
    source: DataSource = component(component.Config(root=str(data), train="train", test="test", val=0.1))
    source.prepare()
    return source.split("test")


def score(run: Path, test: ImageSet) -> dict[str, float]:
    """Return the top-1 of a run's best and last epoch on the test images, and its training seconds."""
    found: dict[str, float] = {}
    for which, folder in (("best", run / "train"), ("last", run / "train" / "last")):
        student = Student.load(folder)
        scores = embed_images(student, test, batch_size=256)
        found[which] = classifier_metrics(scores, test.labels, student.classes)["top1"]
    return found | {"seconds": read_json(run / "train" / "stage.json")["seconds"]}


def summary(scores: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return what both epochs come to over the seeds, n, and the mean seconds of a training."""
    made: dict[str, Any] = {"n": len(scores)}
    made |= {which: over_seeds([one[which] for one in scores]) for which in ("best", "last")}
    return made | {"seconds": round(statistics.fmean(one["seconds"] for one in scores), 1)}


def words(found: dict[str, Any]) -> str:
    """Return a row of the table."""
    shown = ", ".join(f"{which} epoch {points(found[which])}" for which in ("best", "last"))
    return f"{shown} (n = {found['n']}, {found['seconds']} s)"


if __name__ == "__main__":
    main()
