"""Executes a plan: reference and candidate in turn, images, figures, record. Whatever happens, a record is left."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

from ..artifacts import Latents, Sample
from ..caching import merge_evidence
from ..caching.attach.diffusers_options import DiffusersHookOptions
from ..caching.strategies import find_threshold_key
from ..config.lossy import is_lossy_beside_caches
from ..config.schema import CacheConfig
from ..errors import ConfigError, format_error
from ..media.contact_sheet import COLUMNS
from ..planning.graph import Graph
from ..planning.plan import Plan
from ..process import interrupts
from ..records.record import cache_summary, new_record, timing_summary, write_config, write_record
from . import noise_floor
from .executor import Execution, Memory, StageRun
from .outputs import Shown, save_overview, save_sample, save_trace

RECORD_S = 1.0
"""Seconds between two writings of the record while a job of a sweep runs."""

IN_TURN_S = 900.0
"""Seconds between two timings that still count as taken in turn: the machine is as warm and as busy."""

log = logging.getLogger("wavespeed_runner")


def run_plan(plan: Plan, folder: Path, overrides: list[str], *, memory: Memory | None = None) -> dict[str, Any]:
    """Runs a plan into a folder and returns its record (also on disk), whose `status` says how it ended.

    Nothing is raised but `KeyboardInterrupt`, after the record of the interrupted run is written. A failed run keeps
    no model and no traceback alive.

    Args:
        memory: what a sweep has loaded and read so far, for its next jobs; emptied when this one fails. A job of a
            sweep leaves no `overview.png` and `trace.png`, which the sweep's report shows, and writes its record at
            most once a second while it runs.
    """
    if memory is not None:
        memory.keep_only({key for keys in (*plan.keys, *plan.reference_keys) for key in keys.values()})
    record = new_record(plan, overrides)
    record["identity"] = plan.identity
    record["output_dir"] = str(folder)
    stage = "start"

    def on_stage(name: str) -> None:
        nonlocal stage
        stage = name

    execution = Execution(
        plan.store, rerun=plan.config.rerun, on_stage=on_stage, device=plan.config.device, memory=memory
    )
    try:
        write_config(folder, plan)
        write_record(folder, record)  # from here on a kill, too, leaves a record
        _run_samples(plan, folder, execution, record)
        noise_floor.measure(plan, execution, record)  # here, where no batch's values hold the model any more
        interrupts.raise_if_interrupted()
        record["status"] = "completed"
    except KeyboardInterrupt:
        record["error"] = {"stage": stage, "type": "KeyboardInterrupt", "message": "interrupted"}
        raise
    except (Exception, SystemExit) as error:  # a library's exit() must not end a sweep
        if interrupts.was_interrupted():
            record["error"] = {"stage": stage, "type": "KeyboardInterrupt", "message": "interrupted"}
            raise KeyboardInterrupt from None
        record["status"] = "failed"
        record["error"] = {"stage": stage, "type": type(error).__name__, "message": format_error(error)}
        log.debug("stage '%s' failed", stage, exc_info=True)
    finally:
        execution.close()
        try:
            _conclude(plan, execution, record)
            write_record(folder, record)
        except Exception as error:
            record["status"] = "failed"
            failure = {"stage": "record", "type": type(error).__name__, "message": format_error(error)}
            record["error"] = record["error"] or failure
        if memory is not None and record["status"] != "completed":
            memory.clear()  # here, where no exception holds the frames in which the model still is
    return record


def _run_samples(plan: Plan, folder: Path, execution: Execution, record: dict[str, Any]) -> None:
    """Batch after batch, each right after its reference: the two see the same machine in the same minute."""
    from tqdm import tqdm

    shown: list[Shown] = []
    size, written = plan.config.batch_size, monotonic()
    in_sweep = execution.memory is not None
    with tqdm(total=len(plan.samples), desc="images", unit="image", leave=False, disable=None) as bar:
        for first in range(0, len(plan.samples), size):
            interrupts.raise_if_interrupted()
            batch = range(first, min(first + size, len(plan.samples)))
            references: list[Any] = [None] * len(batch)
            if plan.reference:
                references = _run_graph(plan, plan.reference, plan.reference_keys, batch, execution, record)
            made = _run_graph(plan, plan.graph, plan.keys, batch, execution, record)
            execution.on_stage("images")
            for index, values, reference in zip(batch, made, references, strict=True):
                entry = _sample_entry(plan.samples[index], values, reference)
                entry["source"] = _source(record, index, "run", set(_latents(values)))
                if reference:
                    entry["reference_source"] = _source(record, index, "reference", set(_latents(reference)))
                column = save_sample(plan, folder, index, entry, values, reference)
                # The sheet counts the columns that it leaves out, but their images need not be kept.
                shown.append(column if index < COLUMNS else shown[-1])
                record["samples"].append(entry)
                if not in_sweep or monotonic() - written > RECORD_S:
                    write_record(folder, record)
                    written = monotonic()
                bar.update()
    if not in_sweep:
        save_overview(plan, folder, shown)
    save_trace(folder, record, plot=not in_sweep)


def _run_graph(
    plan: Plan,
    graph: Graph,
    keys: list[dict[str, str]],
    batch: range,
    execution: Execution,
    record: dict[str, Any],
) -> list[dict[str, Any]]:
    """Runs one graph for the samples of a batch, listing its stages in the record; the values of its nodes."""
    runs: list[StageRun] = []
    try:
        samples, in_turn = [plan.samples[i] for i in batch], plan.config.measure.in_turn
        return execution.run(graph, samples, [keys[i] for i in batch], runs, denoise_again=in_turn)
    finally:
        of = "reference" if graph is plan.reference else "run"
        record["stages"] += [{**asdict(run), "of": of, "sample": batch[run.sample]} for run in runs]


def _latents(values: dict[str, Any]) -> dict[str, Any]:
    """What the denoising stages of a graph left in their data, by node."""
    return {
        name: value.data
        for name, value in values.items()
        if isinstance(value, Latents) and "seconds" in value.data  # not what only passes latents on
    }


def _sample_entry(sample: Sample, values: dict[str, Any], reference: dict[str, Any] | None) -> dict[str, Any]:
    """The record's entry of one image: what denoising it took. A graph with several denoisers adds them up."""
    passes = _latents(values)
    entry: dict[str, Any] = {
        "prompt": sample.prompt,
        "seed": sample.seed,
        "seconds": sum(median(p["seconds"]) for p in passes.values()),
        "raw_seconds": [sum(both) for both in zip(*(p["seconds"] for p in passes.values()), strict=False)],
        "first_call": _total(p["first_call"] for p in passes.values()),
        "steps": [{**step, "stage": name} for name, p in passes.items() for step in p["steps"]],
        "engaged": {name: p["engaged"] for name, p in passes.items()},
        "quality": None,
    }
    if reference:
        compared = _latents(reference).values()
        entry["timed_together"] = _in_turn([*passes.values(), *compared])
        entry["reference_seconds"] = sum(median(p["seconds"]) for p in compared)
        entry["reference_raw_seconds"] = [sum(both) for both in zip(*(p["seconds"] for p in compared), strict=False)]
        entry["reference_steps"] = sum(len(p["steps"]) for p in compared)
        entry["reference_spread"] = max((p["spread"] for p in compared if p["spread"] is not None), default=None)
    return entry


