"""A student in PyTorch behind the interface of the engines: the reference for every other form."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from edgeproof_deploy.runtime.session import Session
from edgeproof_train.student import Student


class TorchSession(Session):
    """A student in fp32 and eval mode.

    Args:
        student: is moved to the device.
        device: `cpu` or `cuda`.
        threads: CPU threads within one operator, for the whole process; None leaves them as they are.
    """

    def __init__(self, student: Student, device: str = "cpu", threads: int | None = None):
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.student = student.float().to(self.device).eval()
        self.providers = (f"torch {self.device.type}",)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the embedding (B, D), not normalised."""
        with torch.inference_mode():
            image = torch.from_numpy(np.ascontiguousarray(inputs["image"])).to(self.device)
            return {"embedding": self.student(image).embedding.cpu().numpy()}

    def close(self) -> None:
        """Free the student."""
        del self.student
