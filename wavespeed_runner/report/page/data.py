"""The data of `report.html` for its scripts: every figure as a number and as the text that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from ...metrics.statistics import Interval, Point, find_pareto_front
from ..engaged import describe_engaged
from ..judges import PREFIX, list_judges
from ..published import list_bands
from ..ranking import are_faster, reference_times, time_factors
from ..rows import Row, Sweep
from .axes import axes_data, paired
from .images import Album
from .samples import add_traces, describe_subject, finite, sample_data, samples_of
from .texts import METRICS, format_time, texts, unit

MOST = 4000
"""Most samples with images and traces on the page; larger sweeps show the first prompts of each job only."""


def page_data(sweep: Sweep, album: Album, count: int, folder: Path) -> dict[str, Any]:
    """Collects everything that the scripts draw, with images as places in the album.

    Args:
        sweep: what to report.
        album: collects the images.
        count: how many samples of each job, from the first, have images and traces.
        folder: the folder that the page is for; links are relative to it.
    """
    return {
        "axes": axes_data(sweep),
        "paired": paired(sweep),
        "rivals": any(row.rival for row in sweep.rows),
        "metrics": [{"key": key, "name": name} for key, (name, _) in METRICS.items()],
        "judges": [{"key": f"{PREFIX}{name}", "name": name} for name in list_judges(sweep.rows)],
        "samples": [describe_subject(sweep, place) for place in range(count)],
        "paced": any(pace != 1 for pace in time_factors(sweep.rows)),
        "seconds_unit": unit(sweep)[1],
        "seconds_factor": unit(sweep)[0],
        "published": [
            {"name": band.name, "low": band.low, "high": band.high}
            for band in list_bands(sweep.published, list(reference_times(sweep.rows).values()), sweep.published_groups)
        ],
        "jobs": jobs(sweep, album, count, folder),
    }


def jobs(sweep: Sweep, album: Album, count: int, folder: Path) -> list[dict[str, Any]]:
    """Returns one entry per job, in the sweep's order. Arguments as of `page_data`."""
    entries = [_job(row, unit(sweep)) for row in sweep.rows]
    _add_places(sweep.rows, entries)
    # The reference dominates every job that costs as much as it does, whatever its quality.
    costs: dict[str, list[float | None]] = {
        "seconds": [
            job["seconds"][0] if job["seconds"] and ok else None
            for job, ok in zip(entries, are_faster(sweep.rows), strict=True)
        ],
        "share": [share if (share := row.computed_share) is not None and share < 1 else None for row in sweep.rows],
        # What computed as much as the reference has no merit of its own.
        "peak": [None if row.same_work else row.peak_memory_bytes for row in sweep.rows],
        "weights": [None if row.same_work else row.weight_bytes for row in sweep.rows],
    }
    for against, cost in costs.items():
        for metric in METRICS:
            for place in _on_front(sweep.rows, metric, cost):
                entries[place]["fronts"][against].append(metric)
    # All jobs' first prompt, then all jobs' second: when the album is full, every job has the same prompts.
    for place in range(count):
        for row, job in zip(sweep.rows, entries, strict=True):
            samples = samples_of(row)
            if place < len(samples):
                job["samples"].append(sample_data(row, samples[place], album, folder))
    for row, job in zip(sweep.rows, entries, strict=True):
        add_traces(row, job["samples"])
    return entries


def _job(row: Row, time_unit: tuple[float, str]) -> dict[str, Any]:
    return {
        "job": row.job,
        "label": row.label,
        "status": row.status,
        "reason": row.reason,
        "axes": row.axes,
        "group": row.compared_with,
        "rivals_with": row.rivals_with,
        "rival": row.rival,
        "solver": row.solver,
        "same_run": row.same_run,
        "never_hit": row.never_hit,
        "reference": {"seconds": row.reference_seconds, "text": format_time(row.reference_seconds, time_unit)},
        "share": finite(row.computed_share),
        "peak": row.peak_memory_bytes,
        "weights": row.weight_bytes,
        "quality": {metric: _bounds(row.quality[metric].mean) for metric in METRICS if metric in row.quality},
        "floor": {metric: finite(row.quality[metric].noise_floor) for metric in METRICS if metric in row.quality},
        "text": texts(row, time_unit),
        "fronts": {"seconds": [], "share": [], "peak": [], "weights": []},
        "samples": [],
        "engaged": describe_engaged(row.record) if row.record else [],
        "config": row.config_yaml,
    }


def _add_places(rows: Sequence[Row], jobs: Sequence[dict[str, Any]]) -> None:
    """Adds the times at which plots show each job and its reference; see `time_factors`."""
    references = reference_times(rows)
    for row, job, pace in zip(rows, jobs, time_factors(rows), strict=True):
        job["seconds"] = _bounds(row.seconds, pace)
        job["reference"]["shown"] = references.get(row.rivals_with)


def _bounds(interval: Interval | None, factor: float = 1.0) -> list[float] | None:
    bounds = [] if interval is None else [factor * bound for bound in (interval.value, interval.low, interval.high)]
    return bounds if bounds and all(map(isfinite, bounds)) else None


def _on_front(rows: Sequence[Row], metric: str, costs: Sequence[float | None]) -> list[int]:
    """Places of the jobs on the Pareto front of their group of comparable jobs."""
    groups: dict[str, list[tuple[int, Point]]] = {}
    for place, (row, cost) in enumerate(zip(rows, costs, strict=True)):
        if cost is not None and metric in row.quality and row.compared_with:
            point = Point(seconds=cost, quality=row.quality[metric].mean.value)
            groups.setdefault(row.compared_with, []).append((place, point))
    return [
        place
        for members in groups.values()
        for (place, _), is_on_front in zip(members, find_pareto_front([point for _, point in members]), strict=True)
        if is_on_front
    ]
