"""Which objects ask and which are searched in an evaluation, and what each model makes of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeproof.evaluation.answers import BATCH, Answers, student_rows
from edgeproof.evaluation.subject import Subject
from edgeproof_configs.errors import UsageError
from edgeproof_data.cache import EmbeddingCache
from edgeproof_data.gallery_folder import OtherGallery, read_gallery
from edgeproof_data.objects import ObjectSet
from edgeproof_data.readable import readable
from edgeproof_data.sets import NO_LABEL, SplitName
from edgeproof_train.embed import embed_split
from edgeproof_train.embeddings import embed_images, pooled_features
from edgeproof_train.object_rows import TeacherRows
from edgeproof_train.retrieval.protocols import Search, parts_of
from edgeproof_train.run_data import RunData

GALLERY = "gallery"
"""Name of the part of the data that test queries search, where there is one."""
Rows = Callable[[str, ObjectSet, int | None], np.ndarray]
"""From the name of some objects, the objects and how many views are seen, to what a model gives of them."""


@dataclass(frozen=True)
class Collection:
    """Objects that ask, by name, and those that are searched; None where they search each other."""

    name: str
    queries: ObjectSet
    searched_name: str = ""
    searched: ObjectSet | None = None

    def search(self, rows: Rows, views: int | None = None) -> Search:
        """Return the search by what a model gives, the queries being seen from so many views.

        Objects without a label do not ask.
        """
        whole = rows(self.name, self.queries, None)
        asked = np.flatnonzero(self.queries.labels != NO_LABEL)
        if self.searched is None:
            found = Search.among(whole, self.queries.labels)
        else:
            gallery = rows(self.searched_name, self.searched, None)
            found = Search(whole[asked], self.queries.labels[asked], gallery, self.searched.labels)
        return found if views is None else found.asked_by(rows(self.name, self.queries, views)[asked])

    @property
    def query_paths(self) -> list[str]:
        """Paths of the objects that ask, in the order of the search."""
        return [self.queries.paths[i] for i in np.flatnonzero(self.queries.labels != NO_LABEL)]

    @property
    def searched_paths(self) -> list[str]:
        """Paths of the objects that are searched, in the order of the search."""
        return self.query_paths if self.searched is None else list(self.searched.paths)


@dataclass(frozen=True)
class Searches:
    """Who searches where.

    Attributes:
        own: the run's objects.
        others: those of another folder: among themselves, and searched by the run's queries of its classes.
        by_model: by model and protocol.
    """

    own: Collection
    others: dict[str, Collection]
    by_model: dict[str, dict[str, Search]]


def asked_of(
    subject: Subject,
    split: SplitName,
    student: Answers,
    teacher: Answers | None,
    *,
    other: Path | None = None,
    query_views: int | None = None,
    scratch: Path | None = None,
) -> Searches | None:
    """Return the searches of teacher and student; None where the data are no labelled objects.

    All processes of a `torchrun` must call it; on those but the first there are no searches.

    Args:
        subject: whose models.
        split: of the queries.
        student: what it said of them.
        teacher: the same, where there is one.
        other: a folder of another collection.
        query_views: let queries be seen from so many views, too.
        scratch: where the teacher's embeddings of that collection are kept; without it the student alone
            searches there.

    Raises:
        UsageError: an option has no effect on these data, or an object has fewer views.
    """
    images = student.images
    if not isinstance(images, ObjectSet) or not (images.labels != NO_LABEL).any():
        if other is not None or query_views is not None:
            raise UsageError("--gallery and --query-views are for labelled objects with several views")
        return None
    check_views(images, query_views)
    own = Collection(split, images, GALLERY, searched_by(subject, split))
    folder = None if other is None else read_gallery(other, images.view_count)
    others = {} if folder is None else collections_of(folder, own)
    if folder is not None and subject.processes.first:
        say_remarks(folder, images.view_count)
    searches = {
        "student": searches_in(subject, own, others, rows_of_student(subject, student, split), query_views)
    }
    if teacher is not None and teacher.features is not None and subject.data is not None:
        rows = rows_of_teacher(subject.data, None if scratch is None else scratch / "galleries")
        known = others if scratch is not None and subject.data.teacher.live else {}
        searches["teacher"] = searches_in(subject, own, known, rows, query_views)
    return Searches(own, others, searches)


def say_remarks(other: OtherGallery, views: int) -> None:
    """Say on stderr what of another collection is not as it was asked for."""
    for remark in other.remarks(views):
        print(remark, file=sys.stderr, flush=True)


def check_views(images: ObjectSet, wanted: int | None) -> None:
    """Refuse more views than an object has, or as many as are shown anyway."""
    fewest = min(len(files) for files in images.views)
    if wanted is None or 1 <= wanted < images.view_count:
        return
    raise UsageError(
        f"--query-views {wanted}: queries are shown with {images.view_count} views already"
        if wanted >= images.view_count and fewest >= wanted
        else f"--query-views {wanted}: an object has {fewest} views",
        fix=f"choose 1 to {images.view_count - 1}" if images.view_count > 1 else "leave it away",
    )


def searched_by(subject: Subject, split: SplitName) -> ObjectSet | None:
    """Return the data's gallery for test queries, if there is one, without what cannot be read."""
    if split != "test" or subject.source.gallery() is None:
        return None
    if subject.data is not None:
        found = subject.data.split("gallery")
    else:
        found = subject.processes.once(lambda: readable(subject.source.gallery())[0])  # pyright: ignore[reportArgumentType]
    assert isinstance(found, ObjectSet)
    return found


