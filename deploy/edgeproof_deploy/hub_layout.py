"""The files of a model on the Hugging Face hub: card, config, weights in safetensors, and the bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeproof_configs.files import explain_os_errors, write_bytes, write_json, write_text
from edgeproof_deploy.engine import NOT_RUN_HERE
from edgeproof_deploy.runtime.bundle import MANIFEST, Bundle
from edgeproof_deploy.runtime.predictor import PREPROCESS_FILE

BUNDLE_FOLDER = "bundle"
WITH_PHOTOS = ("self_test/", "report.html")
AS_TRAINED = "pytorch fp32"


@dataclass(frozen=True)
class HubModel:
    """What goes to the hub.

    Attributes:
        repo_id: `owner/name`.
        bundle: as it was shipped.
        weights: `model.safetensors` of the student as trained; a bundle alone has none.
        result: `result.json` of the run; a bundle alone has none.
    """

    repo_id: str
    bundle: Bundle
    weights: Path | None = None
    result: Mapping[str, Any] = field(default_factory=dict)

    def photos(self) -> list[str]:
        """Return the files in which images of the data may be seen."""
        return [name for name in sorted(self.bundle.listed) if name.startswith(WITH_PHOTOS)]

    def write(self, folder: Path) -> list[Path]:
        """Write all files into an empty folder and return them.

        Raises:
            BundleError: a file of the bundle is missing or was changed.
            EdgeproofError: the place cannot be written.
        """
        with explain_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name in sorted(self.bundle.listed):
                target = folder / BUNDLE_FOLDER / name
                target.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(target, self.bundle.read(name))
            write_bytes(folder / BUNDLE_FOLDER / MANIFEST, self.bundle.files.read(MANIFEST))
            if self.weights is not None:
                write_bytes(folder / "model.safetensors", self.weights.read_bytes())
        write_json(folder / "config.json", self.bundle.manifest.get("student", {}))
        write_text(folder / "README.md", self.card())
        return sorted(file for file in folder.rglob("*") if file.is_file())

    def card(self) -> str:
        """Return the model card, its figures those of the run or of the bundle's proof."""
        manifest = self.bundle.manifest
        name = self.repo_id.split("/")[-1]
        scores = bool(self._student().get("classes"))
        of_views = "views" in json.loads(self.bundle.read(PREPROCESS_FILE))
        task = "image-classification" if scores else "zero-shot-image-classification"
        if of_views:
            task = "image-feature-extraction"
        asked = "folder_of_views" if of_views else "photo.jpg"
        weights = (
            "`model.safetensors` with `config.json`: the student as trained, in timm's layout."
            if self.weights is not None
            else "There are no PyTorch weights here: they were not in the bundle that this was made of."
        )
        return f"""---
library_name: edgeproof
pipeline_tag: {task}
tags:
- edgeproof
- distillation
- onnx
---
# {name}

{manifest.get("verdict", "")}

{self._student().get("architecture", "A student")}, distilled from
{teacher_words(manifest.get("teacher", {}))} with edgeproof {manifest.get("edgeproof_version")}.

## Use

```python
from huggingface_hub import snapshot_download
from edgeproof_deploy.runtime.predictor import Predictor

predictor = Predictor.open(snapshot_download("{self.repo_id}") + "/{BUNDLE_FOLDER}")
print(predictor.predict("{asked}", top_k=3))
```

It needs numpy, Pillow and onnxruntime, and no PyTorch. {weights}

## Figures

{table(self._rows())}

{machine_words(self.result.get("environment") or manifest.get("environment") or {})}

`bundle/` is what was shipped: models, head, labels, preprocessing and `parity.json`, each with its sha256 in
`bundle/{MANIFEST}`. The licence of the teacher's weights and of the data was not looked at: set one here.
"""

    def _student(self) -> Mapping[str, Any]:
        return self.bundle.manifest.get("student") or {}

    def _rows(self) -> list[tuple[str, ...]]:
        if self.result.get("rows"):
            return [result_row(row) for row in self.result["rows"]]
        pairs = json.loads(self.bundle.read("parity.json")).get("pairs", [])
        return [pair_row(pair) for pair in pairs if pair.get("reference") in ("teacher", AS_TRAINED)]


def result_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a row of `result.json` as cells: form, top-1, cosine to the student as trained, p50, size."""
    metrics, parity = row.get("metrics") or {}, row.get("parity") or []
    pairs = [parity] if isinstance(parity, Mapping) else list(parity)
    cosine = next((pair.get("cosine_mean") for pair in pairs if pair.get("reference") == AS_TRAINED), None)
    latency = ((row.get("latency_ms") or {}).get("batch1") or {}).get("p50")
    name = " ".join(
        part for part in (row["form"], row.get("engine") or "", row.get("precision") or "") if part
    )
    if row.get("status") == NOT_RUN_HERE:
        name += f" ({NOT_RUN_HERE})"
    size = row.get("size_bytes")
    return (
        name,
        percent(metrics.get("top1")),
        number(cosine, ".4f"),
        number(latency, ".2f"),
        number(size / 1e6 if size else None, ".1f"),
    )


def pair_row(pair: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a pair of `parity.json` as the same cells, as far as it tells them."""
    metrics = (pair.get("metrics") or {}).get("candidate") or {}
    return (
        str(pair["candidate"]),
        percent(metrics.get("top1")),
        number(pair.get("cosine_mean") if pair.get("reference") == AS_TRAINED else None, ".4f"),
        number(None, ""),
        number(None, ""),
    )


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in Markdown; columns of which nothing is known are left out."""
    titles = ("form", "top-1", "cosine to the fp32 student", "p50 ms, batch 1", "MB")
    kept = [place for place in range(len(titles)) if any(row[place] != "-" for row in rows)]
    if not kept:
        return "No figures came with it."
    lines = [[titles[place] for place in kept], ["---"] * len(kept)]
    lines += [[row[place] for place in kept] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(value: float | None) -> str:
    """Return a fraction in percent, or a dash."""
    return "-" if value is None else f"{100 * value:.1f} %"


def number(value: float | None, form: str) -> str:
    """Return a number in a format, or a dash."""
    return "-" if value is None else format(value, form)


def teacher_words(teacher: Mapping[str, Any]) -> str:
    """Return which teacher it was."""
    named = " ".join(str(teacher[key]) for key in ("kind", "model", "pretrained") if teacher.get(key))
    return f"a teacher ({named})" if named else "a teacher"


def machine_words(environment: Mapping[str, Any]) -> str:
    """Return where the figures were measured."""
    if not environment:
        return ""
    place = f"{environment.get('processor', 'unknown CPU')}, {environment.get('cores', '?')} cores"
    return f"Measured on: {place}, Python {environment.get('python', '?')}."