def _in_turn(timings: list[dict[str, Any]]) -> bool:
    """Whether one process took these timings, each within `IN_TURN_S` after the one before: one process alone may have
    timed the reference hours ago, in an early job of a long sweep."""
    timed_by = {timing.get("timed_by") for timing in timings}
    if len(timed_by) != 1 or None in timed_by:
        return False
    # Without them (the store has it from an earlier version) the process must do.
    spans = sorted(timing["timed_at"] for timing in timings if "timed_at" in timing)
    return all(after[0] - before[1] < IN_TURN_S for before, after in pairwise(spans))


def _source(record: dict[str, Any], index: int, of: str, denoisers: set[str]) -> str:
    """`computed` when this run denoised the image, `store` when it had been done (and timed) before."""
    mine = (s for s in record["stages"] if s["of"] == of and s["sample"] == index and s["name"] in denoisers)
    return "computed" if any(stage["source"] == "computed" for stage in mine) else "store"


def _total(seconds: Iterable[float | None]) -> float | None:
    known = [s for s in seconds if s is not None]
    return sum(known) if known else None


def _conclude(plan: Plan, execution: Execution, record: dict[str, Any]) -> None:
    """The figures over all samples that were finished, also of a run that failed later."""
    samples = record["samples"]
    record["warnings"] += [f"rule {v.rule}: {v.message}; {v.fix}" for v in plan.verdicts if v.verdict == "unverified"]
    if execution.store.damaged:
        record["warnings"].append(f"{len(execution.store.damaged)} damaged store entries were found and computed again")
    if not samples:
        return
    from ..metrics.quality import summarize_metrics

    engaged = [e["cache"] for sample in samples for e in sample["engaged"].values() if e["cache"]]
    passes = [one for sample in samples for one in sample["engaged"].values()]
    record["engaged"] = {**(passes[0] if passes else {}), "cache": merge_evidence(engaged)}
    record["cache"] = cache_summary(samples)
    record["timing"] = timing_summary(samples)
    record["warnings"] += _too_fast(record)
    if plan.reference:
        record["quality"] = summarize_metrics([sample["quality"] for sample in samples])
    record["noise_floor"] = noise_floor.summary(plan, samples)
    if any(one.get("calls") for one in engaged):
        record["cache"]["foretold"] = _foretold(plan, samples)
        record["warnings"] += _threshold_warning(plan.config.cache, samples, record["engaged"]["cache"]["hits"])


