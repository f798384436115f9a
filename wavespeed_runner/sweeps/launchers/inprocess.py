"""`hydra/launcher=basic`: runs all jobs in this process, one after another. A loaded model stays for the next job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...execution.process_cache import ProcessCache
from ..folder import SweepFolder
from ..jobs import Job
from ..worker import perform

_kept: list[ProcessCache] = []
"""At most one, see `keep_models`."""


def launch(
    sweep: SweepFolder, jobs: list[Job], options: dict[str, Any], on_end: Callable[[int, str], None]
) -> dict[int, str]:
    """Runs the jobs and calls `on_end(number, reason)` as each ends; returns why some left no final record."""
    cache, lost = _kept[0] if _kept else ProcessCache(), {}
    try:
        for job in sort_by_model(jobs):
            if reason := perform(sweep, job, cache):
                sweep.mark_lost(job.number, reason)
                lost[job.number] = reason
            on_end(job.number, reason)
    finally:
        if not _kept:
            cache.clear()
    return lost


@contextmanager
def keep_models() -> Iterator[None]:
    """Within it, a loaded model stays from sweep to sweep."""
    _kept.append(ProcessCache())
    try:
        yield
    finally:
        _kept.pop().clear()


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
