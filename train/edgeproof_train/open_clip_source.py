"""Where an open_clip teacher's architecture, weights and preprocessing come from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.tokenizer import SimpleTokenizer, get_clean_fn
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn

from edgeproof_configs.errors import EdgeproofError, UsageError, did_you_mean
from edgeproof_configs.files import read_json
from edgeproof_data.paths import resolve_path, some_of
from edgeproof_train.hub import hub, hub_file, hub_folder
from edgeproof_train.weights import check_weights_file, load_into, read_weights

KEY = "teacher.pretrained"
HUB_PREFIX = "hf-hub:"
FOLDER_FIX = "teacher.model: /path/to/folder (open_clip_config.json, weights and tokenizer files)"
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True)
class OpenClipSource:
    """What `open_clip.create_model` needs, all of it on this machine.

    Attributes:
        name: a name that open_clip knows, or `local-dir:` with a folder.
        weights: a safetensors file.
        preprocess: mean, std, interpolation and resize_mode, as open_clip has them.
    """

    name: str
    weights: Path
    preprocess: dict[str, Any]


def find_source(model: str, pretrained: str | None, root: Path | None, told: bool) -> OpenClipSource:
    """Return what a recipe's `teacher.model` and `teacher.pretrained` stand for.

    Args:
        model: a name, a folder or `hf-hub:owner/name`.
        pretrained: a tag, or a file.
        root: relative paths start here first.
        told: whether the recipe itself says how images are preprocessed.

    Raises:
        UsageError: an unknown name or tag, or a setting that is missing or has no effect.
        EdgeproofError: the hub cannot be reached.
        DataError: there is no such file.
    """
    if model.startswith(HUB_PREFIX) or _is_path(model):
        if pretrained is not None:
            raise UsageError(
                f"{KEY} has no effect beside teacher.model: {model}, which brings its own weights"
            )
        by_name = model.startswith(HUB_PREFIX)
        return _from_folder(
            hub_folder(model.removeprefix(HUB_PREFIX), "teacher.model")
            if by_name
            else resolve_path(model, root)
        )
    if model not in open_clip.list_models():
        near = did_you_mean(model, open_clip.list_models())
        raise UsageError(f"teacher.model: open_clip has no model '{model}'.{near}")
    tags = list_pretrained_tags_by_model(model)
    if pretrained is None:
        raise UsageError(
            f"{KEY} is missing: which weights of {model}?",
            fix=f"a tag ({', '.join(tags) or 'there is none for this model'}) or /path/to/model.safetensors",
        )
    if pretrained in tags:
        return _from_tag(model, pretrained)
    if not _is_path(pretrained):
        raise UsageError(
            f"{KEY}: {model} has no weights named '{pretrained}'.{did_you_mean(pretrained, tags)}",
            fix=f"one of {', '.join(tags) or 'none'}, or a path: ./model.safetensors",
        )
    weights = resolve_path(pretrained, root)
    beside = weights.parent / CONFIG_FILE
    if beside.is_file():
        return OpenClipSource(model, weights, _told_by(beside))
    return OpenClipSource(model, weights, _common_to(model, tags, told))


def architecture_of(name: str) -> dict[str, Any]:
    """Return open_clip's description of a model: `embed_dim`, `vision_cfg`, `text_cfg`."""
    found = open_clip.get_model_config(name)
    assert found is not None
    return found


def load_model(name: str, architecture: dict[str, Any], weights: Path) -> nn.Module:
    """Return a model with its weights.

    Raises:
        EdgeproofError: the file is no safetensors, is cut, or is of another model.
    """
    check_weights_file(weights, KEY)
    foreign_text = "hf_model_name" in architecture["text_cfg"]
    with hub(name, FOLDER_FIX) if foreign_text else nullcontext():
        model: Any = open_clip.create_model(name, load_weights=False, pretrained_text=False)
    try:
        # This also renames the tensors of other layouts of the same networks.
        open_clip.load_checkpoint(model, str(weights))
    except (RuntimeError, KeyError) as error:
        load_into(model, read_weights(weights, KEY), KEY, weights)
        raise EdgeproofError(f"{KEY}: the weights are not of {name}", where=weights) from error
    return model


