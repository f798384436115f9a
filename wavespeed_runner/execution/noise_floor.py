"""The noise floor: how close the reference comes to itself, generated again or in another precision.

A likeness to the reference says something only as far as it lies below this. Measured when everything else of the run
is done, so that nothing that is timed has a second model beside it; what comes of it is in the store like any output.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from ..errors import format_error
from ..planning.plan import Plan
from ..planning.reference import Floor
from ..process import interrupts
from .executor import Execution, StageRun, release
from .outputs import likeness

log = logging.getLogger("wavespeed_runner")


def measure(plan: Plan, execution: Execution, record: dict[str, Any]) -> None:
    """Adds `noise_floor` to the record's samples: {"repeat": metrics, "numerics": metrics}, as far as asked for.

    What fails here leaves a warning and no figure: the run's own images and times are there already. Most likely
    it is memory, since float32 takes twice that of a half precision.
    """
    for floor in plan.floors:
        failed = ""
        try:
            _measure(plan, floor, execution, record)
        except Exception as error:
            interrupts.raise_if_interrupted()
            log.debug("noise floor '%s' failed", floor.kind, exc_info=True)
            failed = f"{type(error).__name__}: {format_error(error)}"
        if failed:
            release(execution.resources)
            record["warnings"].append(f"the noise floor ({floor.what}) could not be measured: {failed}")


def summary(plan: Plan, samples: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The record's `noise_floor`: means over the samples; None where nothing is known of it."""
    from ..metrics.quality import summarize_metrics

    spreads = [s["reference_spread"] for s in samples if s.get("reference_spread") is not None]
    found: dict[str, Any] = {"latents_max_abs": max(spreads) if spreads else None, "repeat": None, "numerics": None}
    for floor in plan.floors:
        figures = [s["noise_floor"][floor.kind] for s in samples if floor.kind in s.get("noise_floor", {})]
        if len(figures) == len(samples):
            what = {"what": floor.what} if floor.kind == "numerics" else {}
            found[floor.kind] = what | {name: each["mean"] for name, each in summarize_metrics(figures).items()}
    return found if any(value is not None for value in found.values()) else None


def _measure(plan: Plan, floor: Floor, execution: Execution, record: dict[str, Any]) -> None:
    reference = plan.reference or plan.graph
    reference_keys = plan.reference_keys if plan.reference else plan.keys
    outputs = [keys[floor.graph.output] for keys in floor.keys]
    # With `rerun` what an earlier job of the sweep has made counts, as it does while executing.
    if not all(key in plan.store and (not execution.rerun or key in execution.fresh) for key in outputs):
        # Two models at once may not fit.
        release(execution.resources, keep={key for keys in floor.keys for key in keys.values()})
    size = plan.config.batch_size
    for first in range(0, len(plan.samples), size):
        batch = range(first, min(first + size, len(plan.samples)))
        samples = [plan.samples[i] for i in batch]
        runs: list[StageRun] = []
        try:
            made = execution.run(floor.graph, samples, [floor.keys[i] for i in batch], runs)
        finally:
            record["stages"] += [{**asdict(run), "of": floor.kind, "sample": batch[run.sample]} for run in runs]
        originals = execution.run(reference, samples, [reference_keys[i] for i in batch], [])
        for index, values, original in zip(batch, made, originals, strict=True):
            figures = likeness(floor.graph, values, original)
            record["samples"][index].setdefault("noise_floor", {})[floor.kind] = figures
