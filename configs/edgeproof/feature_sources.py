"""Where `head fit` gets its features: an .npz file, or the embeddings of a recipe's teacher or student."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import FileTable, atomic_open, digest_of
from edgeproof_configs.loader import load_recipe, peek_name
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext
from edgeproof_data.paths import counted
from edgeproof_data.sets import SPLITS, ImageSet
from edgeproof_train.head_evidence import without_test
from edgeproof_train.head_features import Features
from edgeproof_train.head_trials import FeatureSets, Pool
from edgeproof_train.heads.evidence import Rows, labelled_rows, unit_features
from edgeproof_train.run_data import RunData

KEPT = "features-student.npz"


def of_file(file: Path, use_text: bool = True) -> FeatureSets:
    """Return the features of an .npz file, without pickles.

    It has `test_features` (N, D), `test_labels` (N,), `classnames` (K,) and `shots_N_features`,
    `shots_N_labels` for some N; perhaps `val_features`, `val_labels`, and `text` (K, D).

    Args:
        file: to read.
        use_text: whether `text` is taken.

    Raises:
        DataError: it is missing, damaged, or lacks an array; or rows of one part are in another.
    """
    arrays = arrays_of(file)
    lacking = [name for name in ("test_features", "test_labels", "classnames") if name not in arrays]
    if lacking:
        raise DataError(
            f"there is no array {' and '.join(lacking)}; there are: {', '.join(arrays) or 'none'}", where=file
        )
    names = tuple(str(name) for name in arrays["classnames"])
    said: list[str] = []
    stored = {
        int(name.split("_")[1]): part(arrays, name.removesuffix("_features"), len(names), said)
        for name in arrays
        if name.startswith("shots_") and name.endswith("_features") and name.split("_")[1].isdecimal()
    }
    if not stored:
        raise DataError("there are no shots: an array shots_N_features for some N", where=file)
    test = part(arrays, "test", len(names), said)
    val = part(arrays, "val", len(names), said) if "val_features" in arrays else None
    refuse_shared(test, "test", val, "val", file)
    for count, rows in stored.items():
        refuse_more_shots(rows, count, names, file)
        refuse_shared(test, "test", rows, f"shots_{count}", file)
        refuse_shared(rows, f"shots_{count}", val, "val", file)
    text = arrays.get("text") if use_text else None
    return FeatureSets(
        names=names,
        test=test,
        train=pool("train", stored[max(stored)]),
        stored=stored,
        val=None if val is None else pool("val", val),
        text=None if text is None else unit_features("text", text, said),
        said=tuple(said),
    )


def arrays_of(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file, without pickles.

    Raises:
        DataError: it is missing, damaged, or another kind of file.
    """
    fix = "write it with numpy.savez"
    if file.is_file() and not is_zipfile(file):
        raise DataError("no file of features: it is no whole .npz archive", where=file, fix=fix)
    try:
        with np.load(file, allow_pickle=False) as opened:
            return {name: opened[name] for name in opened.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise DataError(f"no file of features: {error}", where=file, fix=fix) from error


def part(arrays: dict[str, np.ndarray], name: Any, classes: int, said: list[str]) -> Rows:
    """Return features and labels of a part of a file, checked; add to `said` what was changed.

    Raises:
        DataError: they cannot be used.
    """
    features, labels = arrays.get(f"{name}_features"), arrays.get(f"{name}_labels")
    if features is not None and features.ndim == 2 and not len(features):
        raise DataError(f"{name}_features has no row", fix=f"give images of {name}")
    found = labelled_rows(name, features, labels, classes, said)
    assert found is not None
    return found


def refuse_more_shots(rows: Rows, count: int, names: tuple[str, ...], file: Path) -> None:
    """Refuse a draw that holds more images of a class than its name says.

    Raises:
        DataError: it does.
    """
    counts = np.bincount(rows.labels, minlength=len(names))
    more = np.flatnonzero(counts > count)
    if len(more):
        classes = counted(len(more), "class", "classes")
        raise DataError(
            f"shots_{count}_labels has more than {counted(count, 'row')} of {classes}: "
            f"{names[more[0]]} has {counts[more[0]]}",
            where=file,
            fix=f"name it shots_{counts.max()}_features and shots_{counts.max()}_labels",
        )


def refuse_shared(one: Rows, whose: str, rows: Rows | None, name: str, file: Path) -> None:
    """Refuse features that are those of another part, to the bit.

    What is learnt from rows of test proves nothing, and settings chosen on shots fit these alone.

    Raises:
        DataError: some are.
    """
    known = {row.tobytes() for row in one.features}
    same = (
        [] if rows is None else [place for place, row in enumerate(rows.features) if row.tobytes() in known]
    )
    if same:
        raise DataError(
            f"{len(same)} rows of {name}_features are rows of {whose}_features, too, "
            f"the first is row {same[0]}",
            where=file,
            fix="take them out",
        )


def pool(split: str, rows: Rows) -> Pool:
    """Return rows that have no names of their own."""
    return Pool(rows, tuple(f"{split}/{row}" for row in range(len(rows.labels))))


def of_recipe(
    recipe: str, side: str, overrides: list[str], run: Path | None, device: str | None
) -> tuple[FeatureSets, Path]:
    """Return the features of a recipe's teacher or student, and the run directory.

    The stages that are still needed are run: `embed` for the teacher, up to `train` for the student.

    Raises:
        UsageError: the recipe's student scores classes, or there is no teacher.
    """
    from edgeproof.ship import choose_device, ship

    until = "embed" if side == "teacher" else "train"
    ship(recipe, overrides=overrides, run=run, until=until, device=device)
    directory = RunDir(run or Path("runs") / peek_name(recipe, overrides))
    loaded = load_recipe(str(directory.path / "recipe.resolved.yaml")).recipe
    files = FileTable(directory.path / "files.tsv")
    data = RunData(StageContext(loaded, directory, choose_device(device), strict=False, files=files))
    if data.class_scores:
        raise UsageError(
            f"head {loaded.head.kind}: the student scores classes itself, there are no embeddings",
            where="head.kind",
            fix="name a recipe whose head works on embeddings",
        )
    if side == "teacher" and not data.has_teacher:
        raise UsageError("this recipe has no teacher", where="--on teacher", fix="--on student")
    sets = sets_of(data, side)
    files.save()
    return sets, directory.path


def sets_of(data: RunData, side: Any) -> FeatureSets:
    """Return the labelled images of a run as features; none of train and val is a test image."""
    words = data.words()
    images = {"test": data.split("test")}
    images |= {name: without_test(data, data.split(name))[0] for name in ("train", "val")}
    rows = rows_of(data, side, images)
    known: dict[str, Rows] = {}
    said: list[str] = []
    names: dict[str, tuple[str, ...]] = {}
    splits: Any = SPLITS
    for split in splits:
        labels = data.word_labels(images[split])
        at = np.flatnonzero(labels >= 0)
        if not len(at) and split != "val":
            raise DataError(f"no image of {split} has a label among the words of the head")
        if len(at):
            found = labelled_rows(split, rows[split][at], labels[at], len(words.names), said)
            assert found is not None
            known[split], names[split] = found, tuple(images[split].paths[i] for i in at)
    return FeatureSets(
        names=words.names,
        test=known["test"],
        train=Pool(known["train"], names["train"]),
        val=Pool(known["val"], names["val"]) if "val" in known else None,
        text=None if words.matrix is None else unit_features("text", words.matrix, said),
        unseen=data.source.unseen,
        logit_scale=data.context.metrics("embed")["logit_scale"],
        said=tuple(said),
    )


def rows_of(data: RunData, side: Any, images: dict[str, ImageSet]) -> dict[str, np.ndarray]:
    """Return the embeddings of each split; those of the student are kept in the run for the next time."""
    features = Features(data, side)

    def compute() -> dict[str, np.ndarray]:
        splits: Any = images
        return {name: features.plain(name, chosen) for name, chosen in splits.items()}

    if side == "teacher":
        return compute()
    trained = data.context.run.record("train")
    assert trained is not None
    weights = [(name, seen["sha256"]) for name, seen in sorted(trained.outputs.items())]
    listed = {
        name: [(path, data.context.files.sha256(chosen.file(i))) for i, path in enumerate(chosen.paths)]
        for name, chosen in images.items()
    }
    key = digest_of([weights, listed])
    file = data.context.run.path / "heads" / KEPT
    if file.is_file():
        with np.load(file, allow_pickle=False) as kept:
            if str(kept["key"]) == key:
                return {name: kept[name] for name in images}
    rows = compute()
    arrays: dict[str, Any] = {**rows, "key": np.array(key)}
    with atomic_open(file) as handle:
        np.savez(handle, **arrays)
    return rows
