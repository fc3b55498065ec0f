"""The outputs of all processes side by side, for losses that compare the images of a whole batch."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn import functional

from edgeproof_train.outputs import ABSENT, Mix, StepOutputs


def gathered(outputs: StepOutputs) -> StepOutputs:
    """Return outputs whose tensors hold the rows of every process, in the order of their ranks.

    Each process then computes the same loss. The gradient of its own rows is summed over the processes on the
    way back and averaged by DDP, which makes it that of the one loss over the whole batch. Every process
    must bring as many rows. With one process the outputs are returned as they are.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return outputs
    mix = outputs.mix
    return replace(
        outputs,
        student=outputs.student.map(of_all),
        second=outputs.second.map(of_all),
        teacher=outputs.teacher.map(of_all),
        label=outputs.label if outputs.label is ABSENT else of_all(outputs.label),
        mix=mix if mix is None else Mix(of_all(mix.partner), of_all(mix.share)),
        index=outputs.index if outputs.index is ABSENT else of_all(outputs.index),
    )


def of_all(rows: Tensor) -> Tensor:
    """Return the rows (W B, ...) of all W processes; gradients flow back where the rows have one."""
    rows = rows.contiguous()
    if rows.requires_grad:
        return torch.cat(functional.all_gather(rows))
    found = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(found, rows)
    return torch.cat(found)