def _too_fast(record: dict[str, Any]) -> list[str]:
    """Whether the speed-up is more than what was left out can give, because the machine was busier while the reference
    was timed; then `same_run` is false, and nobody takes it for a result."""
    from ..metrics.timing import is_too_fast
    from ..records.summary import computed_share

    timing, share = record["timing"], computed_share(record)
    speedup = timing["speedup"]
    if not is_too_fast(speedup, share) or is_lossy_beside_caches(record["config"]):
        return []
    timing["same_run"] = False
    return [
        f"a speed-up of {speedup:.2f} cannot be where {share:.0%} of the reference's work was computed: the machine "
        "was busier while the reference was timed; measure.in_turn=true times both again, one right after the other"
    ]


def _threshold_warning(cache: CacheConfig, samples: list[dict[str, Any]], hits: int) -> list[str]:
    """Whether the threshold decided nothing, and from which value on it would have."""
    from ..caching.calibration.simulate import collect_levels, explain_idle_threshold

    said = explain_idle_threshold(collect_levels(samples), find_threshold_key(cache))
    if not hits and isinstance(cache, DiffusersHookOptions):
        said = "the cache never hit: no training timestep of the schedule lay in cache.*_timestep_skip_range"
    elif not said and not hits:
        said = "the cache never hit: nothing to compare with, or a schedule that computes every step"
    return [said] if said else []


def _foretold(plan: Plan, samples: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The steps that a calibration of this very run foretells, beside the real ones; None where there is none, and
    for schedules, which need none."""
    from ..caching.calibration.find import find_calibration
    from ..caching.calibration.simulate import collect_levels, simulate

    caches = [
        own
        for node in plan.graph.nodes.values()
        if isinstance(own := getattr(node.options, "cache", None), CacheConfig)
    ]
    if not collect_levels(samples) or len(caches) != 1 or caches[0].criterion is None:
        return None
    try:
        where, calibration = find_calibration(plan.config, "")
        return {"calibration": where, "computed_steps": simulate(calibration, caches[0]).computed}
    except ConfigError:
        return None
