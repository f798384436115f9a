"""The noise floor: how close the reference comes to itself, generated again or in another precision.

Quality against the reference means something only as far as it is below the noise floor. It is measured when
everything else of the run is done, so that nothing is timed beside a second model; its images are stored like any
other.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from ..errors import format_error
from ..metrics.quality import summarize_metrics
from ..planning.plan import Plan
from ..planning.reference import Floor
from ..process import interrupts
from ..records.record import NoiseFloor, NumericsFloor, Record
from ..records.sample import Metrics, SampleRecord
from .batches import Pass, list_batches, run_pass
from .data_ranks import share_out
from .executor import Executor
from .outputs import compare_values

log = logging.getLogger("wavespeed_runner")


def measure(plan: Plan, executor: Executor, record: Record) -> None:
    """Adds `noise_floor` to each sample of the record: `repeat` and `numerics`, as far as the plan asks for them.

    A failure leaves a warning instead of figures, since the images and times of the run are there already. The most
    likely one is too little memory: float32 takes twice as much as half precision.
    """
    for floor in plan.floors:
        failure = ""
        try:
            _measure(plan, floor, executor, record)
        except Exception as error:
            interrupts.raise_if_interrupted()
            log.debug("noise floor '%s' failed", floor.kind, exc_info=True)
            failure = f"{type(error).__name__}: {format_error(error)}"
        if failure:  # here, where the exception no longer refers to the model
            executor.kept.release()
            record.warnings.append(f"the noise floor ({floor.what}) could not be measured: {failure}")


def summary(plan: Plan, samples: Sequence[SampleRecord]) -> NoiseFloor | None:
    """Makes the record's `noise_floor`, means over the samples; None where nothing was measured."""
    spreads = [sample.reference_spread for sample in samples if isinstance(sample.reference_spread, float)]
    result = NoiseFloor(latents_max_abs=max(spreads, default=None), repeat=None, numerics=None)
    for floor in plan.floors:
        figures = [metrics for sample in samples if (metrics := (sample.noise_floor or {}).get(floor.kind))]
        if len(figures) == len(samples):
            summaries = summarize_metrics([msgspec.to_builtins(metrics) for metrics in figures])
            means = {metric: each["mean"] for metric, each in summaries.items()}
            if floor.kind == "numerics":
                result.numerics = NumericsFloor(what=floor.what, **means)
            else:
                result.repeat = Metrics(**means)
    return result if result != NoiseFloor(latents_max_abs=None, repeat=None, numerics=None) else None


def _measure(plan: Plan, floor: Floor, executor: Executor, record: Record) -> None:
    reference = plan.reference or plan.graph
    reference_keys = plan.reference_keys if plan.reference else plan.keys
    outputs = [keys[floor.graph.output] for keys in floor.keys]
    # With `rerun=true`, what an earlier job of this sweep has computed counts as stored, as it does in the executor.
    if not all(key in plan.store and (not executor.rerun or key in executor.fresh) for key in outputs):
        # Two models at once may not fit.
        executor.kept.release({key for keys in floor.keys for key in keys.values()})
    each = Pass(graph=floor.graph, keys=floor.keys, of=floor.kind)
    with share_out(plan, executor, [each]) as ranks:
        for batch in list_batches(plan):
            made = ranks.finish(batch) if ranks else None
            record.stages += made or []
            results = run_pass(plan, executor, record.stages, batch, each, is_made=made is not None)
            samples, keys = [plan.samples[i] for i in batch], [reference_keys[i] for i in batch]
            originals = executor.run(reference, samples, keys, [])
            for index, values, original in zip(batch, results, originals, strict=True):
                sample = record.samples[index]
                metrics = compare_values(floor.graph, values, original)
                sample.noise_floor = {**(sample.noise_floor or {}), floor.kind: metrics}
