"""The chain from teacher to bundle: which stage runs which function, and what each one depends on."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeproof_configs import __version__
from edgeproof_configs.files import FileTable, digest_of
from edgeproof_configs.run import RunDir, StageRecord
from edgeproof_configs.schema import Plain
from edgeproof_configs.stage import StageContext, StageOutcome

TRAINED_IN_PLACE = ("contrastive",)
CACHE_PLAN = re.compile(r"-[0-9a-f]{16}(?=[-.])")
CACHE_TIMES = ("index.npy", "manifest.json")
NOT_OF_WORDS = ("classifier", "teacher_head")
"""Kinds of heads that say themselves what the student is trained to; under the others only words count."""
BEFORE_HEAD = ("curate", "embed", "baseline", "train", "sparsify", "quantize", "export")
"""Stages that read of a head its words alone."""


def is_trained_in_place(teacher: Plain) -> bool:
    """Whether a run makes its teacher, or the principal axes of one, from its own images."""
    return teacher["kind"] in TRAINED_IN_PLACE or bool(teacher.get("pca"))


@dataclass(frozen=True)
class Stage:
    """One link of the chain.

    Attributes:
        name: also the name of its folder.
        function: `package.module:function`, imported when the stage runs.
        keys: the parts of the recipe that it reads, dotted where it is not all of a part.
        needs: the stages whose outputs it reads.
        parallel: whether all processes of a `torchrun` work on it; else the first does it alone.
        applies: whether the recipe has this stage at all.
    """

    name: str
    function: str
    keys: tuple[str, ...]
    needs: tuple[str, ...] = ()
    parallel: bool = False
    applies: Callable[[Plain], bool] = lambda plain: True

    def run(self, context: StageContext) -> StageOutcome:
        """Import the stage's package and do its work."""
        module, name = self.function.split(":")
        return getattr(importlib.import_module(module), name)(context)


CHAIN = (
    Stage(
        "teacher",
        "edgeproof_train.stages:teacher_stage",
        ("data", "teacher"),
        applies=lambda plain: is_trained_in_place(plain["teacher"]),
    ),
    Stage(
        "curate",
        "edgeproof_train.curate:curate_stage",
        ("data", "teacher", "head", "curate"),
        ("teacher",),
        parallel=True,
        applies=lambda plain: bool(plain.get("curate")),
    ),
    Stage(
        "embed",
        "edgeproof_train.stages:embed_stage",
        ("data", "teacher", "head", "losses", "compress.losses"),
        ("teacher", "curate"),
        parallel=True,
    ),
    Stage(
        "baseline",
        "edgeproof_train.stages:baseline_stage",
        ("data", "student", "train", "head", "baseline"),
        ("curate", "embed"),
        parallel=True,
        applies=lambda plain: plain["baseline"] is not None,
    ),
    Stage(
        "train",
        "edgeproof_train.stages:train_stage",
        ("data", "teacher", "student", "losses", "train", "head"),
        ("curate", "embed"),
        parallel=True,
    ),
    Stage(
        "sparsify",
        "edgeproof_compress.stages:sparsify_stage",
        ("data", "teacher", "losses", "train", "head", "compress.losses", "compress.sparsity"),
        ("curate", "embed", "train"),
        parallel=True,
        applies=lambda plain: bool(plain["compress"] and plain["compress"]["sparsity"]),
    ),
    Stage(
        "quantize",
        "edgeproof_compress.stages:quantize_stage",
        ("data", "teacher", "losses", "train", "head", "compress.losses", "compress.quantization"),
        ("curate", "embed", "train", "sparsify"),
        parallel=True,
        applies=lambda plain: bool(plain["compress"] and plain["compress"]["quantization"]),
    ),
    Stage(
        "head",
        "edgeproof_train.head_stage:head_stage",
        ("data", "teacher", "head"),
        ("teacher", "curate", "embed", "train"),
    ),
    Stage(
        "export",
        "edgeproof_deploy.stages:export_stage",
        ("deploy", "teacher", "head"),
        ("teacher", "embed", "train", "sparsify", "quantize"),
    ),
    Stage("build", "edgeproof_deploy.stages:build_stage", ("deploy",), ("export",)),
    Stage(
        "verify",
        "edgeproof_deploy.stages:verify_stage",
        ("data", "deploy", "gates"),
        ("curate", "embed", "baseline", "train", "sparsify", "quantize", "head", "export", "build"),
    ),
    Stage(
        "bench",
        "edgeproof_benchmarks.stages:bench_stage",
        ("deploy", "bench", "gates"),
        ("train", "sparsify", "quantize", "export", "build", "head"),
    ),
    Stage("report", "edgeproof_benchmarks.stages:report_stage", (), ("verify", "bench")),
    Stage(
        "bundle", "edgeproof_deploy.stages:bundle_stage", (), ("export", "build", "head", "verify", "report")
    ),
)
ORDER = tuple(stage.name for stage in CHAIN)


