"""Where a timm backbone's first weights come from, with the preprocessing and arguments that go with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg
from torch import Tensor, nn

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_configs.files import read_json
from edgeproof_data.paths import resolve_path
from edgeproof_train.hub import hub_file
from edgeproof_train.student import CARD_FILE, WEIGHTS_FILE
from edgeproof_train.weights import load_into, read_weights

KEY = "student.weights"
HUB = "hub"
NOT_ARGUMENTS = ("model_name", "pretrained", "num_classes", "in_chans")


@dataclass(frozen=True)
class StartWeights:
    """The start of a backbone.

    Attributes:
        preprocessing: `mean`, `std`, `interpolation`, `crop_pct`.
        arguments: what the model has to be created with for these weights.
        file: weights to load strictly; None for random ones or timm's own.
        hub: weights of timm's own, fetched.
    """

    preprocessing: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    file: Path | None = None
    hub: Path | None = None

    def timm_options(self) -> dict[str, Any]:
        """Return the options of `timm.create_model` that make it read the fetched file."""
        if self.hub is None:
            return {"pretrained": False}
        return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(self.hub)}}

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights as they lie in the file, the classifier's too; none for random ones."""
        file = self.file or self.hub
        return read_weights(file, KEY) if file else {}

    def load(self, backbone: nn.Module) -> None:
        """Load a local file into the backbone; the file's classifier is left out.

        Raises:
            EdgeproofError: the file is cut, or its tensors are not the backbone's.
        """
        if self.file is None:
            return
        dropped = {f"{name}.{part}" for name in classifier_names(backbone) for part in ("weight", "bias")}
        state = {name: value for name, value in read_weights(self.file, KEY).items() if name not in dropped}
        load_into(backbone, state, KEY, self.file)


def start_weights(model: str, weights: str | None, root: Path | None) -> StartWeights:
    """Return where a backbone starts from.

    Args:
        model: timm's name.
        weights: file, folder, `hub` or None, as in the recipe.
        root: relative paths are looked for here first.

    Raises:
        EdgeproofError: there is no such file, or the hub cannot be reached.
        UsageError: the `config.json` beside the file is of another architecture.
    """
    known = timm.get_pretrained_cfg(model) or PretrainedCfg()
    own = {key: getattr(known, key) for key in ("mean", "std", "interpolation", "crop_pct")}
    if weights is None:
        return StartWeights(own)
    if weights == HUB:
        if not known.hf_hub_id:
            raise UsageError(
                f"timm has no weights for '{model}' on the hub",
                where=KEY,
                fix="name a local file, or remove it",
            )
        return StartWeights(own, hub=hub_file(known.hf_hub_id, [WEIGHTS_FILE], KEY))
    file = resolve_path(weights, root)
    if file.is_dir():
        file = file / WEIGHTS_FILE
    if not file.exists():
        raise DataError(f"{KEY}: the folder has no {WEIGHTS_FILE}", where=file.parent)
    card = file.parent / CARD_FILE
    if not card.exists():
        return StartWeights(own, file=file)
    described = read_json(card)
    check_architecture(described.get("architecture"), model, card)
    told = {**described, **described.get("pretrained_cfg", {})}
    preprocessing = {key: _tupled(told.get(key, own[key])) for key in own}
    arguments = described.get("model_args") or described.get("create_model_kwargs") or {}
    kept = {key: value for key, value in arguments.items() if key not in NOT_ARGUMENTS}
    return StartWeights(preprocessing, kept, file)


def classifier_names(backbone: nn.Module) -> tuple[str, ...]:
    """Return the names that timm gives to this architecture's classifiers."""
    settings: Any = backbone.pretrained_cfg
    named = settings.get("classifier") or ()
    return (named,) if isinstance(named, str) else tuple(named)


def check_architecture(told: str | None, model: str, card: Path) -> None:
    """Refuse weights whose own description names another architecture."""
    if told is not None and told.split(".")[0] != model.split(".")[0]:
        raise UsageError(
            f"{KEY}: the weights are of '{told}', the recipe's student is '{model}'",
            where=card,
            fix=f"set student.model: {told}, or name other weights",
        )


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
