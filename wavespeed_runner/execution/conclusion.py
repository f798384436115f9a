"""Concludes a record: the figures over all images, and warnings about what a reader might take them for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..caching import merge_evidence
from ..caching.attach.diffusers_options import DiffusersHookOptions
from ..caching.calibration.find import find_calibration
from ..caching.calibration.simulate import collect_levels, explain_idle_threshold, simulate
from ..caching.strategies import find_threshold_key
from ..config.schema import CacheConfig
from ..errors import ConfigError
from ..metrics import timing
from ..metrics.forks import find_forks
from ..metrics.quality import summarize_metrics
from ..planning.plan import Plan
from ..records.new import cache_summary, memory_summary, timing_summary
from ..records.plausible import find_most_gain
from ..records.record import PredictedSteps, QualitySummary, Record
from ..records.sample import CacheEvidence, Engaged, SampleRecord
from ..records.summary import computed_share
from ..rules.check import Finding
from ..storage.store import Store
from . import noise_floor
from .judging import summarize_judges


def conclude_record(plan: Plan, store: Store, record: Record) -> None:
    """Adds the figures over all finished images and the warnings, also to the record of a run that failed later."""
    record.warnings += _list_doubts(plan.verdicts)
    if store.damaged:
        record.warnings.append(f"{len(store.damaged)} damaged store entries were found and computed again")
    samples = record.samples
    if not samples:
        return
    record.engaged = _all_engaged(samples)
    if record.engaged.parallel and (ranks := record.engaged.parallel.get("ranks")):
        record.environment.devices = [rank["device_name"] for rank in ranks]
    record.cache = cache_summary(samples)
    record.timing = timing_summary(samples)
    record.memory = memory_summary(samples)
    record.warnings += _warn_if_void(record)
    record.warnings += _warn_of_neighbours(record)
    record.warnings += _warn_if_too_fast(record)
    if plan.reference:
        figures = [msgspec.to_builtins(sample.quality) for sample in samples]
        forks = find_forks([figure["ssim"] for figure in figures])
        record.quality = msgspec.convert({**summarize_metrics(figures), "forks": forks.count}, QualitySummary)
    record.metrics = summarize_judges(plan, samples)
    record.noise_floor = noise_floor.summary(plan, samples)
    if record.engaged.cache and record.engaged.cache.calls:
        levels = _compared_levels(samples)
        record.cache.predicted = _predict_steps(plan, levels)
        record.warnings += _threshold_warnings(plan.config.cache, levels, record.engaged.cache.hits)


def _list_doubts(verdicts: Sequence[Finding]) -> list[str]:
    """A warning for each rule that doubts the run, with its fix where it has one."""
    return [f"rule {v.rule}: {v.message}{f'; {v.fix}' * bool(v.fix)}" for v in verdicts if v.verdict == "unverified"]


def _all_engaged(samples: Sequence[SampleRecord]) -> Engaged:
    """What was engaged in all denoising passes together: the counts of the cache are added up.

    The compiler counts from the loading of the pipeline on, so the last pass knows all.
    """
    passes = [engaged for sample in samples for engaged in sample.engaged.values()]
    if not passes:
        return Engaged()
    cache = merge_evidence([msgspec.to_builtins(engaged.cache) for engaged in passes if engaged.cache])
    cached = msgspec.convert(cache, CacheEvidence | None)
    parallel = next((engaged.parallel for engaged in passes if engaged.parallel), None)
    return msgspec.structs.replace(passes[0], cache=cached, compile=passes[-1].compile, parallel=parallel)


def _compared_levels(samples: Sequence[SampleRecord]) -> list[tuple[float, bool]]:
    """(level, whether the step was computed) of every comparison with the threshold."""
    return collect_levels([msgspec.to_builtins(sample) for sample in samples])


def _warn_if_void(record: Record) -> list[str]:
    """Warns where the timing means nothing, because the compiler was at work."""
    assert record.timing
    if record.timing.void is None:
        return []
    return [
        f"the timing is void: {record.timing.void}; rerun=true times it again, compile.dynamic=true makes one graph "
        "for all shapes"
    ]


def _warn_of_neighbours(record: Record) -> list[str]:
    """Warns where several ranks shared a CPU: an image took longer than it takes alone."""
    beside = max((sample.timed_beside or 1 for sample in record.samples), default=1)
    if beside == 1:
        return []
    return [
        f"the times were taken while {beside} ranks of parallel=data shared the cores of this CPU, so they are longer "
        "than those of one process; parallel=none rerun=true takes these"
    ]


def _warn_if_too_fast(record: Record) -> list[str]:
    """Warns where the speedup is more than the skipped work can give.

    The machine was busier then while the reference was timed, and `same_run` becomes false, so that nobody takes the
    speedup for a result.
    """
    assert record.timing
    share, speedup = computed_share(record), record.timing.speedup
    if not timing.is_too_fast(speedup, share, gain=find_most_gain(record)):
        return []
    record.timing.same_run = False
    again = "measure.in_turn=true times both again, one right after the other"
    if record.config["measure"].get("in_turn"):
        again = "measure.in_turn=true is on, so only a quieter machine helps; rerun=true times both again"
    return [
        f"a speedup of {speedup:.2f} is not possible with {share:.0%} of the reference's work computed: the machine "
        f"was busier while the reference was timed; {again}"
    ]


def _threshold_warnings(cache: CacheConfig, levels: list[tuple[float, bool]], hits: int) -> list[str]:
    """Warns where the threshold decided nothing, and says from which value on it would have."""
    warning = explain_idle_threshold(levels, find_threshold_key(cache))
    if not hits and isinstance(cache, DiffusersHookOptions):
        warning = "the cache never hit: no training timestep of the schedule lay in cache.*_timestep_skip_range"
    elif not warning and not hits:
        warning = "the cache never hit: nothing to compare with, or a schedule that computes every step"
    return [warning] if warning else []


def _predict_steps(plan: Plan, levels: list[Any]) -> PredictedSteps | None:
    """What a calibration of this run predicts; None without one, and for schedules, whose steps are known."""
    caches = [
        options
        for node in plan.graph.nodes.values()
        if isinstance(options := getattr(node.options, "cache", None), CacheConfig)
    ]
    if not levels or len(caches) != 1 or caches[0].criterion is None:
        return None
    try:
        file, calibration = find_calibration(plan.config, "")
        return PredictedSteps(calibration=file, computed_steps=simulate(calibration, caches[0]).computed)
    except ConfigError:
        return None
