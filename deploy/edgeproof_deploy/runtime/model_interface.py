"""What every engine gives and takes: a session, and the names and layouts of a model's tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeproof_deploy.runtime.errors import BundleError

INPUTS = ("image", "views")
OUTPUTS = ("embedding", "logits", "tokens")
Shapes = Mapping[str, tuple[Any, ...]]


class Session(ABC):
    """A loaded model.

    Attributes:
        providers: what really runs it, the first one before the others.
        inputs: shape of each input by name; the axis of the batch is a name or -1.
        outputs: shape of each output by name.
        model: name of the file that runs.
        phases: milliseconds of the last `run` by part: `copy_in`, `compute`, `copy_out`. None where the
            engine does not part them (on a CPU nothing is copied), or nothing has run yet.
    """

    providers: tuple[str, ...]
    inputs: Shapes
    outputs: Shapes
    model: str = ""
    phases: Mapping[str, float] | None = None

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name. Inputs: `image` float32 (B, 3, H, W), normalised."""

    @abstractmethod
    def close(self) -> None:
        """Free the model."""


def check_tensors(inputs: Shapes, outputs: Shapes, model: str) -> None:
    """Refuse a model whose inputs or outputs have other names or another layout than ours.

    Raises:
        BundleError: says what was found and what is expected.
    """
    if len(inputs) != 1 or next(iter(inputs)) not in INPUTS:
        raise BundleError(model, f"has the inputs {', '.join(inputs)}; expected one of {', '.join(INPUTS)}")
    if not set(outputs) & set(OUTPUTS):
        raise BundleError(model, f"has the outputs {', '.join(outputs)}; expected {' or '.join(OUTPUTS)}")
    name, shape = next(iter(inputs.items()))
    axes = 4 + INPUTS.index(name)
    if len(shape) != axes or shape[-3] != 3:
        wanted = ("batch", "views", 3, "height", "width") if axes == 5 else ("batch", 3, "height", "width")
        shown = ", ".join(map(str, shape))
        last = len(shape) == axes and shape[-1] == 3
        raise BundleError(
            model,
            f"takes '{name}' as ({shown}){', channels last' if last else ''};"
            f" expected ({', '.join(map(str, wanted))})",
        )
