"""A CLIP student made sparse, INT8 and both, fine-tuned under its teacher or on labels alone.

The recipe `caltech-clip` is trained with several seeds; each student is then compressed twice, once under the
recipe's losses and once under the zero-shot classifier's own cross-entropy on labels, and every form is
scored on the test photos. Only the last epoch of a training counts, so that nothing is chosen on the few
photos of `val`. Runs that are there already are not made again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edgeproof_benchmarks.recipe_runs import over_seeds, points, run_recipe
from edgeproof_benchmarks.record import keep, parser
from edgeproof_configs.files import read_json

RECIPE = "caltech-clip"
TEACHER, LABELS = "teacher", "labels"
SUPERVISION = (TEACHER, LABELS)
LABEL_LOSSES = "compress.losses=[{kind: text_cross_entropy, logit_scale: 50}]"
FIGURES = ("top1", "mean_per_class", "cosine_mean")
EVERY_EPOCH = 1000
"""More epochs than any training has: then only the last one is evaluated."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train and compress what is missing, print and keep the table."""
    made = parser("supervised_compression", __doc__)
    made.add_argument("--data", type=Path, required=True, help="the photos with their stored embeddings")
    made.add_argument("--weights", required=True, help="of the ImageNet MobileNetV2")
    made.add_argument("--work", type=Path, required=True, help="where the runs are, or will be")
    made.add_argument("--image-size", type=int, default=160)
    made.add_argument("--epochs", type=int, default=10, help="of the dense student")
    made.add_argument("--tuning-epochs", type=int, default=3, help="of each fine-tuning")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--jobs", type=int, default=1, help="seeds at a time, one thread each")
    options = made.parse_args(arguments)
    if options.quick:
        options.image_size, options.epochs, options.tuning_epochs, options.seeds = 32, 1, 1, 1
    work: Path = options.work.absolute()
    settings = settings_of(options)
    with ThreadPoolExecutor(options.jobs) as pool:
        tasks = [pool.submit(compress_both_ways, work, seed, settings) for seed in range(options.seeds)]
        for task in tasks:
            task.result()
    figures = {
        way: table_of([place(work, way, seed) for seed in range(options.seeds)]) for way in SUPERVISION
    }
    for way, rows in figures.items():
        for form, found in rows.items():
            near = found["cosine_mean"]["mean"]
            print(f"{way:<8} {form:<26} top-1 {points(found['top1'])}, cosine {near:.4f}")
    return keep(
        options,
        "supervised_compression",
        arguments,
        settings={
            "image_size": options.image_size,
            "epochs": options.epochs,
            "epochs of each fine-tuning": options.tuning_epochs,
            "n": options.seeds,
            "threads of each training": 1,
        },
        latencies={},
        ratios={},
        figures=figures,
    )


def settings_of(options: Any) -> list[str]:
    """Return what is changed in the recipe."""
    epochs, side = options.tuning_epochs, options.image_size
    return [
        f"data.root={options.data.absolute()}",
        f"student.weights={options.weights}",
        f"student.image_size={side}",
        f"student.resize_size={side}",
        f"train.epochs={options.epochs}",
        f"train.eval_every={EVERY_EPOCH}",
        f"compress.sparsity.epochs={epochs}",
        "compress.quantization.method=qat",
        f"compress.quantization.epochs={epochs}",
        "deploy.engines=[onnxruntime]",
        "bench.seconds=0.2",
        "bench.warmup_seconds=0.05",
        # What is asked here is how much is lost, not whether it is too much.
        "gates.zero_shot_drop=1.0",
        "gates.agreement=0.0",
        "gates.cosine=0.0",
    ]


def place(work: Path, way: str, seed: int) -> Path:
    """Return the run directory of one seed under one supervision."""
    return work / f"{RECIPE}-{way}-{seed}"


def compress_both_ways(work: Path, seed: int, settings: Sequence[str]) -> None:
    """Train a student, compress it under its teacher, then compress the same student on labels alone."""
    supervised, labelled = (place(work, way, seed) for way in SUPERVISION)
    seeded = [*settings, f"train.seed={seed}"]
    run_recipe("ship", RECIPE, supervised, seeded, threads=1)
    if not labelled.exists():
        unfinished = labelled.with_name(f".{labelled.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(supervised, unfinished)
        unfinished.rename(labelled)
    # Only a run that is still a copy has to be told that its losses are others from here on.
    copied = read_json(labelled / "run.json") == read_json(supervised / "run.json")
    extra = ["--from", "sparsify"] if copied else []
    run_recipe("ship", RECIPE, labelled, [*seeded, LABEL_LOSSES], threads=1, extra=extra)


def table_of(runs: Sequence[Path]) -> dict[str, Any]:
    """Return the figures of each form over the runs, by `form engine precision`."""
    rows = [rows_of(run) for run in runs]
    return {
        name: {figure: over_seeds([one[name][figure] for one in rows]) for figure in FIGURES}
        | {"cosine to fp32": over_seeds([one[name]["to_fp32"] for one in rows])}
        for name in rows[0]
        if all(name in one for one in rows)
    }


def rows_of(run: Path) -> dict[str, dict[str, float]]:
    """Return the student's forms in ONNX Runtime with their figures on the test photos."""
    metrics = read_json(run / "verify" / "stage.json")["metrics"]
    found = {}
    for row in metrics["rows"]:
        if row["engine"] == "onnxruntime":
            found[f"{row['form']} {row['precision']}"] = row["metrics"] | {"to_fp32": cosine_to_fp32(row)}
    return found


def cosine_to_fp32(row: dict[str, Any]) -> float:
    """Return the mean cosine of a form's embeddings to those of the student as trained."""
    return float(row["parity"][-1]["cosine_mean"])


if __name__ == "__main__":
    main()