def collections_of(other: OtherGallery, own: Collection) -> dict[str, Collection]:
    """Return the protocols across collections: `NAME` within the other one, `to NAME` from the run's queries.

    The second is there where both have a class of the same name.
    """
    objects = f"{other.name} gallery"
    if other.queries is None:
        found = {other.name: Collection(objects, other.objects)}
    else:
        found = {other.name: Collection(f"{other.name} queries", other.queries, objects, other.objects)}
    names = other.objects.class_names
    place = np.array([names.index(name) if name in names else -1 for name in own.queries.class_names] + [-1])
    labels = place[own.queries.labels]
    if np.isin(labels, other.objects.labels).any():
        queries = replace(own.queries, labels=labels, class_names=names)
        found[f"to {other.name}"] = Collection(own.name, queries, objects, other.objects)
    return found


def searches_in(
    subject: Subject, own: Collection, others: dict[str, Collection], rows: Rows, query_views: int | None
) -> dict[str, Search]:
    """Return a model's searches by protocol, on the first process; no others call for anything else."""
    ways = {"": None} if query_views is None else {"": None, views_said(query_views): query_views}
    made: dict[str, Search] = {}
    for words, views in ways.items():
        search = own.search(rows, views) if subject.processes.first else prepared(own, rows, views)
        if search is not None:
            parts = parts_of(search, own.queries.class_names, subject.source.unseen)
            made |= {f"{name}{words}": part for name, part in parts.items()}
    for name, collection in others.items():
        search = collection.search(rows) if subject.processes.first else prepared(collection, rows, None)
        made |= {} if search is None else {name: search}
    return made


def prepared(collection: Collection, rows: Rows, views: int | None) -> None:
    """Do this process's share of what the first one searches in."""
    rows(collection.name, collection.queries, None)
    if collection.searched is not None:
        rows(collection.searched_name, collection.searched, None)
    if views is not None:
        rows(collection.name, collection.queries, views)


def views_said(count: int) -> str:
    """Return what is added to a protocol's name where queries are seen from few views."""
    return f", {count} view{'s' * (count > 1)} asked"


def rows_of_student(subject: Subject, answers: Answers, split: SplitName) -> Rows:
    """Return what gives the student's rows of objects; those that are known are not made again."""
    known: dict[tuple[str, int | None], np.ndarray] = {}
    if answers.features is not None:
        known[split, None] = answers.features
    run = pooled_features if subject.class_scores else embed_images

    def rows(name: str, objects: ObjectSet, views: int | None) -> np.ndarray:
        if (name, views) not in known:
            shown = objects if views is None else objects.showing(views)
            known[name, views] = student_rows(subject, shown, run, name)
        return known[name, views]

    return rows


def rows_of_teacher(data: RunData, folder: Path | None) -> Rows:
    """Return what gives the teacher's rows of objects; None views are all of them.

    Args:
        data: of a run, whose cache holds the views of its parts.
        folder: where the embeddings of other objects are kept; without it they cannot be had.
    """
    made: dict[str, EmbeddingCache] = {}
    parts: tuple[str, ...] = data.parts

    def rows(name: str, objects: ObjectSet, views: int | None) -> np.ndarray:
        if name not in made and name in parts:
            made[name] = data.cache(name)  # pyright: ignore[reportArgumentType]
        elif name not in made:
            assert folder is not None
            each, images = data.teacher.per_view(), objects.view_images()
            made[name] = embed_split(each, images, folder / name, batch_size=BATCH, workers=0)
        return TeacherRows(data.teacher, made.__getitem__)(name, objects, views)

    return rows