def load_tokenizer(name: str) -> Callable[[list[str]], Tensor]:
    """Return what turns texts into token numbers (N, length), cut at the text tower's length.

    Raises:
        EdgeproofError: it is one that has to come from the hub, and the hub cannot be reached.
    """
    with hub(name, FOLDER_FIX):
        return open_clip.get_tokenizer(name)


def clip_tokenizer(tokenizer: Any, name: str) -> SimpleTokenizer:
    """Return a tokenizer that is CLIP's own, which a bundle can carry.

    Raises:
        UsageError: it is another one, or cleans or shortens texts in another way.
    """
    plain = type(tokenizer) is SimpleTokenizer and tokenizer.reduction_fn is None
    if not plain or tokenizer.clean_fn is not get_clean_fn("lower") or len(tokenizer.all_special_ids) != 2:
        raise UsageError(
            f"the tokenizer of {name} is not CLIP's byte-pair encoding: a bundle cannot carry it",
            where="deploy.text_encoder",
            fix="set it to false; new words then come as rows, by `edgeproof text` and set_text_embeddings",
        )
    return tokenizer


def _is_path(value: str) -> bool:
    return (
        "/" in value or value.startswith("~") or Path(value).suffix in (".safetensors", ".pt", ".pth", ".bin")
    )


def _from_folder(folder: Path) -> OpenClipSource:
    if not (folder / CONFIG_FILE).is_file():
        raise EdgeproofError(f"teacher.model: this folder has no {CONFIG_FILE}", where=folder)
    weights = next((folder / name for name in WEIGHTS_FILES if (folder / name).is_file()), None)
    if weights is None:
        raise EdgeproofError(
            f"teacher.model: this folder has no safetensors weights ({some_of(WEIGHTS_FILES)})", where=folder
        )
    return OpenClipSource(f"local-dir:{folder}", weights, _told_by(folder / CONFIG_FILE))


def _from_tag(model: str, tag: str) -> OpenClipSource:
    config = get_pretrained_cfg(model, tag)
    quick = bool((open_clip.get_model_config(model) or {}).get("quick_gelu", False))
    if bool(config.get("quick_gelu", False)) != quick:
        other = model.removesuffix("-quickgelu") if quick else f"{model}-quickgelu"
        raise UsageError(
            f"the weights '{tag}' are of a network with {'GELU' if quick else 'QuickGELU'}, {model} is not",
            fix=f"set teacher.model: {other}",
        )
    repo, _, file = config["hf_hub"].rpartition("/")
    names = [str(Path(file).with_suffix(".safetensors"))] if file else list(WEIGHTS_FILES[:2])
    return OpenClipSource(model, hub_file(repo, names, KEY), _settings(config))


def _told_by(file: Path) -> dict[str, Any]:
    return _settings(read_json(file).get("preprocess_cfg", {}))


def _common_to(model: str, tags: list[str], told: bool) -> dict[str, Any]:
    """Return the preprocessing that all published weights of a model share.

    Raises:
        UsageError: they differ, and the recipe does not say which it is.
    """
    known = {tag: _settings(get_pretrained_cfg(model, tag)) for tag in tags}
    first = next(iter(known.values()), _settings({}))
    others = [tag for tag, settings in known.items() if settings != first]
    if others and not told:
        raise UsageError(
            f"weights of {model} differ in how images are preprocessed ({tags[0]}, {others[0]}), and"
            f" there is no {CONFIG_FILE} beside the file to say which it is",
            fix="set teacher.preprocess: {mean: [...], std: [...], resize_mode: shortest or squash}",
        )
    return first


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    merged = asdict(PreprocessCfg()) | {key: value for key, value in config.items() if value is not None}
    settings = {key: merged[key] for key in PREPROCESS_KEYS}
    # open_clip's "random" is for training; its evaluation takes bicubic then.
    return settings if settings["interpolation"] != "random" else {**settings, "interpolation": "bicubic"}