def chain_of(plain: Plain) -> list[Stage]:
    """Return the stages that this recipe has, in order."""
    return [stage for stage in CHAIN if stage.applies(plain)]


def first_stage_touched(before: Plain, now: Plain) -> str:
    """Return the earliest stage that has to be redone because two recipes differ.

    Of the losses of compression `embed` only takes in words that it has not got yet: it is run again for
    that, and keeps the rest.
    """
    for stage in CHAIN:
        if not (stage.applies(before) or stage.applies(now)):
            continue
        old, new = settings_of(stage, before), settings_of(stage, now)
        keys = [key for key in stage.keys if (stage.name, key) != ("embed", "compress.losses")]
        if any(digest_of(old[key]) != digest_of(new[key]) for key in keys):
            return stage.name
    return ORDER[0]


def settings_of(stage: Stage, plain: Plain) -> dict[str, Any]:
    """Return the parts of a recipe that a stage reads, by key.

    A student is trained and exported for the words of a head, whatever is fitted later. To the stages before
    it a fitted head is the zero-shot one of the same words, so that another can follow the same training.
    """
    settings = {key: value_at(plain, key) for key in stage.keys}
    head = settings.get("head")
    if stage.name in BEFORE_HEAD and head and head["kind"] not in ("zero_shot", *NOT_OF_WORDS):
        words = {key: head.get(key) for key in ("labels", "templates", "text_embeddings", "logit_scale")}
        settings["head"] = {"kind": "zero_shot", **words}
    return settings


def value_at(plain: Any, key: str) -> Any:
    """Return the value at a dotted key, or None."""
    for part in key.split("."):
        plain = plain.get(part) if isinstance(plain, dict) else None
    return plain


def inputs_digest(stage: Stage, plain: Plain, run: RunDir, files: FileTable, data_digest: str) -> str:
    """Return the digest of everything that a stage depends on.

    That is: the version of edgeproof, the stage's part of the recipe, the contents of the files which that
    part names, the images and labels where the stage reads `data`, and the outputs of the stages before it;
    what an earlier recipe left of a stage that this one does not have does not count.
    """
    settings = settings_of(stage, plain)
    root = plain["data"].get("root")
    named = named_files({k: v for k, v in settings.items() if k != "data"}, Path(root) if root else None)
    present = {one.name for one in chain_of(plain)}
    before = {name: run.record(name) if name in present else None for name in stage.needs}
    return digest_of(
        {
            "version": __version__,
            "stage": stage.name,
            "settings": settings,
            "files": [files.sha256(file) for file in named],
            "data": data_digest if "data" in stage.keys else None,
            "before": {name: contents(record) if record else None for name, record in before.items()},
        }
    )


def contents(record: StageRecord) -> list[tuple[str, str]]:
    """Return name and sha256 of what a stage left behind, as far as it says something.

    A cache names its files after the sizes and times of its images and keeps these in index and manifest:
    photos that were copied give the same embeddings, and nothing is trained again for their new times.
    """
    told = ((CACHE_PLAN.sub("", file), seen["sha256"]) for file, seen in record.outputs.items())
    kept = (file for file in told if record.stage != "embed" or Path(file[0]).name not in CACHE_TIMES)
    return sorted(kept)


def named_files(settings: Any, root: Path | None) -> list[Path]:
    """Return the files that a part of a recipe names: absolute, or relative to `root` or the work folder.

    Of a run it is what its student was trained to: the rest changes whenever the run is looked at.
    """
    found: set[Path] = set()
    for text in strings_in(settings):
        for place in (Path(text), root / text if root else None):
            if place is not None and place.is_file():
                found.add(place)
            elif place is not None and "/" in text and place.is_dir():
                is_run = (place / "recipe.resolved.yaml").exists()
                inside = (place / "train").glob("*.*") if is_run else place.rglob("*")
                found.update(file for file in inside if file.is_file())
    return sorted(found)


def strings_in(value: Any) -> Iterator[str]:
    """Yield every string value of nested plain data."""
    if isinstance(value, str):
        if value and "\n" not in value and len(value) < 1024:
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings_in(item)
