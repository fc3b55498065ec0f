"""What the searches of a run come to by how many views are seen, for the student and its teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof.evaluation.searches import Collection, Rows, collections_of, rows_of_teacher, say_remarks
from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import FileTable
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir
from edgeproof_configs.stage import StageContext
from edgeproof_data.gallery_folder import read_gallery
from edgeproof_data.objects import ObjectSet
from edgeproof_data.sets import NO_LABEL, SplitName
from edgeproof_train.embeddings import pooled_features
from edgeproof_train.object_rows import StudentRows
from edgeproof_train.retrieval.differences import difference_of
from edgeproof_train.retrieval.figures import DEFINITIONS
from edgeproof_train.retrieval.protocols import Search, parts_of
from edgeproof_train.run_data import RunData
from edgeproof_train.student import WEIGHTS_FILE, Student


@dataclass(frozen=True)
class Asked:
    """What a study asks of each run.

    Attributes:
        views: how many views of an object are seen; none means as many as the recipe shows.
        gallery_views: how many of those that are searched; as many as of the queries if not given.
        galleries: folders of other collections.
        split: of the queries.
    """

    views: tuple[int, ...] = ()
    gallery_views: int | None = None
    galleries: tuple[Path, ...] = ()
    split: SplitName = "test"


def run_data(run: RunDir, device: str) -> RunData:
    """Return the data side of a trained run."""
    recipe = load_recipe(str(run.path / "recipe.resolved.yaml")).recipe
    return RunData(StageContext(recipe, run, device, strict=False, files=FileTable(run.path / "files.tsv")))


def measure(run: RunDir, asked: Asked, device: str, scratch: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each model, protocol, number of views and definition.

    Args:
        run: trained.
        asked: of it.
        device: where its models run.
        scratch: where features of views are kept, so that a view is never encoded twice.
    """
    data = run_data(run, device)
    images: Any = data.split(asked.split)
    own = Collection(asked.split, images, "gallery", own_gallery(data, asked.split))
    check_objects(own, asked, data.source.root)
    counts = asked.views or (images.view_count,)
    others = [read_gallery(folder, max(counts)) for folder in asked.galleries]
    for other in others:
        say_remarks(other, max(counts))
    across = {name: one for other in others for name, one in collections_of(other, own).items()}
    models = models_of(data, run, device, scratch)
    everywhere = {name: rows for name, rows in models.items() if name == "student" or data.teacher.live}
    for views in counts:
        searches = {
            model: parts_of(
                search_at(own, rows, views, asked.gallery_views), images.class_names, data.source.unseen
            )
            for model, rows in models.items()
        }
        for name, one in across.items():
            if views <= fewest(one):
                for model, rows in everywhere.items():
                    searches[model][name] = search_at(one, rows, views, None)
        yield from rows_at(searches, views, asked.gallery_views or views)


def rows_at(
    searches: dict[str, dict[str, Search]], views: int, gallery_views: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one number of views; those of the student with what it lacks of its teacher."""
    teacher = searches.get("teacher", {})
    for model, protocols in searches.items():
        for protocol, search in protocols.items():
            if not search.answerable:
                continue
            change: dict[str, float] = {}
            if model == "student" and protocol in teacher:
                reference = teacher[protocol].measures()["map"]
                change = difference_of(reference, search.measures()["map"])
            for definition in DEFINITIONS:
                seen = {"views": views, "gallery_views": gallery_views, "definition": definition}
                told = {f"map_{key}": value for key, value in change.items() if definition == "standard"}
                yield {"model": model, "protocol": protocol, **seen, **search.figures(definition), **told}


def search_at(collection: Collection, rows: Rows, views: int, gallery_views: int | None) -> Search:
    """Return the search with so many views of each query, and so many of what is searched."""
    wanted = gallery_views or views
    searched = None if collection.searched is None else collection.searched.showing(wanted)
    shown = replace(collection, queries=collection.queries.showing(wanted), searched=searched)
    found = shown.search(rows)
    if wanted == views:
        return found
    asked = np.flatnonzero(collection.queries.labels != NO_LABEL)
    return found.asked_by(rows(collection.name, collection.queries.showing(views), None)[asked])


def own_gallery(data: RunData, split: SplitName) -> ObjectSet | None:
    """Return the data's gallery for test queries, if there is one."""
    if split != "test" or "gallery" not in data.parts:
        return None
    found = data.split("gallery")
    assert isinstance(found, ObjectSet)
    return found


def fewest(collection: Collection) -> int:
    """Return how many views the object has that has fewest."""
    sets = [collection.queries, *([] if collection.searched is None else [collection.searched])]
    return min(len(files) for objects in sets for files in objects.views)


def check_objects(collection: Collection, asked: Asked, where: Path) -> None:
    """Refuse what are no labelled objects, and more views than an object has.

    Raises:
        UsageError: they are not, or have fewer.
    """
    images = collection.queries
    if not isinstance(images, ObjectSet) or not (images.labels != NO_LABEL).any():
        raise UsageError("a study needs labelled objects with several views", where=where)
    there, most = fewest(collection), max([0, *asked.views, asked.gallery_views or 0])
    if most > there:
        raise UsageError(
            f"{most} views are asked for, and an object has {there}",
            where=where,
            fix=f"choose at most {there}, or leave such objects out of the data",
        )


def models_of(data: RunData, run: RunDir, device: str, scratch: Path) -> dict[str, Rows]:
    """Return what gives the rows of teacher and student; the features of views are kept in `scratch`."""
    record = run.record("train")
    assert record is not None
    of_weights = record.outputs[WEIGHTS_FILE]["sha256"][:16]
    loaded = Student.load(run.stage("train"))
    if data.class_scores:
        return {"student": lambda _, objects, views: features_of(loaded, objects, views, device)}
    student = StudentRows(loaded, device, scratch / f"student-{of_weights}")
    if not data.has_teacher:
        return {"student": student}
    teacher = rows_of_teacher(data, scratch / "teacher")
    # A teacher that is asked for no number of views pools all that are stored.
    return {
        "teacher": lambda name, objects, views: teacher(name, objects, views or objects.view_count),
        "student": student,
    }


def features_of(student: Student, objects: ObjectSet, views: int | None, device: str) -> np.ndarray:
    """Return what the classifier of a student reads, which is what objects are compared by."""
    shown = objects if views is None else objects.showing(views)
    return pooled_features(student, shown, device=device)
