"""One way to fit a head of any kind, by its config and evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgeproof_configs.errors import DataError
from edgeproof_configs.registry import component_class
from edgeproof_configs.schema import HeadConfig
from edgeproof_deploy.runtime.head import ZeroShotHead
from edgeproof_train.heads.evidence import Evidence, Part, require
from edgeproof_train.heads.fitted import Fitted, FittedKind

RECIPE_KEYS = (
    "labels",
    "templates",
    "text_embeddings",
    "shots",
    "val_shots",
    "views",
    "fit_on",
    "max_bytes",
    "half",
)
"""Settings that say where a recipe finds its arrays, or how it stores the head."""
PART_WORDS: dict[Part, str] = {
    "shots": "labelled images",
    "text": "text embeddings",
    "unlabelled": "images without labels",
    "val": "validation images",
}


def fit_kind(config: HeadConfig, evidence: Evidence) -> Fitted:
    """Fit a head of the config's kind; text is withheld where `use_text` is off.

    Zero-shot needs no fitting and is a kind like the others here: its head is made of the text alone.

    Raises:
        DataError: the evidence lacks a part that the kind needs, or the kind is none that can be fitted.
    """
    if config.kind == "zero_shot":
        require(evidence, "text", kind=config.kind)
        assert evidence.text is not None
        scale = getattr(config, "logit_scale", None) or evidence.logit_scale
        return Fitted(ZeroShotHead(evidence.names, evidence.text, float(scale)))
    kind = fitted_class(config.kind)
    seen = evidence if getattr(config, "use_text", True) else replace(evidence, text=None)
    scale = getattr(config, "logit_scale", None)
    return kind.fit(config, seen if scale is None else replace(seen, logit_scale=float(scale)))


def why_not(config: HeadConfig, evidence: Evidence) -> str | None:
    """Return why a kind cannot be fitted on some evidence, in words; None where it can."""
    if config.kind == "zero_shot":
        return None if evidence.text is not None else f"needs {PART_WORDS['text']}"
    withheld = set() if getattr(config, "use_text", True) else {"text"}
    needs = fitted_class(config.kind).asked(config).needs
    missing = [
        word
        for part, word in PART_WORDS.items()
        if part in needs and (part in withheld or getattr(evidence, part) is None)
    ]
    return f"needs {' and '.join(missing)}" if missing else None


def fitted_class(kind: str) -> type[FittedKind]:
    """Return the class of a kind that is fitted.

    Raises:
        UsageError: no such kind.
        DataError: the kind is made of a model's own parts, not fitted on features.
    """
    found = component_class("head", kind)
    if not issubclass(found, FittedKind):
        raise DataError(f"head {kind} is not fitted on features", fix="choose another: edgeproof ls heads")
    return found


def config_of(kind: str | HeadConfig, **settings: Any) -> HeadConfig:
    """Return a kind's config with some settings, all checked; a config is returned as it is.

    Raises:
        ValueError: there are settings beside a config, or one says where a recipe finds its arrays.
        UsageError: no such kind.
        pydantic.ValidationError: a setting is unknown or out of range.
    """
    if isinstance(kind, HeadConfig):
        if settings:
            raise ValueError(f"a config has its settings already, got {', '.join(settings)} beside it")
        config = kind
    else:
        component: Any = component_class("head", kind)
        config = component.Config(**{key: with_heads(value) for key, value in settings.items()})
    moved = moved_keys(config)
    if moved:
        raise ValueError(f"{moved[0]} is for recipes: it says where arrays come from or how a head is stored")
    return config


def with_heads(setting: Any) -> Any:
    """Return a setting in which every head that is written as in a recipe, `{"kind": ...}`, is its config."""
    if isinstance(setting, Mapping):
        if "kind" in setting:
            return config_of(**setting)
        return {key: with_heads(part) for key, part in setting.items()}
    return [with_heads(part) for part in setting] if isinstance(setting, (list, tuple)) else setting


def moved_keys(config: HeadConfig) -> list[str]:
    """Return which settings of `RECIPE_KEYS` are not as they are by default."""
    fields = type(config).model_fields
    keys = [*RECIPE_KEYS, "of"] if getattr(config, "learns_from", ("train",)) != ("train",) else RECIPE_KEYS
    return [key for key in keys if key in fields and getattr(config, key) != fields[key].default]
