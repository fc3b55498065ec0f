"""The stage `head`: make the run's head of its words, or fit it on features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeproof_configs.files import write_json
from edgeproof_configs.registry import component_class
from edgeproof_configs.stage import StageContext, StageOutcome
from edgeproof_deploy.runtime.head import Head
from edgeproof_train.cascade_run import on_images, routing_of, write_specialists
from edgeproof_train.head_draws import write_draws
from edgeproof_train.head_evidence import Gathered, draw, gather
from edgeproof_train.head_features import Features
from edgeproof_train.heads.files import save_head, write_head
from edgeproof_train.heads.fitted import Fitted
from edgeproof_train.metrics import head_metrics
from edgeproof_train.run_data import RunData
from edgeproof_train.run_head import TEACHER_FOLDER, is_fitted, load_head
from edgeproof_train.sized_heads import fit_to_size
from edgeproof_train.unseen_heads import fit_for_run

HEAD_JSON = "head.json"


def head_stage(context: StageContext) -> StageOutcome:
    """Make the classifier from the text embeddings of the labels, or fit it."""
    if is_fitted(context.recipe.head):
        return fit_stage(context)
    folder = context.folder("head")
    component: Any = component_class("head", context.recipe.head.kind)
    bank = RunData(context).words()
    scale = context.metrics("embed")["logit_scale"]
    files = component.from_bank(context.recipe.head, bank, scale).save(folder)
    return StageOutcome(files, {"labels": len(bank.names)}, f"{len(bank.names)} labels")


def fit_stage(context: StageContext) -> StageOutcome:
    """Fit the recipe's head on the run's embeddings, and one of the kind on the teacher's to compare with."""
    data, config, folder = RunData(context), context.recipe.head, context.folder("head")
    kind: Any = component_class("head", config.kind)
    settings: Any = config
    gathered = gather(data, settings, kind, settings.fit_on)
    fitted, stored = fit_to_size(config, gathered.evidence, data.source.unseen)
    files = write_head(stored, folder)
    files += write_draws(gathered, folder)
    told = described(gathered, fitted) | {
        "kind": config.kind,
        "settings": config.model_dump(mode="json"),
        "transductive": kind.asked(config).transductive,
        "stored": {"bytes": len(stored.data), "notes": list(stored.notes)},
        **on_val(data, load_head(folder), settings),
    }
    files += write_specialists(data, fitted.head, folder)
    if settings.fit_on == "student" and data.has_teacher:
        other = gather(data, settings, kind, "teacher")
        its = fit_for_run(config, other.evidence, data.source.unseen)
        (folder / TEACHER_FOLDER).mkdir(exist_ok=True)
        files += save_head(its.head, folder / TEACHER_FOLDER)
        told["teacher"] = described(other, its)
    write_json(folder / HEAD_JSON, told)
    labels = len(gathered.evidence.names)
    return StageOutcome([*files, folder / HEAD_JSON], {"labels": labels, **told}, summary(told, labels))


def described(gathered: Gathered, fitted: Fitted) -> dict[str, Any]:
    """Return how a head came about, as plain data."""
    notes = [*gathered.evidence.said, *fitted.notes]
    return {"evidence": gathered.told, "chosen": plain(fitted.chosen), "notes": notes}


def on_val(data: RunData, stored: Head, settings: Any) -> dict[str, Any]:
    """Return what the head, as stored, reaches with the student on val, on which it may have been chosen.

    `val_accuracy`, and of a cascade `val_routing`.
    """
    val = draw(data, "val", settings.val_shots, settings.seed)
    if not len(val.labels):
        return {"val_accuracy": {}}
    rows, names = Features(data, "student").plain("val", val.images), data.words().names
    head = on_images([stored], data, val.images)[0]
    reached = {"val_accuracy": head_metrics(head.logits, rows, val.labels, names, data.source.unseen)}
    routing = routing_of(data, head, rows, val.labels, val.images)
    return reached if routing is None else {**reached, "val_routing": plain(routing)}


def plain(value: Any) -> Any:
    """Return settings and arrays as JSON-able data; a number that is not finite as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def summary(told: Mapping[str, Any], labels: int) -> str:
    """Return the head in a line: kind, shots, how it was chosen, what it reaches on val."""
    return f"{labels} labels: {head_line(told)}"


def head_line(told: Mapping[str, Any]) -> str:
    """Return in words which head it is and how it was chosen; `told` is what `head.json` holds."""
    seen, words = told["evidence"], [told["kind"]]
    items = f"{seen.get('of', 'image')}s"
    shots, val = seen.get("shots"), seen.get("val")
    if shots:
        whole = f"all training {items}" if shots["split"] == "train" else f"all {items} of {shots['split']}"
        each = f"{shots_line(shots)} shots a class" if shots["per_class"] else whole
        views = f", {shots['views']} views of each" if shots["views"] > 1 else ""
        words.append(f"on {each} (seed {shots['seed']}{views})")
    words.append(f"of the {seen['on']}'s embeddings" + (" and its words" if seen["text"] else ""))
    if told["chosen"]:
        words.append(f"({', '.join(f'{name} {shown(value)}' for name, value in told['chosen'].items())})")
    if told.get("stored", {}).get("notes"):
        words.append(f"[{', '.join(told['stored']['notes'])}]")
    if val:
        words.append(f"with {val['images']} val {items} to choose on")
    if told["transductive"]:
        mix = seen.get("unlabelled") or {}
        share = f", effective classes {100 * mix['effective_share']:.0f} %" if mix else ""
        words.append(f"TRANSDUCTIVE: it saw {mix.get('images', 0)} test {items} without their labels{share}")
    top1 = told.get("val_accuracy", {}).get("top1")
    return " ".join(words) + (f"; top-1 {100 * top1:.1f} % on val" if top1 is not None else "")


def shots_line(shots: Mapping[str, Any]) -> str:
    """Return how many shots a class there are; where some have fewer, what was asked for, too.

    Classes without any are left aside: they are held out on purpose, or the head says what they lack.
    """
    fewer = [count for count in shots.get("classes_with_fewer", {}).values() if count]
    if not fewer:
        return str(shots["per_class"])
    fewest, most = min(fewer), shots["most"]
    span = f"{fewest} to {most}" if fewest < most else f"{most}"
    return f"{span} ({shots['per_class']} asked for)"


def shown(value: Any) -> str:
    """Return a setting in few characters."""
    value = ", ".join(value) if isinstance(value, Mapping) else value
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
