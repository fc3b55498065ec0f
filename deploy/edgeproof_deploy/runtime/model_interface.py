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
        input_name: `image`, or `views` of a model that looks at several views of an object at once.
        model: name of the file that runs.
        phases: milliseconds of the last `run` by part: `copy_in`, `compute`, `copy_out`. None where the
            engine does not part them (on a CPU nothing is copied), or nothing has run yet.
        load_seconds: what loading took by part, the first run among them, where that is worth telling: it is
            in no latency.
        kernels: of an engine that compiles its kernels while loading, whether a cache had them.
    """

    providers: tuple[str, ...]
    inputs: Shapes
    outputs: Shapes
    model: str = ""
    phases: Mapping[str, float] | None = None
    load_seconds: Mapping[str, float] | None = None
    kernels: str = ""

    @property
    def input_name(self) -> str:
        """Name of the one input."""
        return next(iter(self.inputs))

    def loading(self) -> dict[str, Any]:
        """Return `load_seconds` and `kernels` as plain data, where there is something to tell."""
        told = {"load_seconds": dict(self.load_seconds)} if self.load_seconds else {}
        return told | ({"kernels": self.kernels} if self.kernels else {})

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name.

        Inputs: `image` float32 (B, 3, H, W), or `views` float32 (B, V, 3, H, W), normalised.
        """

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


def checked_input(
    inputs: Mapping[str, np.ndarray], shapes: Shapes, model: str, dtype: type | np.dtype = np.float32
) -> np.ndarray:
    """Return the array of a model's one input, which has its name, type and shape.

    For engines that would take anything and compute something.

    Args:
        inputs: what `run` was called with.
        shapes: of the model's inputs; a side that is no number from 0 up is free.
        model: what the model is called in an error.
        dtype: what the model takes.

    Raises:
        ValueError: says what was got and what the model takes.
    """
    name, shape = next(iter(shapes.items()))
    if set(inputs) != {name}:
        raise ValueError(f"{model} takes '{name}', got {', '.join(inputs) or 'nothing'}")
    array = np.asarray(inputs[name])
    if array.dtype != dtype:
        raise ValueError(f"{model} takes '{name}' as {np.dtype(dtype)}, got {array.dtype}")
    free = [not isinstance(side, int) or side < 0 for side in shape]
    fits = [any_side or side == got for any_side, side, got in zip(free, shape, array.shape, strict=False)]
    if array.ndim != len(shape) or not all(fits) or not len(array):
        wanted = ", ".join(
            "batch" if any_side else str(side) for any_side, side in zip(free, shape, strict=True)
        )
        raise ValueError(f"{model} takes '{name}' as ({wanted}), got {array.shape}")
    return array
