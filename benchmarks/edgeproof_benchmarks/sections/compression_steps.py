"""How a student was compressed: what each step did on the validation images, and layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeproof_benchmarks.formats import (
    MISSING,
    cosine,
    duration,
    in_a_row,
    integer,
    known,
    percent,
    plural,
    small,
)
from edgeproof_benchmarks.markup import Html, tag

INT8_NAMES = {"int8": "INT8", "sparse_int8": "2:4 sparse INT8"}
STEP_NAMES = {"pruned_without_permutation": "pruned, old order"}
MOST_NAMES = 6
TENSORRT_FILE = ".trt.onnx"
Plain = Mapping[str, Any]
Facts = list[tuple[str, str]]


def steps(found: Plain, item: str) -> Html:
    """Return a block for pruning and one for each INT8 form."""
    blocks = []
    if found.get("sparsity"):
        blocks.append(
            block("2:4 sparsity", [*sparsity_facts(found["sparsity"]), *seen_in_files(found["forms"])])
        )
    fused = {form["key"]: form.get("fused") for form in found["forms"]}
    for key, report in (found.get("quantization") or {}).items():
        blocks.append(block(INT8_NAMES.get(key, str(key)), int8_facts(report, fused.get(key), item)))
    return tag("div", *blocks, class_="small-multiples steps")


def block(title: str, facts: Facts) -> Html:
    """Return names and values under a title."""
    terms = [part for name, value in facts for part in (tag("dt", name), tag("dd", value))]
    return tag("figure", tag("figcaption", tag("b", title)), tag("dl", *terms))


def sparsity_facts(report: Plain) -> Facts:
    """Return what was pruned and what it cost before and after fine-tuning."""
    layers, weights, kept = report["layers"], report["weights"], report["kept_magnitude"]
    facts = [
        ("layers pruned", f"{sum(layer['eligible'] for layer in layers)} of {len(layers)}"),
        ("weights dropped", f"{integer(weights['dropped'])}, {percent(weights['share'])} of all"),
        ("magnitude kept", kept_words(kept)),
    ]
    if report.get("not_searched"):
        facts.append(("order of channels", f"not searched: {report['not_searched']}"))
    facts += val_facts(report["val"])
    facts.append(("fine-tuning", plural(report["epochs"], "epoch")))
    facts.append(("time", duration(report["seconds"]["all"])))
    return facts


def seen_in_files(forms: Sequence[Plain]) -> Facts:
    """Return in how many layers of each sparse ONNX file no four weights hold more than two."""
    facts: Facts = []
    for form in forms:
        file = next((name for name in form["files"] if not name.endswith(TENSORRT_FILE)), "")
        if form["form"] == "sparse" and form.get("weights") and file:
            counts = form["weights"]
            facts.append((f"2:4 in {file}", f"{counts['layers_2_4']} of {counts['layers']} layers"))
    return facts


def kept_words(kept: Mapping[str, float]) -> str:
    """Return how much of the magnitude of the pruned layers is kept, without and with reordered channels."""
    if kept["with"] == kept["without"]:
        return percent(kept["with"], 2)
    return f"{percent(kept['with'], 2)}, {percent(kept['without'], 2)} without reordering channels"


def int8_facts(report: Plain, fused: Plain | None, item: str) -> Facts:
    """Return how a form was quantised, what it cost, and how much of it runs in integers."""
    layers, images = report["layers"], report["images"]
    inside = sum(layer["quantised"] for layer in layers)
    fewer = "" if images["used"] >= images["asked"] else f" ({integer(images['asked'])} asked for)"
    facts = [
        ("layers in INT8", f"{inside} of {len(layers)}"),
        ("method", f"{report['method']}, {report['backend']}, for {report['target']}"),
        ("ranges", f"{report['calibration']}, from {plural(images['used'], item)}{fewer}"),
    ]
    facts += val_facts(report["val"])
    if report.get("max_drop") is not None:
        returned = [layer["name"] for layer in layers if layer["reason"].startswith("given back")]
        facts.append((f"given back for {report['max_drop']:g}", some(returned) or "nothing"))
    if fused:
        facts.append(("run by ONNX Runtime", fused["words"]))
        left = [name for names in fused["floating"].values() for name in names]
        if left:
            facts.append(("left in floating point", some(left)))
    return facts


def val_facts(val: Mapping[str, Mapping[str, float]]) -> Facts:
    """Return the figure on the validation images after each step."""
    first = next(iter(val.values()), {})
    name = "top1" if "top1" in first else "cosine_mean"
    show = percent if name == "top1" else cosine
    word = "top-1" if name == "top1" else "cosine"
    return [
        (f"val {word}, {STEP_NAMES.get(step, step)}", show(figures.get(name)))
        for step, figures in val.items()
        if known(figures.get(name))
    ]


def some(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = [f"{len(names) - MOST_NAMES:,} more"] if len(names) > MOST_NAMES else []
    return in_a_row([*names[:MOST_NAMES], *more])


def folded(found: Plain) -> list[Html]:
    """Return what is looked up rather than read: the table of layers, and the findings of each file."""
    blocks = [layer_table(found)]
    for form in found["forms"]:
        blocks += [findings_table(name, findings) for name, findings in form["findings"].items()]
    return [block for block in blocks if block]


def layer_table(found: Plain) -> Html | None:
    """Return what became of each layer: pruned or why not, in INT8 or why not, and what rounding it costs."""
    sparsity, int8 = found.get("sparsity"), found.get("quantization") or {}
    pruned = {layer["name"]: layer for layer in (sparsity or {}).get("layers", [])}
    inside = {key: {layer["name"]: layer for layer in report["layers"]} for key, report in int8.items()}
    names = list(dict.fromkeys(name for layers in (pruned, *inside.values()) for name in layers))
    if not names:
        return None
    costs = {key: any(known(one["sensitivity"]) for one in layers.values()) for key, layers in inside.items()}
    heads = ["layer", "weight", *(["2:4"] if pruned else [])]
    for key in inside:
        heads += [INT8_NAMES.get(key, key), *(["cosine lost alone"] if costs[key] else [])]
    lines = []
    for name in names:
        layers = [layers.get(name) for layers in (pruned, *inside.values())]
        shape = next((layer["shape"] for layer in layers if layer), [])
        cells = [" x ".join(str(part) for part in shape)]
        if pruned:
            cells.append(outcome(pruned.get(name), "eligible"))
        for key, rows in inside.items():
            row = rows.get(name)
            cells += [
                outcome(row, "quantised"),
                *([small(row["sensitivity"] if row else None)] if costs[key] else []),
            ]
        lines.append([name, *cells])
    return details(f"{plural(len(names), 'layer')}, one by one", heads, lines)


def outcome(layer: Plain | None, key: str) -> str:
    """Return `yes`, or why not."""
    if layer is None:
        return MISSING
    return "yes" if layer[key] else f"no: {layer['reason'] or 'not chosen'}"


def findings_table(file: str, findings: Sequence[Plain]) -> Html:
    """Return what the look over a quantised file found."""
    if not findings:
        return tag(
            "p", tag("code", file), ": nothing found in the look over its quantisers", class_="flawless"
        )
    counts = {level: sum(one["level"] == level for one in findings) for level in ("error", "warning", "info")}
    words = [plural(count, {"info": "remark"}.get(level, level)) for level, count in counts.items() if count]
    heads = ["node", "level", "what is there", "what it costs", "what to do"]
    lines = [
        [one["node"] or file, *(one[key] for key in ("level", "message", "cost", "fix"))] for one in findings
    ]
    return details(f"{file}: {in_a_row(words)}", heads, lines)


def details(title: str, heads: Sequence[str], lines: Iterable[Sequence[str]]) -> Html:
    """Return a folded table whose first column names the rows and whose other columns are words."""
    head = tag("tr", *[tag("th", name, scope="col", class_="words") for name in heads])
    body = [
        tag(
            "tr",
            tag("th", tag("code", first), scope="row"),
            *[tag("td", word, class_="words") for word in rest],
        )
        for first, *rest in lines
    ]
    whole = tag("table", tag("thead", head), tag("tbody", *body), class_="wordy")
    box = tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=title)
    return tag("details", tag("summary", title), box)
