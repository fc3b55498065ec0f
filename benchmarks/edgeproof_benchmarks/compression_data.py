"""`compression` of `result.json`: what the stages found out about each compressed form of the student."""

from __future__ import annotations

from typing import Any

from edgeproof_configs.files import read_json
from edgeproof_configs.stage import StageContext
from edgeproof_deploy.forms import StudentForm, forms_of

Plain = dict[str, Any]
LEFT_OUT = ("values",)
"""Of `quantization.json`: the range of every value, which nobody reads on a page."""


def compression_of(context: StageContext) -> Plain | None:
    """Return the section, or None where the recipe compresses nothing.

    Returns:
        `forms`: for each form its files, weights, lint findings and fused operators; `sparsity`: the contents
        of `sparsity.json`; `quantization`: those of `quantization.json` by form, without the ranges.
    """
    compress = context.recipe.compress
    if compress is None:
        return None
    return {
        "forms": [form_of(context, form) for form in forms_of(context.recipe, context.run)],
        "sparsity": read_json(context.run.stage("sparsify") / "sparsity.json") if compress.sparsity else None,
        "quantization": quantization_of(context),
    }


def form_of(context: StageContext, form: StudentForm) -> Plain:
    """Return what is known of one form, without its accuracy and latency, which stand in `rows`."""
    exported, measured = context.metrics("export")["files"], context.metrics("bench")
    files = {name: told for name, told in exported.items() if told["form"] == form.key}
    return {
        "form": form.name,
        "precision": form.precision,
        "key": form.key,
        "files": {
            name: {"size_bytes": told["size_bytes"], "cosine_min": told["cosine_min"]}
            for name, told in files.items()
        },
        "findings": {name: told["findings"] for name, told in files.items() if "findings" in told},
        "weights": measured.get("weights", {}).get(form.key),
        "fused": measured.get("fused", {}).get(form.key),
    }


def quantization_of(context: StageContext) -> Plain:
    """Return what was told about quantising, by the form's key."""
    folder = context.run.stage("quantize")
    reports = {
        form.key: read_json(folder / form.key / "quantization.json")
        for form in forms_of(context.recipe, context.run)
        if form.precision == "int8"
    }
    return {
        key: {name: value for name, value in report.items() if name not in LEFT_OUT}
        for key, report in reports.items()
    }


def compression_notes(compression: Plain | None, item: str = "image") -> list[str]:
    """Return what was not done as the recipe asked for, and why; `item` is what is calibrated on."""
    if compression is None:
        return []
    said = []
    for report in compression["quantization"].values():
        asked, used = report["images"]["asked"], report["images"]["used"]
        if used < asked:
            said.append(f"calibration: {used:,} training {item}s, all there are; {asked:,} were asked for")
        left = report.get("unfolded_batch_norms")
        if left:
            said.append(f"batch norms that could not be folded before INT8: {', '.join(left)}")
    sparsity = compression["sparsity"]
    if sparsity and sparsity.get("not_searched") not in (None, "", "permute: false"):
        said.append(f"no order of channels was searched before pruning: {sparsity['not_searched']}")
    return list(dict.fromkeys(said))
