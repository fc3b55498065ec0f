"""The INT8 forms of a run: of the student as trained, and of the sparse one where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeproof_compress.masks import MASKS_FILE, hold, is_2_4, load_masks
from edgeproof_compress.quantize import Quantizing, quantize, summary
from edgeproof_compress.quantized_student import ORIGINAL, QuantizedStudent
from edgeproof_compress.sparsify import STAGE as SPARSIFY
from edgeproof_compress.sparsify import is_first
from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.files import write_json
from edgeproof_configs.schema import TrainConfig
from edgeproof_configs.stage import StageOutcome
from edgeproof_train.fine_tune import fine_tune, tuning_config
from edgeproof_train.keeper import LOSSES_FILE
from edgeproof_train.run_data import RunData
from edgeproof_train.scoring import chosen_by, evaluation
from edgeproof_train.student import Student

STAGE = "quantize"
REPORT_FILE = "quantization.json"
TUNING = "tuning"
"""Folder of fine-tuning in that of a form: what gives layers back after it leaves its student as it is, so
that a stage which was killed comes to the same end."""
LR_SCALE = 0.01
EPOCHS = 5
"""Of fine-tuning, where the recipe does not say."""


def bases(data: RunData) -> dict[str, str]:
    """Return the INT8 forms by folder name, with the stage whose student each is made of."""
    assert data.recipe.compress is not None
    sparse = {"sparse_int8": SPARSIFY} if data.recipe.compress.sparsity else {}
    return {"int8": "train", **sparse}


def quantize_forms(data: RunData) -> StageOutcome:
    """Quantise every form; every process of a `torchrun` calls this.

    Raises:
        UsageError: a pattern matches no layer.
        MissingPackageError: the backend is not installed.
        EdgeproofError: ranges cannot be found, or zeros of a sparse student were lost.
    """
    files: list[Path] = []
    told: dict[str, Any] = {}
    words: list[str] = []
    for name, source in bases(data).items():
        made, report = quantize_form(data, name, source)
        files += made
        told[name] = {key: value for key, value in report.items() if key not in ("layers", "values")}
        words.append(f"{name}: {summary(report)}")
    return StageOutcome(files, {"forms": told}, "; ".join(words))


def quantize_form(data: RunData, name: str, source: str) -> tuple[list[Path], dict[str, Any]]:
    """Quantise one form and write it; return its files and what is told about it."""
    run, recipe = data.context.run, data.recipe
    assert recipe.compress is not None
    config = recipe.compress.quantization
    assert config is not None
    folder = data.context.folder(STAGE) / name
    folder.mkdir(parents=True, exist_ok=True)
    masks = load_masks(run.stage(source) / MASKS_FILE) if source == SPARSIFY else {}
    # Pruning alone trains nothing, so the losses' parts are still those of the training before it.
    parts_from = source if (run.stage(source) / LOSSES_FILE).exists() else "train"
    epochs, lr = config.epochs or EPOCHS, config.lr or LR_SCALE * recipe.train.lr

    def tune(student: QuantizedStudent) -> QuantizedStudent:
        student.expose(data.for_tuning().nodes("student"))
        hold(student, {held(student, one): mask for one, mask in masks.items()})
        loop, start = loop_of(recipe.train, student, epochs, lr), run.stage(parts_from)
        # Under a name of its own: a training takes back the rows that one of its name has reported.
        fine_tune(data, f"{STAGE} {name}", student, loop, start=start, folder=folder / TUNING)
        return QuantizedStudent.read(folder / TUNING)

    work = Quantizing(
        config=config,
        images=data.split("train"),
        evaluate=evaluation(data, "val"),
        select=recipe.train.select or chosen_by(data),
        tune=tune,
        device=data.context.device,
        seed=recipe.train.seed,
    )
    student, report = quantize(Student.load(run.stage(source)), work)
    check_masks(student, list(masks), folder)
    if not is_first():
        return [], report
    files = student.save(folder)
    write_json(folder / REPORT_FILE, report)
    return [*files, folder / REPORT_FILE], report


def loop_of(train: TrainConfig, student: QuantizedStudent, epochs: int, lr: float) -> TrainConfig:
    """Return the loop's settings for fine-tuning; batch norms that are left keep their statistics."""
    loop = tuning_config(train, epochs, lr)
    left = dict(student.named_modules())
    # A batch norm that was folded is no part of the graph any more.
    frozen = tuple(name for part in loop.freeze if (name := f"graph.{part}") in left)
    trained = tuple(name for part in loop.freeze_except if (name := f"graph.{part}") in left)
    changes = {"freeze": frozen, "freeze_except": trained}
    return loop.model_copy(update={"freeze_batch_norm": True, "compile": False, **changes})


def held(student: QuantizedStudent, name: str) -> str:
    """Return the name that a parameter of the student in floating point has in the quantised one."""
    layer, _, weight = name.rpartition(".")
    return f"graph.{layer}.{ORIGINAL if layer in student.spec.layers else weight}"


def check_masks(student: QuantizedStudent, names: list[str], folder: Path) -> None:
    """Count the zeros of a sparse student again.

    Raises:
        EdgeproofError: a layer is not 2:4 any more.
    """
    for name in names:
        if not is_2_4(student.get_parameter(held(student, name)).detach()):
            raise EdgeproofError(
                f"{name} is not 2:4 any more after fine-tuning in INT8",
                where=folder,
                fix="redo the stage with --from quantize; if it happens again, report it",
            )
