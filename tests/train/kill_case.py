"""`python kill_case.py FOLDER KILLS SEED`: train once in peace, then again under kill -9 at random moments.

All imports are done once; every attempt is a process of its own, forked from this one. Leaves FOLDER/peace
and FOLDER/killed-0, killed-1, ..., each the folder of a training that came to its end; prints how many
kills there were.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
import training_case

SETTINGS: dict[str, Any] = {"epochs": 5, "checkpoint_every_steps": 2}
LONGEST_SECONDS = 1.5


def attempt(folder: Path, seconds: float | None) -> bool:
    """Train in a new process, kill it after some seconds; return whether it had come to its end."""
    child = os.fork()
    if child == 0:
        training_case.run(folder, **SETTINGS)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, f"training failed: {status}"
        return True
    assert os.WTERMSIG(status) == signal.SIGKILL
    return False


def main(folder: Path, kills: int, seed: int) -> None:
    """Train until there have been that many kills, and the last training has ended."""
    chance = random.Random(seed)
    attempt(folder / "peace", None)
    done = trainings = 0
    while done < kills:
        place = folder / f"killed-{trainings}"
        while not attempt(place, chance.uniform(0, LONGEST_SECONDS) if done < kills else None):
            done += 1
        trainings += 1
    print(done)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
