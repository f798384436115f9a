"""The record of one image: how long denoising it and its reference took, and what was computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import msgspec

from ..artifacts import Latents, Sample
from ..records.sample import Engaged, SampleRecord, Source, StageRun, Step

IN_TURN_S = 900.0
"""Most seconds between two timings that count as taken in turn: the machine is as warm and as busy."""


def describe_sample(
    sample: Sample,
    index: int,
    values: Mapping[str, Any],
    reference: Mapping[str, Any] | None,
    stages: Sequence[StageRun],
) -> SampleRecord:
    """Makes the record of one image, without its files. The denoisers of a graph with several are added up.

    Args:
        sample: what was asked for.
        index: of the image, counted from 0.
        values: node -> value, of the graph that made the image.
        reference: the same of the reference, if there is one.
        stages: what ran so far.
    """
    passes = _denoising_data(values)
    record = SampleRecord(
        prompt=sample.prompt,
        seed=sample.seed,
        seconds=_median_seconds(passes.values()),
        raw_seconds=_raw_seconds(passes.values()),
        first_call=_total(data["first_call"] for data in passes.values()),
        compile_seconds=_total(data.get("compile_seconds") for data in passes.values()),
        timing_void=next((why for data in passes.values() if (why := data.get("timing_void"))), None),
        steps=[
            msgspec.convert({**step, "stage": node}, Step) for node, data in passes.items() for step in data["steps"]
        ],
        engaged={node: _engaged(data["engaged"]) for node, data in passes.items()},
        peak_memory_bytes=max((peak for data in passes.values() if (peak := data.get("peak_memory"))), default=None),
        quality=None,
        source=_source(stages, index, "run", passes),
        rank=_rank(stages, index, passes),
        timed_beside=_neighbours(passes.values()),
        file="",
        pixels_sha256="",
        sha256="",
    )
    if reference:
        compared = _denoising_data(reference)
        record.timed_together = _in_turn([*passes.values(), *compared.values()])
        record.timed_beside = _neighbours([*passes.values(), *compared.values()])
        record.reference_seconds = _median_seconds(compared.values())
        record.reference_raw_seconds = _raw_seconds(compared.values())
        record.reference_steps = sum(len(data["steps"]) for data in compared.values())
        spreads = [data["spread"] for data in compared.values() if data["spread"] is not None]
        record.reference_spread = max(spreads, default=None)
        record.reference_source = _source(stages, index, "reference", compared)
    return record


def _engaged(evidence: Mapping[str, Any]) -> Engaged:
    """The evidence of one denoising pass; what a plugin's stage added to it stands apart."""
    own = {name: value for name, value in evidence.items() if name in Engaged.__struct_fields__}
    others = {name: value for name, value in evidence.items() if name not in own}
    return msgspec.convert({**own, "plugins": others} if others else own, Engaged)


def _denoising_data(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Denoising node -> the data that it left in its latents."""
    return {
        node: value.data
        for node, value in values.items()
        if isinstance(value, Latents) and "seconds" in value.data  # nodes that only pass latents on have no times
    }


def _median_seconds(passes: Iterable[dict[str, Any]]) -> float:
    return sum(median(data["seconds"]) for data in passes)


def _raw_seconds(passes: Iterable[dict[str, Any]]) -> list[float]:
    """Seconds of each repetition."""
    return [sum(repetition) for repetition in zip(*(data["seconds"] for data in passes), strict=False)]


def _total(seconds: Iterable[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return sum(known) if known else None


def _in_turn(timings: Sequence[dict[str, Any]]) -> bool:
    """Returns whether one process took these timings, each within `IN_TURN_S` after the one before.

    The process alone is not enough: it may have timed the reference hours ago, in an early job of a long sweep. Nor are
    they comparable if other ranks took a part of the cores meanwhile: that part changes as ranks finish.
    """
    if _neighbours(timings):
        return False
    processes = {timing.get("timed_by") for timing in timings}
    if len(processes) != 1 or None in processes:
        return False
    spans = sorted(timing["timed_at"] for timing in timings if "timed_at" in timing)
    return all(after[0] - before[1] < IN_TURN_S for before, after in pairwise(spans))


def _source(stages: Sequence[StageRun], index: int, of: str, denoisers: Iterable[str]) -> Source:
    """Returns `computed` when this run denoised the image, `store` when an earlier one did (and timed it)."""
    nodes = set(denoisers)
    runs = (run for run in stages if run.of == of and run.sample == index and run.name in nodes)
    return "computed" if any(run.source == "computed" for run in runs) else "store"


def _neighbours(timings: Iterable[Mapping[str, Any]]) -> int | None:
    """The most processes that shared the cores while one of these timings was taken; None: there was one."""
    return max((beside for timing in timings if (beside := timing.get("timed_beside"))), default=None)


def _rank(stages: Sequence[StageRun], index: int, denoisers: Iterable[str]) -> int | None:
    """The rank that denoised the image in this run, where several share the images."""
    nodes = set(denoisers)
    computed = (r for r in stages if r.of == "run" and r.sample == index and r.name in nodes and r.source == "computed")
    return next((run.rank for run in computed if isinstance(run.rank, int)), None)
