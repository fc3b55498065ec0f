"""How long it takes to measure and to search large galleries, and what few views save.

Vectors are made up: classes lie around random directions, so that neither all nor none of what is near is
right. Searches for the nearest are compared with faiss, the exact index and a graph, whose recall is told. An
ablation over numbers of views is compared with encoding objects anew for each number.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeproof_benchmarks.latency import Latency, Ratio, alternate, ratio
from edgeproof_benchmarks.machine.conditions import Watch
from edgeproof_benchmarks.pictures import image_set
from edgeproof_benchmarks.record import keep, parser
from edgeproof_data.objects import ObjectSet
from edgeproof_data.sets import ImageSet
from edgeproof_train.embeddings import embed_images
from edgeproof_train.object_rows import StudentRows
from edgeproof_train.retrieval.curves import pr_curve
from edgeproof_train.retrieval.faiss_search import LINKS, made, recall_of
from edgeproof_train.retrieval.figures import DEFINITIONS, retrieval_figures
from edgeproof_train.retrieval.search import directions, top_k
from edgeproof_train.students.multi_view import MultiViewStudent

NOISE = 3.0
STUDENT = "mobilenetv2_100"


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        queries: of the metrics and of the searches.
        gallery: items that they search.
        dim: D.
        classes: K.
        k: nearest items that are searched for.
        objects: of the ablation.
        views: of each object.
        shown: numbers of views of the ablation.
        side: of a view as the student takes it, in pixels.
    """

    queries: int = 10_000
    gallery: int = 10_000
    dim: int = 512
    classes: int = 40
    k: int = 100
    objects: int = 24
    views: int = 12
    shown: tuple[int, ...] = (1, 2, 4, 8, 12)
    side: int = 128


QUICK = Sizes(200, 300, 16, 5, 10, 4, 4, (1, 2, 4), 32)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Time metrics, searches and an ablation, print and keep the figures."""
    options_parser = parser("retrieval", __doc__)
    options_parser.add_argument("--rounds", type=int, default=5, help="of metrics and searches")
    options = options_parser.parse_args(arguments)
    sizes = QUICK if options.quick else Sizes()
    rounds = 2 if options.quick else options.rounds
    watch = Watch()
    latencies, ratios, figures = searching(sizes, rounds)
    with tempfile.TemporaryDirectory() as scratch:
        objects = made_up_objects(Path(scratch) / "views", sizes)
        more, ratio_of_views = ablation(objects, sizes, rounds)
    latencies |= more
    figures["peak memory, GB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    return keep(
        *(options, "retrieval", arguments),
        settings={**vars(sizes), "shown": list(sizes.shown), "torch_threads": torch.get_num_threads()},
        latencies=latencies,
        ratios=ratios | ratio_of_views,
        figures=figures,
        conditions=watch.end(latencies),
    )


def searching(sizes: Sizes, rounds: int) -> tuple[dict[str, Latency], dict[str, Ratio], dict[str, Any]]:
    """Return the times of metrics and searches, ratios to the exact search, and what was found."""
    (queries, asked), (gallery, labels) = (
        made_up(sizes, count, seed) for seed, count in enumerate(counts(sizes))
    )
    size = f"{sizes.queries} x {sizes.gallery}"
    calls: dict[str, Callable[[], Any]] = {
        f"metrics {definition}, {size}": partial(
            retrieval_figures, queries, asked, gallery, labels, None, definition
        )
        for definition in DEFINITIONS
    }
    calls[f"curve of 11 points, {size}"] = partial(pr_curve, queries, asked, gallery, labels)
    unit = directions(queries, "queries"), directions(gallery, "gallery")
    narrow = tuple(rows.astype(np.float32) for rows in unit)
    flat, graph = made(narrow[1], "flat"), made(narrow[1], "hnsw")
    ours, faiss_flat, faiss_graph = (
        f"{sizes.k} nearest, {name}" for name in ("exact", "faiss flat", "faiss graph")
    )
    calls |= {
        ours: partial(top_k, *unit, sizes.k),
        faiss_flat: partial(flat.search, narrow[0], sizes.k),
        faiss_graph: partial(graph.search, narrow[0], sizes.k),
        "make faiss graph": partial(made, narrow[1], "hnsw"),
    }
    latencies = alternate(calls, rounds)
    exact = top_k(*unit, sizes.k)[0]
    figures: dict[str, Any] = {
        f"recall of {name}": round(recall_of(index.search(narrow[0], sizes.k)[1], exact), 5)
        for name, index in ((faiss_flat, flat), (faiss_graph, graph))
    }
    figures["links of the graph"] = LINKS
    found = retrieval_figures(queries, asked, gallery, labels)
    figures |= {f"standard {name}": round(found[name], 4) for name in ("map", "ndcg", "anmrr")}
    ratios = {
        f"{name} / {ours}": ratio(latencies[name], latencies[ours]) for name in (faiss_flat, faiss_graph)
    }
    return latencies, ratios, figures


def counts(sizes: Sizes) -> tuple[int, int]:
    """Return how many queries and items there are."""
    return sizes.queries, sizes.gallery


def made_up(sizes: Sizes, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings around the directions of their classes, and the classes."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(sizes.classes, sizes.dim))
    labels = random.integers(0, sizes.classes, count)
    return (centres[labels] + NOISE * random.normal(size=(count, sizes.dim))).astype(np.float32), labels


def made_up_objects(scratch: Path, sizes: Sizes) -> ObjectSet:
    """Return objects whose views are made-up photographs; time does not depend on what they show."""
    images: ImageSet = image_set(None, scratch, sizes.objects * sizes.views)
    views = tuple(
        tuple(images.paths[start : start + sizes.views]) for start in range(0, len(images.paths), sizes.views)
    )
    names = tuple(f"object{number:03d}" for number in range(sizes.objects))
    return ObjectSet(images.root, names, np.zeros(sizes.objects, np.int64), ("thing",), views, sizes.views)


def ablation(objects: ObjectSet, sizes: Sizes, rounds: int) -> tuple[dict[str, Latency], dict[str, Ratio]]:
    """Return how long embeddings by several numbers of views take, each view encoded once, and anew."""
    torch.manual_seed(0)
    settings = {"model": STUDENT, "image_size": sizes.side, "pooling": "mean"}
    config = MultiViewStudent.Config.model_validate(settings)
    student = MultiViewStudent(config, sizes.dim).eval()
    words = ", ".join(map(str, sizes.shown))
    once, anew = f"embeddings by {words} views, each view once", f"embeddings by {words} views, anew"

    def each_once() -> list[np.ndarray]:
        rows = StudentRows(student)
        return [rows("objects", objects, count) for count in sizes.shown]

    def each_anew() -> list[np.ndarray]:
        return [embed_images(student, objects.showing(count)) for count in sizes.shown]

    for one, other in zip(each_once(), each_anew(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    latencies = alternate({once: each_once, anew: each_anew}, max(2, rounds // 2))
    return latencies, {"each view once / anew": ratio(latencies[once], latencies[anew])}


if __name__ == "__main__":
    main()
