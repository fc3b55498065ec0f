"""A student in PyTorch behind the interface of the engines: the reference for every other form."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from edgeproof_deploy.runtime.session import Session
from edgeproof_train.student import Student


class TorchSession(Session):
    """A student in eval mode.

    Args:
        student: is moved to the device.
        device: `cpu` or `cuda`.
        threads: CPU threads within one operator, for the whole process; None leaves them as they are.
        dtype: of its weights and of everything that it computes; it takes and gives fp32.
    """

    def __init__(
        self,
        student: Student,
        device: str = "cpu",
        threads: int | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.dtype = dtype
        self.student = student.to(self.device, dtype).eval()
        self.model = "model.safetensors"
        self.providers = (f"torch {self.device.type}",)
        side = student.preprocess.image_size
        free = (-1, -1) if student.input_name == "views" else (-1,)
        self.inputs = {student.input_name: (*free, 3, side, side)}
        self.outputs = {"embedding": (-1, student.embedding_dim)}

    def embed(self, image: Tensor) -> Tensor:
        """Return the embedding (B, D) of images (B, 3, H, W), or of objects (B, V, 3, H, W)."""
        return self.student(image).embedding

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the embedding (B, D), not normalised."""
        with torch.inference_mode():
            given = np.ascontiguousarray(inputs[self.input_name])
            image = torch.from_numpy(given).to(self.device, self.dtype)
            return {"embedding": self.embed(image).float().cpu().numpy()}

    def close(self) -> None:
        """Free the student."""
        del self.student


class CompiledSession(TorchSession):
    """A student through torch.compile, as one graph or not at all.

    The first run compiles for its batch size, the next other size for all sizes, and one image alone once
    more: time none of these.

    Args:
        student: is moved to the device.
        device: `cpu` or `cuda`.
        threads: CPU threads within one operator, for the whole process; None leaves them as they are.
        backend: of torch.compile.
        dtype: as of `TorchSession`.
    """

    def __init__(
        self,
        student: Student,
        device: str = "cpu",
        threads: int | None = None,
        backend: str = "inductor",
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__(student, device, threads, dtype)
        self.providers = (f"torch.compile {backend} {self.device.type}",)
        eager = super().embed
        self._compiled: Callable[[Tensor], Tensor] = torch.compile(eager, fullgraph=True, backend=backend)

    def embed(self, image: Tensor) -> Tensor:
        """Return the embedding (B, D) of images (B, 3, H, W), or of objects (B, V, 3, H, W)."""
        return self._compiled(image)

    def close(self) -> None:
        """Free the student and its code."""
        del self._compiled
        super().close()
