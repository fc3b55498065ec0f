"""Reading a transformers folder: model, image preprocessing and tokenizer, and their failures in words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer
from transformers.utils import logging

from edgeproof_configs.errors import EdgeproofError, MissingPackageError, UsageError
from edgeproof_data.paths import resolve_path, some_of
from edgeproof_train.hub import hub_folder
from edgeproof_train.preprocessing import square_side

KEY = "teacher.model"
TWO_TOWERS = ("clip", "siglip")
VISION_ONLY = ("dinov2", "dinov2_with_registers")
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""By Pillow's numbers, which the files have."""

Tokenizer = Callable[[list[str]], dict[str, Tensor]]


def find_folder(model: str, root: Path | None) -> Path:
    """Return a local folder, or a copy of a hub repository.

    Raises:
        DataError: there is no such folder.
        EdgeproofError: the hub cannot be reached, or the folder has no configuration.
    """
    local = [Path(model).expanduser(), *([root / model] if root else [])]
    named = not any(place.is_dir() for place in local) and HUB_ID.fullmatch(model)
    folder = hub_folder(model, KEY) if named else resolve_path(model, root)
    if not (folder / "config.json").is_file():
        raise EdgeproofError(f"{KEY}: this folder has no config.json", where=folder)
    return folder


def read_config(folder: Path) -> Any:
    """Return the configuration of a model that can be a teacher.

    Raises:
        UsageError: it is of another family.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError) as error:
        raise UsageError(
            f"{KEY}: transformers does not know this model: {first_line(error)}", where=folder
        ) from error
    known = (*TWO_TOWERS, *VISION_ONLY)
    if config.model_type not in known:
        raise UsageError(
            f"{KEY}: a model of type '{config.model_type}' cannot be a teacher here",
            where=folder,
            fix=f"types that can: {', '.join(known)}; or take the network from open_clip or timm",
        )
    return config


def load_model(folder: Path) -> nn.Module:
    """Return a model in float32 with all of its weights, from safetensors.

    Raises:
        EdgeproofError: there are none, they are cut, or they are not all there.
    """
    try:
        with no_progress_bar():
            model, report = AutoModel.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except SafetensorError as error:
        raise EdgeproofError(
            f"{KEY}: the checkpoint is cut or damaged ({error})",
            where=folder,
            fix="copy or download it again",
        ) from error
    except OSError as error:
        raise EdgeproofError(
            f"{KEY}: no safetensors weights here; pickled ones (.bin) are not opened",
            where=folder,
            fix="where you trust them: AutoModel.from_pretrained(FOLDER).save_pretrained(OTHER_FOLDER)",
        ) from error
    except RuntimeError as error:
        raise EdgeproofError(
            f"{KEY}: the weights are of another model: {first_line(error)}", where=folder
        ) from error
    lost = sorted(report["missing_keys"])
    if lost:
        raise EdgeproofError(f"{KEY}: {len(lost)} weights are missing: {some_of(lost)}", where=folder)
    return model


def read_preprocessing(folder: Path) -> dict[str, Any]:
    """Return the settings of a folder's image processor, in the words of `teacher_preprocess`.

    Raises:
        EdgeproofError: there are none, or they are of a kind that is not known here.
    """
    try:
        processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise EdgeproofError(
            f"{KEY}: the folder does not say how images are preprocessed: {first_line(error)}",
            where=folder,
            fix="add its preprocessor_config.json",
        ) from error
    size, crop = dict(processor.size), dict(getattr(processor, "crop_size", None) or {})
    squash = size.get("shortest_edge") is None
    resized = square_side((size["height"], size["width"]), folder) if squash else int(size["shortest_edge"])
    cropped = square_side((crop["height"], crop["width"]), folder) if processor.do_center_crop else resized
    if not (squash or processor.do_center_crop) or abs(255 * processor.rescale_factor - 1) > 1e-6:
        raise EdgeproofError(
            f"{KEY}: images are not cropped to a square, or not scaled by 1/255", where=folder
        )
    resample = int(processor.resample)
    if resample not in INTERPOLATIONS:
        raise EdgeproofError(
            f"{KEY}: photos are resized by a method that is not known here ({resample})", where=folder
        )
    return {
        "image_size": cropped,
        "resize_size": resized,
        "interpolation": INTERPOLATIONS[resample],
        "mean": processor.image_mean if processor.do_normalize else (0, 0, 0),
        "std": processor.image_std if processor.do_normalize else (1, 1, 1),
        "resize_mode": "squash" if squash else "shortest",
    }


def load_tokenizer(folder: Path, config: Any) -> Tokenizer:
    """Return what turns texts into the text tower's input.

    Raises:
        EdgeproofError: the folder has no tokenizer.
        MissingPackageError: its tokenizer needs a package that is not installed.
    """
    # Without files transformers makes a tokenizer that knows no word, and says nothing.
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise EdgeproofError(
            f"{KEY}: the folder has no tokenizer ({some_of(TOKENIZER_FILES, 5)})",
            where=folder,
            fix="add its tokenizer files, or give head.text_embeddings: FILE.npy with head.labels: FILE.txt",
        )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except ImportError as error:
        raise MissingPackageError(
            f"the tokenizer of this teacher needs a package: {first_line(error)}",
            where=folder,
            fix="pip install sentencepiece",
        ) from error
    except (OSError, ValueError) as error:
        raise EdgeproofError(
            f"{KEY}: the tokenizer cannot be read: {first_line(error)}", where=folder
        ) from error
    length = config.text_config.max_position_embeddings
    siglip = config.model_type == "siglip"

    def tokenize(texts: list[str]) -> dict[str, Tensor]:
        padding = "max_length" if siglip else True
        tokens = tokenizer(texts, padding=padding, truncation=True, max_length=length, return_tensors="pt")
        # SigLIP was trained on padded texts without a mask; its last token, mostly a padding, is the text.
        names = ("input_ids",) if siglip else ("input_ids", "attention_mask")
        return {name: tokens[name] for name in names}

    return tokenize


def clip_merges(folder: Path, config: Any) -> tuple[list[tuple[str, ...]], int]:
    """Return the merges of a tokenizer that is CLIP's own, and the number of its padding.

    Raises:
        UsageError: it is another one, which a bundle cannot carry.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    model = json.loads(backend.to_str())["model"] if backend is not None else {}
    merges = [tuple(pair) for pair in model.get("merges", [])]
    vocabulary = model.get("vocab", {})
    numbers = [vocabulary.get("".join(pair)) for pair in merges]
    start = len(vocabulary) - 2 - len(merges)
    as_clip = config.model_type == "clip" and model.get("end_of_word_suffix") == "</w>" and start == 512
    if not as_clip or numbers != list(range(start, start + len(merges))):
        raise UsageError(
            f"the tokenizer of this teacher ({type(tokenizer).__name__}, {config.model_type}) is not CLIP's"
            " byte-pair encoding: a bundle cannot carry it",
            where="deploy.text_encoder",
            fix="set it to false; new words then come as rows, by `edgeproof text` and set_text_embeddings",
        )
    return merges, int(tokenizer.pad_token_id)


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar while it reads a local file."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().split("\n")[0]
