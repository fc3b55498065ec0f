"""A student to measure with: any timm name, random weights, batch norms that have seen something."""

from __future__ import annotations

import torch

from edgeproof_train.student import Student
from edgeproof_train.students.timm import TimmStudent

DIM = 512


def make_student(model: str, image_size: int) -> Student:
    """Return a student of this name in eval mode; the same name always gives the same weights."""
    torch.manual_seed(0)
    config = TimmStudent.Config.model_validate({"model": model, "image_size": image_size})
    student = TimmStudent(config, DIM)
    student.train()
    with torch.no_grad():
        for _ in range(2):
            student(torch.randn(4, 3, image_size, image_size))
    return student.eval()
