"""Which heads `head fit` compares, from the words that name them: `gda`, `gda:use_text=false`, `all`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from edgeproof_configs.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from edgeproof_configs.schema import HeadConfig

OPEN, CLOSED = "[{(", "]})"


def heads_of(text: str) -> dict[str, HeadConfig]:
    """Return the configs of heads by the words that name them.

    Raises:
        UsageError: there is no such kind, or it has no such setting, or one without effect here.
    """
    from edgeproof_configs.registry import discover
    from edgeproof_train.heads.fitted import FittedKind

    known: dict[str, Any] = {
        kind: found
        for kind, found in discover("head").items()
        if kind == "zero_shot" or issubclass(found, FittedKind)
    }
    if text == "all":
        # A kind that cannot do without settings, as an ensemble its members, has to be named with them.
        free = {
            kind: found
            for kind, found in known.items()
            if not any(field.is_required() for field in found.Config.model_fields.values())
        }
        return {kind: found.Config() for kind, found in free.items()}
    made: dict[str, HeadConfig] = {}
    for words in split_outside(text, ","):
        kind, *settings = split_outside(words, ":")
        if kind not in known:
            raise UsageError(
                f"unknown head '{kind}'.{did_you_mean(kind, list(known))} Known: {', '.join(known)}"
            )
        made[words] = config_from(kind, known[kind].Config, settings, words)
    return made


def config_from(kind: str, config: Any, settings: list[str], words: str) -> HeadConfig:
    """Return the config of a kind with settings, `key=value` each, the value as in a recipe.

    Raises:
        UsageError: a value is no YAML, a setting is unknown, out of range, or for recipes only.
    """
    from edgeproof_train.heads.fitting import moved_keys, with_heads

    pairs = [one.partition("=") for one in settings]
    try:
        given = {key.strip(): with_heads(yaml.safe_load(value)) for key, _, value in pairs}
        made = config(**given)
    except yaml.YAMLError as error:
        raise UsageError(
            f"head {kind}: a value cannot be read",
            where=words,
            fix="write it as in a recipe, brackets closed: 'ensemble:members=[{kind: gda}, {kind: proker}]'",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"head {kind}: {where}: {first['msg']}", where=words) from error
    except (TypeError, ValueError) as error:
        raise UsageError(f"head {kind}: {error}", where=words) from error
    moved = moved_keys(made)
    if moved:
        raise UsageError(
            f"head {kind}: {moved[0]} has no effect here: it is for recipes",
            where=words,
            fix="leave it out; numbers of shots are --shots, and how much of val is --val",
        )
    return made


def split_outside(text: str, separator: str) -> list[str]:
    """Return the parts of a text between separators that stand outside of all brackets, without spaces."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in OPEN) - (letter in CLOSED)
        if letter == separator and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
