"""The processes of one `torchrun`: the first decides and writes, the others help where work can be shared."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

LONGEST_STAGE = timedelta(days=14)
T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those that `torchrun` started; alone where there was no `torchrun`."""

    rank: int
    world: int

    @classmethod
    def here(cls) -> Processes:
        """Return what the environment says."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        """Whether this is the process that decides and writes."""
        return self.rank == 0

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Connect the processes for the length of a block."""
        if self.world == 1:
            yield
            return
        import torch
        from torch import distributed

        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=LONGEST_STAGE)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def share(self, value: T) -> T:
        """Return the first process's value on all of them; they wait for each other here."""
        if self.world == 1:
            return value
        from torch import distributed

        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def once(self, make: Callable[[], T]) -> T:
        """Return what the first process makes, on all of them; the others wait for it."""
        return self.share(make() if self.first else cast("T", None))

    def device(self, name: str) -> str:
        """Return the torch device of this process: of several GPUs of a machine, each has its own."""
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if name == "cuda" and self.world > 1 else name

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes on the first one, by rank; none on the others."""
        if self.world == 1:
            return [value]
        from torch import distributed

        box: list[T] = [value] * self.world
        distributed.gather_object(value, box if self.first else None)
        return box if self.first else []


ALONE = Processes(0, 1)
