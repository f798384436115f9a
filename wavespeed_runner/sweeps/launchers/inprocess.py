"""`hydra/launcher=basic`: runs all jobs in this process, one after another. A loaded model stays for the next job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...execution.process_cache import ProcessCache
from ..folder import SweepFolder
from ..jobs import Job
from ..worker import perform


def launch(
    sweep: SweepFolder, jobs: list[Job], options: dict[str, Any], on_end: Callable[[int, str], None]
) -> dict[int, str]:
    """Runs the jobs and calls `on_end(number, reason)` as each ends; returns why some left no final record."""
    cache, lost = ProcessCache(), {}
    try:
        for job in sort_by_model(jobs):
            if reason := perform(sweep, job, cache):
                sweep.mark_lost(job.number, reason)
                lost[job.number] = reason
            on_end(job.number, reason)
    finally:
        cache.clear()
    return lost


def sort_by_model(jobs: list[Job]) -> list[Job]:
    """Sorts the jobs so that those with the same model run one after another: it is loaded once."""
    first: dict[frozenset[str], int] = {}
    for job in jobs:
        first.setdefault(_model_keys(job), job.number)
    return sorted(jobs, key=lambda job: (first[_model_keys(job)], job.number))


def _model_keys(job: Job) -> frozenset[str]:
    """Keys of the outputs of a job's stages that are only kept in the process: the loaded models."""
    assert job.plan is not None
    nodes = job.plan.graph.nodes.values()
    return frozenset(keys[node.name] for keys in job.plan.keys for node in nodes if not node.stage.pure)
