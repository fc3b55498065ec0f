"""`Predictor.predict` from file to labels, against decoding, preprocessing and a bare session run.

What is left between the two is our own: checks, the head, sorting, and the objects that carry the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_benchmarks.intervals import median_interval
from edgeproof_benchmarks.latency import Latency, interleave, ratio
from edgeproof_benchmarks.machine.conditions import Watch
from edgeproof_benchmarks.record import keep, parser, timing_of
from edgeproof_data.folders import list_images
from edgeproof_deploy.runtime.predictor import Predictor
from edgeproof_deploy.runtime.preprocess import open_image

ROUNDS_MORE = 3
"""Short rounds: what is looked for is small beside the drift of a machine."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Predict images one at a time in both ways in turns, print and keep the figures."""
    options_parser = parser("predict_overhead", __doc__, seconds=15.0)
    options_parser.add_argument("bundle", type=Path, help="a bundle: folder or .tar")
    options_parser.add_argument("images", type=Path, help="a folder of images")
    options_parser.add_argument("--threads", type=int, default=1)
    options_parser.add_argument("--most", type=int, default=64, help="how many of the images to use")
    options = options_parser.parse_args(arguments)
    found = [options.images / name for name in list_images(options.images)]
    files = found[:: max(1, len(found) // options.most)][: options.most]
    predictor = Predictor.open(options.bundle, threads=options.threads)
    turns = {name: cycle(files) for name in ("predict", "bare", "session")}

    def predict() -> None:
        predictor.predict([next(turns["predict"])])

    def bare() -> None:
        image = open_image(next(turns["bare"]))
        predictor.session.run({"image": predictor.preprocess(image)[None]})

    pixels = predictor.preprocess(open_image(files[0]))[None]
    calls = {
        "predict": predict,
        "decode + preprocess + session": bare,
        "session alone": lambda: predictor.session.run({"image": pixels}),
    }
    watch = Watch()
    timing = timing_of(options)
    times = interleave(
        calls,
        seconds=timing.seconds,
        warmup_seconds=timing.warmup_seconds,
        rounds=timing.rounds * ROUNDS_MORE,
    )
    return keep(
        options,
        "predict_overhead",
        arguments,
        settings={
            "images": len(files),
            "threads": options.threads,
            "image_size": predictor.preprocess.image_size,
            "labels": len(predictor.head.labels),
        },
        latencies=times,
        ratios={"predict / bare": ratio(times["predict"], times["decode + preprocess + session"])},
        figures={"overhead_of_session": overhead(times)},
        conditions=watch.end(times),
    )


def overhead(times: dict[str, Latency]) -> dict[str, float]:
    """Return what `predict` adds beyond decoding, preprocessing and the session, as a share of the session.

    `median` is over the rounds, `low` and `high` are the ends of the interval of the sign test.
    """
    whole, bare, session = (
        np.array(times[name].rounds_p50)
        for name in ("predict", "decode + preprocess + session", "session alone")
    )
    shares = ((whole - bare) / session).tolist()
    within = median_interval(shares)
    figures = {"median": float(np.median(shares)), "low": within.low, "high": within.high}
    return {name: round(value, 4) for name, value in figures.items()}


if __name__ == "__main__":
    main()
