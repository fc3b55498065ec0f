"""Small teachers with random text towers, of every kind that a bundle can carry one of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save, save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from edgeproof_configs.files import write_bytes, write_json
from edgeproof_train.dual_tower import Vocabulary
from edgeproof_train.teacher import Teacher, TeacherPlaces
from edgeproof_train.teachers.contrastive import CARD_FILE, WEIGHTS_FILE, ContrastiveTeacher, make_model
from edgeproof_train.teachers.open_clip import OpenClipTeacher
from edgeproof_train.teachers.transformers import TransformersTeacher

WIDTH, LENGTH = 16, 12
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
CAPTIONS = ("a red cube", "a blue cone", "a photo of a ball", "a ring")


def contrastive(folder: Path) -> Teacher:
    """Return a teacher that knows the words of `CAPTIONS`."""
    config = ContrastiveTeacher.Config.model_validate(
        {
            "model": "test_resnet",
            "image_size": 32,
            "embedding_dim": WIDTH,
            "text_width": 32,
            "text_layers": 1,
            "context_length": LENGTH,
            "epochs": 3,
        }
    )
    vocabulary = Vocabulary.of(CAPTIONS, LENGTH)
    torch.manual_seed(1)
    model = make_model(config, vocabulary)
    write_bytes(folder / WEIGHTS_FILE, save(model.state_dict()))
    write_json(folder / CARD_FILE, {"vocabulary": vocabulary.known})
    return ContrastiveTeacher(config, TeacherPlaces(stage_folder=folder))


def open_clip_folder(folder: Path, **text: Any) -> Path:
    """Write a small CLIP in open_clip's layout."""
    config = {
        "embed_dim": WIDTH,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": LENGTH, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
        | text,
    }
    folder.mkdir(exist_ok=True)
    told = {"model_cfg": config, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(told), encoding="utf-8")
    torch.manual_seed(2)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def open_clip_teacher(folder: Path, **text: Any) -> Teacher:
    """Return a teacher of open_clip."""
    place = open_clip_folder(folder, **text)
    return OpenClipTeacher(OpenClipTeacher.Config(model=str(place)), TeacherPlaces())


def transformers_teacher(folder: Path) -> Teacher:
    """Return a CLIP of transformers with CLIP's own tokenizer."""
    reference = SimpleTokenizer()
    marks = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {marks.get(symbol, symbol): number for symbol, number in reference.encoder.items()}
    merges: list[Any] = list(reference.bpe_ranks)
    CLIPTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    numbers = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    text = {**VISION, **numbers, "max_position_embeddings": LENGTH}
    torch.manual_seed(3)
    vision = {**VISION, "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)).save_pretrained(
        folder
    )
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    return TransformersTeacher(TransformersTeacher.Config(model=str(folder)), TeacherPlaces())
