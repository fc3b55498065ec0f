"""`python -m edgeproof_deploy.runtime BUNDLE IMAGE|FOLDER...`: say what is on images, without PyTorch.

A bundle that looks at objects takes each folder of views as one object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeproof_deploy.runtime.predictor import Prediction, Predictor
    from edgeproof_deploy.runtime.preprocess import ImageError


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m edgeproof_deploy.runtime", description=__doc__)
    parser.add_argument("bundle", help="folder or .tar of a bundle")
    parser.add_argument(
        "images", nargs="*", metavar="image", help="image files, or folders; of objects, each with its views"
    )
    parser.add_argument("--object", action="store_true", help="the images are views of one object")
    parser.add_argument(
        "--self-test",
        action="store_true",
        help="compare what the bundle's own images give here with what they gave when it was made",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--top", type=positive, default=5, help="labels to print for each image (default: 5)")
    parser.add_argument("--labels", help="choose between these labels only: a file with one a line, or a,b,c")
    parser.add_argument("--engine", default="onnxruntime", help="what runs the model (default: onnxruntime)")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where it runs (default: cpu)"
    )
    parser.add_argument("--model", help="ONNX file of the bundle (default: the recommended one)")
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="build a TensorRT plan where none of the bundle fits this machine",
    )
    parser.add_argument("--threads", type=positive, help="threads within one operator")
    return parser


def positive(text: str) -> int:
    """Return a whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0; 1 an image or the bundle cannot be used; 2 usage error; 3 the self-test failed; 5 a package or a
        device is missing.
    """
    parser = make_parser()
    options = parser.parse_args(arguments)
    if bool(options.images) == options.self_test or (options.object and options.self_test):
        parser.error("expected images, or --self-test alone")
    try:
        from edgeproof_deploy.runtime.errors import BundleError, LabelError, RequestError, UnavailableError
        from edgeproof_deploy.runtime.predictor import Predictor

        check_engine(parser, options)
    except ModuleNotFoundError as error:
        return fail(f"{error.name} is not installed: pip install numpy pillow onnxruntime", 5)
    broken: list[ImageError] = []
    try:
        labels = read_labels(options.labels) if options.labels is not None else None
        predictor = Predictor.open(
            options.bundle,
            options.engine,
            options.threads,
            options.device,
            options.model,
            rebuild=options.rebuild,
        )
        if options.self_test:
            return self_test(predictor, options.engine, options.json, options.model)
        asked = as_one_object(predictor, options.images) if options.object else options.images
        predictions = predictor.predict(asked, options.top, labels, broken=broken)
    except (BundleError, LabelError, RequestError, UnavailableError) as error:
        return fail(str(error), error.exit_code)
    except OSError as error:
        return fail(f"{error.filename or options.bundle}: {error.strerror or error}", 1)
    if options.json:
        print(as_json(predictions, broken))
    elif predictions:
        print(as_text(predictions))
    for error in broken:
        fail(str(error), 1)
    return 1 if broken else 0


def check_engine(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a usage error where there is no such engine, or nothing that it could rebuild."""
    from edgeproof_deploy.runtime.session import ENGINES, PLANS

    if options.engine not in ENGINES:
        parser.error(f"no engine {options.engine!r}, expected one of {', '.join(ENGINES)}")
    if options.rebuild and options.engine not in PLANS:
        parser.error(f"--rebuild has no effect with engine {options.engine}, only with {' or '.join(PLANS)}")


def as_one_object(predictor: Predictor, images: Sequence[str | Path]) -> list[list[str | Path]]:
    """Return images as the views of one object.

    Raises:
        RequestError: the bundle looks at single images, or one of the images is a folder.
    """
    from edgeproof_deploy.runtime.errors import RequestError

    if not predictor.takes_views:
        raise RequestError("this bundle looks at one image at a time: --object is for bundles of views")
    folders = [image for image in images if Path(image).is_dir()]
    if folders:
        raise RequestError(f"{folders[0]} is a folder, which is an object of its own: leave --object away")
    return [list(images)]


def self_test(predictor: Predictor, engine: str, as_json_text: bool, model: str | None = None) -> int:
    """Run the bundle's self-test and print how it went.

    Returns:
        0, or 3 if it failed.

    Raises:
        BundleError: the bundle carries none, or it is damaged.
    """
    from edgeproof_deploy.runtime.self_test import run_self_test
    from edgeproof_deploy.runtime.session import model_read

    onnx = model_read(predictor.bundle, engine, model)
    found = run_self_test(predictor.bundle, predictor.preprocess, predictor.session, onnx)
    if as_json_text:
        print(json.dumps(vars(found) | {"engine": engine}, indent=2, ensure_ascii=False))
    else:
        what = "objects" if predictor.takes_views else "photos"
        print(f"{onnx} in {engine}, {found.photos} {what}: cosine to what it gave when it was made")
        print(f"at least {found.cosine_min:.6f}, to the fp32 student {found.reference_cosine_min:.6f}")
        print("\n".join(found.failures) or "the self-test passed")
    return 3 if found.failures else 0


def fail(message: str, exit_code: int) -> int:
    """Print an error and return its exit code."""
    print(f"error: {message}", file=sys.stderr)
    return exit_code


def read_labels(text: str) -> list[str]:
    """Return the labels of a file with one a line, or of a list with commas."""
    file = Path(text)
    parts = file.read_text(encoding="utf-8").splitlines() if file.is_file() else text.split(",")
    return [part.strip() for part in parts if part.strip()]


def as_text(predictions: Sequence[Prediction]) -> str:
    """Return each image with its labels below it."""
    lines = []
    for prediction in predictions:
        views = f" ({prediction.views} view{'s' if prediction.views > 1 else ''})" if prediction.views else ""
        lines.append(f"{prediction.path}{views}")
        lines += [f"  {probability:.3f}  {label}" for label, probability in prediction.labels]
        if prediction.nearest:
            lines.append("  nearest objects, by cosine:")
        lines += [f"  {cosine:6.3f}  {name}  ({label})" for name, label, cosine in prediction.nearest]
    return "\n".join(lines)


def nearest_of(prediction: Prediction) -> list[dict[str, str | float]]:
    """Return the nearest objects of a prediction as plain data."""
    keys = ("object", "label", "cosine")
    return [dict(zip(keys, one)) for one in prediction.nearest]


def as_json(predictions: Sequence[Prediction], broken: Sequence[ImageError]) -> str:
    """Return everything as one JSON document."""
    found = [
        {
            "path": prediction.path,
            "labels": [{"label": label, "probability": value} for label, value in prediction.labels],
            **({"views": prediction.views} if prediction.views else {}),
            **({"nearest": nearest_of(prediction)} if prediction.nearest else {}),
        }
        for prediction in predictions
    ]
    errors = [{"path": error.name, "reason": error.reason} for error in broken]
    return json.dumps({"predictions": found, "errors": errors}, indent=2, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
