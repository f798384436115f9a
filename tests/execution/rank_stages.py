"""A plugin with stages for several ranks, which the ranks of a test find as an installed one: they exchange sums, and
one of them misbehaves as it is told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from wavespeed_runner.accelerate.compile_options import NoCompile
from wavespeed_runner.accelerate.parallel.lean import is_lean
from wavespeed_runner.artifacts import Images, Pipeline, Sample
from wavespeed_runner.execution.ranks.group import RankGroup
from wavespeed_runner.stages import stage

STEPS = 5


class Does(Enum):
    nothing = "nothing"
    fails = "fails"
    runs_out_of_memory = "runs_out_of_memory"
    is_killed = "is_killed"
    exits = "exits"
    stops = "stops"
    sleeps = "sleeps"


@dataclass(kw_only=True)
class SumOptions:
    """What a rank does after some of `STEPS` sums over all ranks."""

    does: Does = Does.nothing
    rank: int = 1
    after: int = 2
    numbers: dict[str, tuple[float, ...]] = field(default_factory=dict)


@stage("rank_load", options=SumOptions, pure=False, collective=True)
def load(options: SumOptions) -> Pipeline:
    DEEDS[options.does]()
    return Pipeline(pipe={"calls": 0}, model=None, family=None, device="cpu")


@stage("rank_sum", options=SumOptions, collective=True)
def add_up(options: SumOptions, *, pipeline: Pipeline, images: Images, sample: Sample | None = None) -> Images:
    """Sums over ranks, step by step, of what each of them was given."""
    import torch
    from torch import distributed

    pipeline.pipe["calls"] += 1
    first = float(images.tensors["images"].sum()) + pipeline.pipe["calls"]
    total = torch.tensor([first, float(len(options.numbers)), float(is_lean(NoCompile()))])
    for step in range(STEPS):
        if step == options.after and distributed.get_rank() == options.rank:
            DEEDS[options.does]()
        distributed.all_reduce(total)
    return Images(tensors={"images": total.numpy()})


def _fail() -> None:
    raise ValueError("a broken\nlayer")


def _run_out_of_memory() -> None:
    raise MemoryError("Tried to allocate 5.00 GiB")


DEEDS: dict[Does, Callable[[], Any]] = {
    Does.nothing: lambda: None,
    Does.fails: _fail,
    Does.runs_out_of_memory: _run_out_of_memory,
    Does.is_killed: lambda: os.kill(os.getpid(), signal.SIGKILL),
    Does.exits: lambda: os._exit(3),
    Does.stops: lambda: os.kill(os.getpid(), signal.SIGSTOP),
    Does.sleeps: lambda: time.sleep(1000),
}


def install(folder: Path) -> str:
    """Makes this module an installed plugin for processes that have the folder on their path."""
    info = folder / "rank_stages-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rank-stages\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[wavespeed_runner.plugins]\nrank_stages = tests.execution.rank_stages\n")
    return str(folder)


def call(group: RankGroup, pipeline: Pipeline | None = None, **options: Any) -> Any:
    """Loads on all ranks, unless a pipeline is given, and adds up on all; returns the pipeline and the sums."""
    given = SumOptions(**options)
    if pipeline is None:
        (pipeline,) = group.call("rank_load", SumOptions(), [{}], ["a key"], lambda: [load(SumOptions())])
    inputs = {"pipeline": pipeline, "images": Images(tensors={"images": np.arange(4)}), "sample": None}
    (sums,) = group.call("rank_sum", given, [inputs], [None], lambda: [add_up(given, **inputs)])
    return pipeline, sums.tensors["images"]
