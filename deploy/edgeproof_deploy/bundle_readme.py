"""The README of a bundle: how to run it, and how to do without edgeproof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from edgeproof_configs.files import read_json
from edgeproof_deploy.head_words import head_words
from edgeproof_deploy.runtime.head import HEAD_FILE
from edgeproof_deploy.runtime.tensorrt_package import PLAN_ENGINES

if TYPE_CHECKING:
    from edgeproof_deploy.bundle import BundleParts

PURPOSE = {
    "model.onnx": "the student",
    "model.fp16.onnx": "the same in half precision, where that is safe",
    "model.int8.onnx": "the same in INT8, placed as ONNX Runtime computes it fast on x86",
    "model.int8.trt.onnx": "the same in INT8, placed as TensorRT wants it",
    "model.sparse.onnx": "the student with 2:4 sparsity",
    "model.sparse_int8.onnx": "2:4 sparsity and INT8, for ONNX Runtime",
    "model.sparse_int8.trt.onnx": "2:4 sparsity and INT8, for TensorRT",
    "labels.txt": "the K labels, one a line, in the order of the rows",
    "preprocess.json": "from an image to the model's input",
    "parity.json": "how far each form of the student is from the one before it, with limits",
    "report.html": "the report on accuracy, latency and parity",
    "text/encoder.onnx": "the teacher's text tower, from `tokens` to `text_embedding`, for other words",
    "text/encoder.json": "prompt templates, length of a text, and how far the tower is from the teacher's",
    "text/merges.txt": "CLIP's byte-pair merges, from which the number of every token follows",
    "manifest.json": "size and sha256 of every file, and what the bundle was made from",
}
SPECIALIST = {
    "model.onnx": "a model that the head asks about some of the images; it reads them itself",
    "preprocess.json": "from an image to its input",
    "labels.txt": "its classes, in the order of its scores",
}
SELF_TEST = {
    "self_test.json": "digests of what preprocessing makes of the images beside it, and limits",
    "outputs.safetensors": "what each model gave for them, and the fp32 student in PyTorch",
}

SELF_TEST_WORDS = """
`python -m edgeproof_deploy.runtime THIS_FOLDER --self-test` runs the images of `self_test/` and compares what
comes out with what came out when the bundle was made; `edgeproof verify THIS_FOLDER` does so with every model
and engine. {photos} the test set, cut to what the network sees.
"""


TEXT_WORDS = """
It carries the teacher's text tower: `--labels` and `predictor.set_labels([...])` take any words.
"""

GALLERY_WORDS = """
Its head is a gallery: it keeps the embeddings of objects with their names, and answers with the class of the
nearest. A prediction lists the nearest ones with their cosines (`nearest`).
"""

PLAN_WORDS = """
A plan in `engines/` serves the GPUs that are named here, and the version of TensorRT that its `.json` names;
elsewhere `--rebuild` builds one from the ONNX file. Of a plan that was built, not run here, nothing was
measured.
"""


VIEWS_WORDS = """
Each folder is one object and holds its views, any number in any order; it was evaluated with {views}. A
single photo is an object with one view, and `--object a.jpg b.jpg` takes photos as the views of one.
"""


def bundle_readme(parts: BundleParts, names: Sequence[str]) -> str:
    """Return the text.

    Args:
        parts: of the bundle.
        names: the files that were copied into it.
    """
    preprocess = parts.preprocess
    side = preprocess.image_size
    mean, std = list(preprocess.mean), list(preprocess.std)
    listed = sorted({*names, "preprocess.json", "manifest.json"})
    table = "\n".join(f"| `{name}` | {purpose(name, parts)} |" for name in listed)
    head = head_words((parts.head / HEAD_FILE).read_bytes())
    views = preprocess.views
    photos = "Photos in it are from" if views is None else "Views in it are of objects of"
    further = [
        words
        for words, there in (
            (TEXT_WORDS, parts.text and head.open_vocabulary),
            (GALLERY_WORDS, head.keeps_objects),
            (SELF_TEST_WORDS.format(photos=photos), parts.self_test),
        )
        if there
    ]
    verdict = parts.facts.get("verdict")
    said = f"\n{verdict}\n" if verdict else ""
    return f"""# {parts.name}
{said}
## Run it

On the device, with Python 3.10 or newer and no PyTorch:

```
pip install numpy pillow onnxruntime
pip install --no-deps edgeproof
python -m edgeproof_deploy.runtime THIS_FOLDER {"photo.jpg" if views is None else "FOLDER_OF_VIEWS"}
```
{"" if views is None else VIEWS_WORDS.format(views=views)}
`--json` prints JSON, `--top 3` fewer labels, `--labels a,b,c` chooses between some labels. From Python:

```python
from edgeproof_deploy.runtime.predictor import Predictor

predictor = Predictor.open("THIS_FOLDER")
print(predictor.predict("{"photo.jpg" if views is None else "FOLDER_OF_VIEWS"}", top_k=3))
```

Every file is compared with `manifest.json` before it is used. That finds damage and edits.
It is no signature.
{"".join(further)}
## Run it without edgeproof

1. Decode the image to 8-bit RGB, turned as its EXIF orientation says, transparency on white.
2. Resize the short side to {preprocess.resize_size} pixels ({preprocess.interpolation}, antialiased, as
   Pillow does it), then cut {side} x {side} from the centre.
3. `(pixel / 255 - mean) / std` with mean {mean} and std {std}: {tensor_words(side, views)}.
4. Run `{parts.facts.get("model", "model.onnx")}`; {head.steps}

## Files

| file | what it is |
|---|---|
{table}
{PLAN_WORDS if parts.engines else ""}"""


def tensor_words(side: int, views: int | None) -> str:
    """Return name, type and shape of the model's input."""
    if views is None:
        return f"`image`, float32 (batch, 3, {side}, {side})"
    return (
        f"those of all views of an object are\n   `views`, float32 (batch, views, 3, {side}, {side}),"
        " any number of views in any order"
    )


def purpose(name: str, parts: BundleParts) -> str:
    """Return what a file of the bundle is."""
    if name.endswith(".layers.json"):
        return "the layers of the plan, as its package tells them"
    if name.endswith(".json") and name.startswith("engines/"):
        return "what the plan was built from and for, and whether it was run"
    if name == HEAD_FILE:
        return head_words((parts.head / HEAD_FILE).read_bytes()).holds
    if name.startswith("engines/"):
        sidecar = next(file for file in parts.engines if file.name == f"{PurePath(name).stem}.json")
        return plan_words(read_json(sidecar))
    if name.startswith("specialists/"):
        return SPECIALIST[PurePath(name).name]
    if name.startswith("self_test/"):
        return SELF_TEST.get(name.removeprefix("self_test/"), "an image of the self-test")
    return PURPOSE[name]


def plan_words(sidecar: Mapping[str, Any]) -> str:
    """Return what a plan is, and whether it was run where it was built."""
    numbers = ", ".join(sidecar["compute_capabilities"])
    said = f"a {PLAN_ENGINES[sidecar['engine']]} plan for compute capability {numbers}, {sidecar['status']}"
    return f"{said}: {sidecar['reason']}" if sidecar.get("reason") else said
