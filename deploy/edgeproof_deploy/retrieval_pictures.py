"""What the report shows of searches among objects: figures by both definitions, curves, and rankings."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeproof_data.objects import ObjectSet
from edgeproof_data.sets import NO_LABEL, ImageSet
from edgeproof_deploy.answers import Answers, spread
from edgeproof_deploy.examples import thumbnail
from edgeproof_train.object_figures import search_of
from edgeproof_train.retrieval.curves import pr_curve
from edgeproof_train.retrieval.differences import difference_of
from edgeproof_train.retrieval.figures import DEFINITIONS
from edgeproof_train.retrieval.protocols import Search, parts_of
from edgeproof_train.retrieval.search import directions, top_k

MOST_QUERIES = 8
NEAREST = 6
DIGITS = 4


def retrieval_pictures(answers: Answers) -> dict[str, Any] | None:
    """Return what teacher and shipped form find among the test objects; None where these have no labels.

    Returns:
        `form`, `views`; `gallery`, how many objects the data have for searches, None where those of test
        search each other; `figures` by model, protocol and definition; `differences` of the form's mAP
        (standard) to the teacher's by protocol; `curves` (eleven points, all classes) by model and
        definition; `rankings` of some queries.
    """
    data, found, images = answers.data, answers.found, answers.data.split("test")
    if not isinstance(images, ObjectSet) or not (images.labels != NO_LABEL).any():
        return None
    searches = {
        found.shipped: search_of(data, "test", images, found.embeddings, lambda *_: gallery_of(answers))
    }
    if data.has_teacher and not data.class_scores:
        rows = data.teacher_rows("test", images)
        searches = {"teacher": search_of(data, "test", images, rows, data.teacher_rows), **searches}
    parts = {name: parts_of(one, images.class_names, data.source.unseen) for name, one in searches.items()}
    if not parts[found.shipped]:
        return None
    return {
        "form": found.shipped,
        "views": images.view_count,
        "gallery": len(searches[found.shipped].gallery) if searches[found.shipped].own is None else None,
        "figures": {
            model: {
                protocol: {definition: part.figures(definition) for definition in DEFINITIONS}
                for protocol, part in protocols.items()
            }
            for model, protocols in parts.items()
        },
        "differences": differences(parts.get("teacher", {}), parts[found.shipped]),
        "curves": {
            model: {definition: curve(one, definition) for definition in DEFINITIONS}
            for model, one in searches.items()
        },
        "rankings": rankings(answers, images, searches[found.shipped]),
    }


def gallery_of(answers: Answers) -> np.ndarray:
    """Return the shipped form's embeddings of the objects that the data have for searches."""
    assert answers.found.gallery is not None
    return answers.found.gallery


def differences(teacher: dict[str, Search], shipped: dict[str, Search]) -> dict[str, dict[str, float]]:
    """Return the change of mAP (standard) with its 95 % bootstrap interval, by protocol."""
    return {
        name: difference_of(teacher[name].measures()["map"], part.measures()["map"])
        for name, part in shipped.items()
        if name in teacher
    }


def curve(search: Search, definition: Any) -> list[float]:
    """Return the precision at a recall of 0, 0.1, ... 1."""
    given = search.queries, search.query_labels, search.gallery, search.gallery_labels, search.own
    return [round(float(value), DIGITS) for value in pr_curve(*given, definition)[1]]


def rankings(answers: Answers, images: ObjectSet, search: Search) -> list[dict[str, Any]]:
    """Return some queries, evenly spread, with the objects that are nearest to each."""
    asked = np.flatnonzero(images.labels != NO_LABEL)
    searched: ImageSet = images.subset(asked)
    if search.own is None:
        searched = answers.data.split("gallery")
    chosen = spread(np.arange(len(asked)), MOST_QUERIES)
    k = min(NEAREST, len(search.gallery) - (search.own is not None))
    gallery = directions(search.gallery, "gallery")
    own = None if search.own is None else search.own[chosen]
    places, cosines = top_k(directions(search.queries[chosen], "queries"), gallery, k, own)
    unseen = answers.data.source.unseen
    shown = []
    for query, found, near in zip(chosen.tolist(), places.tolist(), cosines.tolist(), strict=True):
        label = int(images.labels[asked[query]])
        name = images.class_names[label]
        nearest = [
            pictured(searched, place)
            | {"cosine": round(cosine, DIGITS), "right": search.gallery_labels[place] == label}
            for place, cosine in zip(found, near, strict=True)
        ]
        asking = pictured(images, int(asked[query])) | {"seen": name not in unseen}
        shown.append({"query": asking, "nearest": [{**one, "right": bool(one["right"])} for one in nearest]})
    return shown


def pictured(objects: ImageSet, index: int) -> dict[str, Any]:
    """Return an object's path, class and the first view that is shown of it."""
    label = int(objects.labels[index])
    name = objects.class_names[label] if label != NO_LABEL else None
    return {"path": objects.paths[index], "class": name, "thumbnail": thumbnail(objects.file(index))}
