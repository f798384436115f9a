"""`hydra/launcher=basic`: all jobs in this process, one after another. What is loaded stays for the next one."""

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
    """Runs the jobs and calls `on_end(number, reason)` as each ends; why some left no final record."""
    cache, lost = ProcessCache(), {}
    try:
        for job in by_what_they_load(jobs):
            if reason := perform(sweep, job, cache):
                sweep.mark_lost(job.number, reason)
                lost[job.number] = reason
            on_end(job.number, reason)
    finally:
        cache.clear()
    return lost


def by_what_they_load(jobs: list[Job]) -> list[Job]:
    """Jobs that load the same one after another, else in their own order: a model is loaded once."""
    first: dict[frozenset[str], int] = {}
    for job in jobs:
        first.setdefault(_loads(job), job.number)
    return sorted(jobs, key=lambda job: (first[_loads(job)], job.number))


def _loads(job: Job) -> frozenset[str]:
    """Keys of what a job's stages give that lives in the process only."""
    assert job.plan is not None
    nodes = job.plan.graph.nodes.values()
    return frozenset(keys[node.name] for keys in job.plan.keys for node in nodes if not node.stage.pure)
