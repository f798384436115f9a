"""Tells whether torchrun or srun has started this process as one of several ranks."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that torchrun sets for each of its processes; see
https://docs.pytorch.org/docs/stable/elastic/run.html"""


@dataclass(frozen=True, kw_only=True)
class Launched:
    """This process among those that were started together."""

    by: str
    """`torchrun` or `srun`."""
    rank: int
    world: int
    """All ranks."""
    local_rank: int
    """Among those on this machine."""
    local_world: int


def find_launch() -> Launched | None:
    """What the environment says; None for a process that was started alone.

    Of Slurm, the variables of a job step are read: those of a job are also set in its batch script, which runs once.
    """
    given = os.environ
    try:
        if all(name in given for name in TORCHRUN) and (world := int(given["WORLD_SIZE"])) > 1:
            rank = int(given["RANK"])
            local_rank, local_world = int(given.get("LOCAL_RANK", rank)), int(given.get("LOCAL_WORLD_SIZE", world))
            return Launched(by="torchrun", rank=rank, world=world, local_rank=local_rank, local_world=local_world)
        if "SLURM_PROCID" in given and (world := int(given.get("SLURM_STEP_NUM_TASKS", "1"))) > 1:
            tasks = _expand_counts(given["SLURM_STEP_TASKS_PER_NODE"])
            return Launched(
                by="srun",
                rank=int(given["SLURM_PROCID"]),
                world=world,
                local_rank=int(given["SLURM_LOCALID"]),
                local_world=tasks[int(given["SLURM_NODEID"])],
            )
    except (ValueError, LookupError, AttributeError):  # not theirs
        pass
    return None


def _expand_counts(text: str) -> list[int]:
    """Tasks of each node: `2(x3),1` -> 2, 2, 2, 1."""
    counts = []
    for part in text.split(","):
        count, times = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part).groups()  # type: ignore[union-attr]
        counts += [int(count)] * int(times or 1)
    return counts
