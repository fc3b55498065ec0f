from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_train.teacher import TeacherPlaces
from edgeproof_train.teachers.transformers import TransformersTeacher

WORDS = ["[PAD]", "[START]", "[END]", "[UNK]", "a", "photo", "of", "cat", "dog", "."]
TOWER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
VISION: dict[str, Any] = {**TOWER, "image_size": 32, "patch_size": 16}
TEXT: dict[str, Any] = {
    **TOWER,
    "vocab_size": len(WORDS),
    "max_position_embeddings": 12,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TEXTS = ["a photo of a cat.", "dog"]


def save_tokenizer(folder: Path) -> None:
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[START] $A [END]", special_tokens=[("[START]", 1), ("[END]", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", bos_token="[START]", eos_token="[END]", unk_token="[UNK]"
    ).save_pretrained(folder)


def save_clip(folder: Path) -> Any:
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=24)).eval()
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    save_tokenizer(folder)
    return model


def save_siglip(folder: Path) -> Any:
    torch.manual_seed(0)
    text = {**TEXT, "projection_size": 32}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION)).eval()
    model.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    save_tokenizer(folder)
    return model


def save_dinov2(folder: Path) -> Any:
    torch.manual_seed(0)
    model = Dinov2Model(Dinov2Config(**TOWER, image_size=64, patch_size=16)).eval()
    model.save_pretrained(folder)
    BitImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, resample=3
    ).save_pretrained(folder)
    return model


def teacher_of(folder: Path) -> TransformersTeacher:
    return TransformersTeacher(TransformersTeacher.Config(model=str(folder)), TeacherPlaces())


def test_clip__gives_what_transformers_gives(tmp_path: Path) -> None:
    reference = save_clip(tmp_path)
    teacher = teacher_of(tmp_path)
    image = torch.randn(2, 3, 32, 32)
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = reference(
            pixel_values=image, input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(unit(teacher.encode_image(image)), out.image_embeds)
    torch.testing.assert_close(unit(teacher.encode_text(TEXTS)), out.text_embeds)
    assert (teacher.embedding_dim, teacher.has_text) == (24, True)
    assert teacher.logit_scale == pytest.approx(reference.logit_scale.exp().item())
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_siglip__pads_texts_to_full_length_without_a_mask(tmp_path: Path) -> None:
    reference = save_siglip(tmp_path)
    teacher = teacher_of(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    padded = tokenizer(TEXTS, padding="max_length", max_length=12, return_tensors="pt")["input_ids"]
    assert padded.shape == (2, 12)
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        out = reference(pixel_values=image, input_ids=padded)
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(unit(teacher.encode_text(TEXTS)), out.text_embeds)
    torch.testing.assert_close(unit(teacher.encode_image(image)), out.image_embeds)
    assert teacher.embedding_dim == 32


def test_dinov2__embedding_is_the_normalised_class_token(tmp_path: Path) -> None:
    reference = save_dinov2(tmp_path)
    teacher = teacher_of(tmp_path)
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        token = reference(pixel_values=image).last_hidden_state[:, 0]
    torch.testing.assert_close(teacher.encode_image(image), token)
    assert (teacher.embedding_dim, teacher.has_text) == (32, False)
    with pytest.raises(UsageError, match="no text tower"):
        teacher.encode_text(["cat"])


@pytest.mark.parametrize("save", [save_clip, save_siglip, save_dinov2])
# Where half a pixel is left over, transformers crops one pixel further up or left than torchvision does.
@pytest.mark.parametrize("size", [(120, 88), (78, 160)])
def test_transformers__preprocesses_like_transformers(
    save: Any, size: tuple[int, int], tmp_path: Path
) -> None:
    save(tmp_path)
    teacher = teacher_of(tmp_path)
    coarse = np.random.default_rng(0).integers(0, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    reference = processor(photo, return_tensors="np")["pixel_values"][0]
    assert teacher.preprocess is not None
    mine = teacher.preprocess(photo)
    assert mine.shape == reference.shape
    steps = np.abs(mine - reference) * 255 * min(teacher.preprocess.std)
    # torchvision resizes tensors in another rounding than Pillow: steps of one in 255, rarely two.
    assert steps.max() < 2.5
    assert steps.mean() < 0.25


def test_identity__is_the_same_for_a_copy_and_another_for_other_weights(tmp_path: Path) -> None:
    save_clip(tmp_path / "a")
    model = save_clip(tmp_path / "b")
    first, copy = teacher_of(tmp_path / "a").identity(), teacher_of(tmp_path / "b").identity()
    del first["model"], copy["model"]
    assert first == copy
    with torch.no_grad():
        model.logit_scale += 1
    model.save_pretrained(tmp_path / "b")
    other = teacher_of(tmp_path / "b").identity()
    assert other["weights_sha256"] != first["weights_sha256"]
    assert json.loads(json.dumps(other)) == other


def test_transformers__opens_no_pickle(tmp_path: Path) -> None:
    model = save_dinov2(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(EdgeproofError, match="no safetensors weights here"):
        teacher_of(tmp_path)


def test_transformers__explains_a_checkpoint_cut_in_half(tmp_path: Path) -> None:
    save_dinov2(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(EdgeproofError, match="cut or damaged"):
        teacher_of(tmp_path)


def test_transformers__notices_weights_that_are_missing(tmp_path: Path) -> None:
    model = save_dinov2(tmp_path)
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("layernorm")}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(EdgeproofError, match="2 weights are missing: layernorm"):
        teacher_of(tmp_path)


def test_transformers__asks_for_the_files_that_a_folder_lacks(tmp_path: Path) -> None:
    save_clip(tmp_path)
    for file in tmp_path.glob("token*"):
        file.unlink()
    teacher = teacher_of(tmp_path)
    assert teacher.encode_image(torch.zeros(1, 3, 32, 32)).shape == (1, 24)
    with pytest.raises(EdgeproofError, match="has no tokenizer"):
        teacher.encode_text(["cat"])
    for file in (*tmp_path.glob("p*processor_config.json"),):
        file.unlink()
    with pytest.raises(EdgeproofError, match=r"does not say how images are preprocessed"):
        teacher_of(tmp_path)


def test_transformers__refuses_other_families(tmp_path: Path) -> None:
    BertModel(BertConfig(**TOWER, vocab_size=10)).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="a model of type 'bert' cannot be a teacher here"):
        teacher_of(tmp_path)
