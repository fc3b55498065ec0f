"""`predict`: the runtime that runs on the device, with this command line's errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgeproof.bundles import bundle_of, open_student
from edgeproof_configs.errors import EdgeproofError, MissingPackageError, UsageError
from edgeproof_deploy.runtime.__main__ import as_json, as_one_object, as_text, read_labels
from edgeproof_deploy.runtime.errors import BundleError, LabelError, RequestError, UnavailableError
from edgeproof_deploy.runtime.predictor import ENGINES, Predictor
from edgeproof_deploy.runtime.preprocess import ImageError
from edgeproof_deploy.runtime.session import PLANS


def predict(
    place: Path,
    images: Sequence[Path],
    *,
    engine: str,
    labels: str | None,
    top: int,
    as_json_text: bool,
    rebuild: bool = False,
    one_object: bool = False,
) -> int:
    """Print the best labels of each image, or object, and return the exit code.

    Args:
        place: a bundle, or a run that has one.
        images: image files, or folders of them; those that cannot be read are told on stderr, and the others
            are still predicted. Where the bundle looks at objects each folder is one, and a file an object
            with one view.
        engine: what runs the model.
        labels: choose among these labels only: a file with one a line, or `a,b,c`. With a text tower in the
            bundle they may be any words.
        top: how many labels an image.
        as_json_text: print one JSON document.
        rebuild: build a plan from the bundle's ONNX file where none of the bundle fits this machine.
        one_object: the images are views of one object.

    Raises:
        UsageError: there is no bundle, it does not know one of the labels, nothing can be rebuilt, or it
            looks at single images and is asked about an object.
        EdgeproofError: a file of the bundle was changed or is missing.
        MissingPackageError: the engine cannot be used here.
    """
    bundle = bundle_of(place)
    broken: list[ImageError] = []
    with runtime_errors(bundle):
        chosen = read_labels(labels) if labels is not None else None
        predictor = open_predictor(place, bundle, engine, rebuild)
        asked = as_one_object(predictor, images) if one_object else list(images)
        predictions = predictor.predict(asked, top, chosen, broken=broken)
    if as_json_text:
        print(as_json(predictions, broken))
    elif predictions:
        print(as_text(predictions))
    for error in broken:
        print(f"error: {error}", file=sys.stderr)
    return 1 if broken else 0


@contextmanager
def runtime_errors(bundle: Path) -> Iterator[None]:
    """Turn the errors of the runtime into those of the command line."""
    try:
        yield
    except BundleError as error:
        raise EdgeproofError(str(error), where=bundle, fix="copy or make the bundle again") from error
    except LabelError as error:
        raise UsageError(str(error), where=bundle / "labels.txt") from error
    except RequestError as error:
        raise UsageError(str(error), where=bundle) from error
    except UnavailableError as error:
        raise MissingPackageError(str(error), fix="see `edgeproof ls engines`") from error


def open_predictor(place: Path, bundle: Path, engine: str, rebuild: bool = False) -> Predictor:
    """Return a predictor that runs on an engine; those that need more than a bundle find it in the run.

    Raises:
        UsageError: there is no such engine, or a bundle alone does not hold what it runs.
        MissingPackageError: it cannot run on this machine.
    """
    if rebuild and engine not in PLANS:
        raise UsageError(
            f"--rebuild has no effect with engine {engine}: it runs no plan",
            fix=f"leave it away, or choose --engine {' or '.join(PLANS)}",
        )
    if engine in ENGINES:
        return Predictor.open(bundle, engine, rebuild=rebuild)
    session = open_student(place, engine)
    base = Predictor.open(bundle)
    base.close()
    return Predictor(base.bundle, base.preprocess, session, base.head)
