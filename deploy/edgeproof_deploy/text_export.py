"""The teacher's text tower as ONNX with its tokenizer, compared with the teacher before it is kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from edgeproof_configs.errors import EdgeproofError, GateError
from edgeproof_configs.files import write_bytes, write_json, write_text
from edgeproof_data.prompts import read_templates
from edgeproof_deploy.export import COSINE_LIMIT, IR_VERSION, LARGEST_WEIGHTS_BYTES, RANGE_LIMIT, clean_graph
from edgeproof_deploy.numerics import cosines
from edgeproof_deploy.runtime.bundle import TEXT_FOLDER
from edgeproof_deploy.runtime.session import OnnxSession
from edgeproof_deploy.runtime.text_encoder import MERGES, TEXT_MODEL, TEXT_SETTINGS, TextEncoder, TextSettings
from edgeproof_deploy.runtime.tokenizer import Tokenizer
from edgeproof_train.run_data import RunData
from edgeproof_train.teacher import Teacher
from edgeproof_train.text_tower import TextTower

PROMPTS = 256
OTHER_TEXTS = (
    "",
    "a photo of a cat.",
    "Zwei naïve Bären № 5 “draußen”…",
    "東京 🗼 at 7&nbsp;o'clock",
    "long " * 90,
)
IMAGE_PARTS = ("visual.", "vision_model.", "visual_projection.")


@dataclass(frozen=True)
class TextExport:
    """What was written, and how far it is from the teacher.

    Attributes:
        files: model, settings, merges.
        size_bytes: of all of them.
        texts: how many were compared.
        cosine_min: worst cosine between a text's embedding by the teacher and on the device.
    """

    files: list[Path]
    size_bytes: int
    texts: int
    cosine_min: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain data without the paths."""
        return {"size_bytes": self.size_bytes, "texts": self.texts, "cosine_min": self.cosine_min}


def export_run_text(data: RunData, folder: Path) -> TextExport:
    """Write the text tower of a run's teacher with the prompt templates of its head.

    Args:
        data: of the run; its text embeddings are made.
        folder: of the stage; the files lie in `text/` in it.

    Raises:
        UsageError: the teacher has no text tower that a bundle can carry.
        EdgeproofError: it cannot be exported.
        GateError: on the device it gives something else than in PyTorch.
    """
    spec = getattr(data.recipe.head, "text_spec", lambda: None)()
    templates = read_templates(spec.templates, data.source.root) if spec is not None else ["{}"]
    prompts = [text for row in data.words().prompts for text in row] or list(data.words().names)
    chosen = [
        prompts[place] for place in np.linspace(0, len(prompts) - 1, min(PROMPTS, len(prompts))).astype(int)
    ]
    return export_text(data.teacher.lead, folder, templates, chosen, opset=data.recipe.deploy.opset)


def export_text(
    teacher: Teacher, folder: Path, templates: Sequence[str], texts: Sequence[str], *, opset: int = 18
) -> TextExport:
    """Write a teacher's text tower and compare it with the teacher, from text to embedding.

    Input `tokens`: int64 (batch, L). Output `text_embedding`: float32 (batch, D), not normalised.

    Args:
        teacher: has a text tower.
        folder: the files lie in `text/` in it.
        templates: sentences with `{}`.
        texts: to compare on; a tower that knows all words is compared on some odd texts, too.
        opset: ONNX operator set.

    Raises:
        UsageError: it has no text tower that a bundle can carry.
        EdgeproofError: it cannot be exported.
        GateError: on the device it gives something else than in PyTorch.
    """
    tower = teacher.text_tower()
    _refuse_large(tower, folder)
    settings = TextSettings(
        tower.cleaning,
        tower.context_length,
        tower.padding,
        tuple(templates),
        None if tower.known is None else tuple(tower.known),
    )
    model = _trace(tower, opset)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)
    compared = [*texts, *(OTHER_TEXTS if tower.known is None else ())]
    worst = compare_text(teacher, tower, data, compared, folder)
    place = {name: folder / name for name in (TEXT_MODEL, TEXT_SETTINGS, MERGES)}
    (folder / TEXT_FOLDER).mkdir(parents=True, exist_ok=True)
    write_bytes(place[TEXT_MODEL], data)
    write_text(place[MERGES], "".join(f"{' '.join(pair)}\n" for pair in tower.merges))
    told = {"texts_compared": len(compared), "cosine_min": worst}
    write_json(place[TEXT_SETTINGS], settings.to_dict() | told)
    size = sum(file.stat().st_size for file in place.values())
    return TextExport(list(place.values()), size, len(compared), worst)


def _refuse_large(tower: TextTower, folder: Path) -> None:
    named = tower.module.state_dict().items()
    parts = [value for name, value in named if not any(part in f"{name}." for part in IMAGE_PARTS)]
    size = sum(value.numel() * value.element_size() for value in parts)
    if size > LARGEST_WEIGHTS_BYTES:
        raise EdgeproofError(
            f"the text tower has {size / 1e9:.1f} GB of weights, one ONNX file holds at most 2 GB",
            where=folder,
            fix="set deploy.text_encoder: false",
        )


def _trace(tower: TextTower, opset: int) -> onnx.ModelProto:
    module = tower.module
    if any(parameter.device.type != "cpu" for parameter in module.parameters()):
        module = copy.deepcopy(module).cpu()
    start = (tower.known.index(tower.tokens - 2) if tower.known else tower.tokens - 2) or 0
    tokens = torch.full((2, tower.context_length), start)
    try:
        program = torch.onnx.export(
            module.eval(),
            (tokens,),
            dynamo=True,
            opset_version=opset,
            input_names=["tokens"],
            output_names=["text_embedding"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            external_data=False,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        reason = (str(error.__cause__ or error).strip().splitlines() or ["no reason given"])[0]
        raise EdgeproofError(
            f"the text tower cannot be exported to ONNX: {reason[:300]}", fix="set deploy.text_encoder: false"
        ) from error
    assert program is not None
    model = program.model_proto
    clean_graph(model)
    model.ir_version = min(model.ir_version, IR_VERSION)
    return model


def compare_text(
    teacher: Teacher, tower: TextTower, data: bytes, texts: Sequence[str], folder: Path
) -> float:
    """Return the worst cosine between teacher and device, each with its own tokenizer."""
    tokenizer = Tokenizer(
        tower.merges,
        cleaning=tower.cleaning,
        context_length=tower.context_length,
        padding=tower.padding,
        known=tower.known,
    )
    session = OnnxSession(data, threads=torch.get_num_threads(), name=TEXT_MODEL)
    got = TextEncoder(session, tokenizer, ["{}"]).raw(texts)
    session.close()
    expected = teacher.encode_text(list(texts)).cpu().numpy()
    worst = float(cosines(expected, got).min())
    largest, limit = float(np.abs(expected - got).max()), RANGE_LIMIT * float(np.ptp(expected))
    if not (worst >= COSINE_LIMIT and largest <= limit):
        text = texts[int(cosines(expected, got).argmin())]
        raise GateError(
            f"the text tower differs on the device: cosine {worst:.6f} (limit {COSINE_LIMIT}) for"
            f" '{text[:60]}', largest difference {largest:.2g} (limit {limit:.2g})",
            where=folder / TEXT_MODEL,
            fix="nothing was written; set deploy.text_encoder: false",
        )
    return worst
