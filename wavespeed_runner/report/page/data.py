"""What the page knows of a sweep, as plain data for its script: every figure also as the text that is shown."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from ...execution.trace_files import Row as Decision
from ...execution.trace_files import rows as decisions
from ...metrics.statistics import Interval, Point, find_pareto_front
from ...records.summary import Quality
from ..judging import paces, reference_times, worth_their_time
from ..rows import Row, Sweep
from .axes import axes_data, paired
from .images import Album, still, within

METRICS = {"ssim": ("SSIM", 4), "mae_similarity": ("MAE similarity", 4), "psnr": ("PSNR in dB", 1)}
"""Metric -> its name for people, digits. Of all of them more is better."""
NOTHING = "\N{EN DASH}"
MOST = 4000
"""Most samples whose images and traces are on the page; of larger sweeps only the first prompts of each job are."""


def page_data(sweep: Sweep, album: Album, count: int, folder: Path) -> dict[str, Any]:
    """Everything that the script draws; images by their place in the album.

    Args:
        count: of samples of each job, from the first, whose images and traces are shown.
        folder: where the page will lie.
    """
    return {
        "axes": axes_data(sweep),
        "paired": paired(sweep),
        "rivals": any(row.rival for row in sweep.rows),
        "metrics": [{"key": key, "name": name} for key, (name, _) in METRICS.items()],
        "samples": [_subject(sweep, place) for place in range(count)],
        "paced": any(pace != 1 for pace in paces(sweep.rows)),
        "seconds_unit": unit(sweep)[1],
        "seconds_factor": unit(sweep)[0],
        "jobs": jobs(sweep, album, count, folder),
    }


def jobs(sweep: Sweep, album: Album, count: int, folder: Path) -> list[dict[str, Any]]:
    """One entry a job, in the sweep's order."""
    found = [_job(row, unit(sweep)) for row in sweep.rows]
    _add_places(sweep.rows, found)
    # What costs as much as the reference is dominated by it, however good.
    costs = {
        "seconds": [
            job["seconds"][0] if job["seconds"] and ok else None
            for job, ok in zip(found, worth_their_time(sweep.rows), strict=True)
        ],
        "share": [share if (share := row.computed_share) is not None and share < 1 else None for row in sweep.rows],
    }
    for against, cost in costs.items():
        for metric in METRICS:
            for place in _on_front(sweep.rows, metric, cost):
                found[place]["fronts"][against].append(metric)
    # A prompt of all jobs before the next prompt: when there is no more room, every job has its first.
    for place in range(count):
        for row, job in zip(sweep.rows, found, strict=True):
            samples = samples_of(row)
            if place < len(samples):
                job["samples"].append(_sample(row, samples[place], album, folder))
    for row, job in zip(sweep.rows, found, strict=True):
        _add_traces(row, job["samples"])
    return found


def samples_of(row: Row) -> list[dict[str, Any]]:
    """The finished images of a job; of a job that was cut off, none."""
    if row.record is None or row.status != "completed":
        return []
    return [s for s in row.record["samples"] if isinstance(s.get("file"), str) and {"prompt", "seed"} <= s.keys()]


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
        "same_run": row.same_run,
        "never_hit": row.never_hit,
        "reference": {"seconds": row.reference_seconds, "text": _time(row.reference_seconds, time_unit)},
        "share": _number(row.computed_share),
        "quality": {metric: _bounds(row.quality[metric].mean) for metric in METRICS if metric in row.quality},
        "floor": {metric: _number(row.quality[metric].noise_floor) for metric in METRICS if metric in row.quality},
        "text": texts(row, time_unit),
        "fronts": {"seconds": [], "share": []},
        "samples": [],
        "config": row.config_yaml,
    }


def _add_places(rows: Sequence[Row], jobs: Sequence[dict[str, Any]]) -> None:
    """Where plots show each job and its reference along the time: see `paces`."""
    references = reference_times(rows)
    for row, job, pace in zip(rows, jobs, paces(rows), strict=True):
        job["seconds"] = _bounds(row.seconds, pace)
        job["reference"]["shown"] = references.get(row.rivals_with)


def _bounds(interval: Interval | None, factor: float = 1.0) -> list[float] | None:
    bounds = [] if interval is None else [factor * bound for bound in (interval.value, interval.low, interval.high)]
    return bounds if bounds and all(map(isfinite, bounds)) else None


def _number(value: float | None) -> float | None:
    """As JSON can have it."""
    return value if value is not None and isfinite(value) else None


def _on_front(rows: Sequence[Row], metric: str, costs: Sequence[float | None]) -> list[int]:
    """Places of the jobs that none of those that are compared with the same dominates."""
    groups: dict[str, list[tuple[int, Point]]] = {}
    for place, (row, cost) in enumerate(zip(rows, costs, strict=True)):
        if cost is not None and metric in row.quality and row.compared_with:
            point = Point(seconds=cost, quality=row.quality[metric].mean.value)
            groups.setdefault(row.compared_with, []).append((place, point))
    return [
        place
        for members in groups.values()
        for (place, _), stands in zip(members, find_pareto_front([point for _, point in members]), strict=True)
        if stands
    ]


def texts(row: Row, time_unit: tuple[float, str]) -> dict[str, str]:
    """The figures of a job as people read them."""
    share = NOTHING if row.computed_share is None else f"{100 * row.computed_share:.0f} %"
    text = {"time": NOTHING, "time_interval": "", "speedup": NOTHING, "share": share, "verdict": verdict(row)}
    if row.seconds is not None:
        value, low, high = (_duration(s, time_unit) for s in (row.seconds.value, row.seconds.low, row.seconds.high))
        text |= {"time": f"{value} {time_unit[1]}", "time_interval": _range(low, high)}
    if row.speedup is not None:
        text["speedup"] = f"{'' if row.same_run else '~'}{row.speedup:.2f}×"  # noqa: RUF001
    for metric, (_, digits) in METRICS.items():
        text |= _quality_texts(metric, row.quality.get(metric), digits)
    return text


def _quality_texts(metric: str, found: Quality | None, digits: int) -> dict[str, str]:
    if found is None:
        return {metric: NOTHING}
    mean = found.mean
    floor = {} if found.noise_floor is None else {f"{metric}_floor": f"{found.noise_floor:.{digits}f}"}
    return {
        metric: f"{mean.value:.{digits}f}",
        f"{metric}_interval": _range(f"{mean.low:.{digits}f}", f"{mean.high:.{digits}f}"),
        f"{metric}_worst": f"{found.worst:.{digits}f}",
        f"{metric}_worst_at": f"{' '.join(found.worst_prompt.split())} (seed {found.worst_seed})",
        **floor,
    }


def _range(low: str, high: str) -> str:
    return f"{low}\N{EN DASH}{high}"


def verdict(row: Row) -> str:
    """Against "fewer steps without cache"."""
    if row.rival:
        return "is fewer steps"
    if row.beaten_by_fewer_steps is None:
        return NOTHING
    return f"{'' if row.judged_same_run else '~'}{'no better' if row.beaten_by_fewer_steps else 'better'}"


def unit(sweep: Sweep) -> tuple[float, str]:
    """Factor and name of the unit in which all times of a report are written."""
    longest = max((row.seconds.value for row in sweep.rows if row.seconds is not None), default=0.0)
    return (1.0, "s") if longest >= 1 else (1000.0, "ms")


def _duration(seconds: float, time_unit: tuple[float, str]) -> str:
    digits = 0 if time_unit[1] == "ms" else 3 if seconds < 1 else 2
    return f"{seconds * time_unit[0]:.{digits}f}"


def _time(seconds: float | None, time_unit: tuple[float, str]) -> str:
    """With its unit; empty where it is not known."""
    return "" if seconds is None else f"{_duration(seconds, time_unit)} {time_unit[1]}"


def reference_text(sweep: Sweep) -> str:
    """The middle of the times of the reference; empty where nothing was compared, or with more than one."""
    found = sorted(row.reference_seconds for row in sweep.rows if row.reference_seconds and row.quality)
    several = len({row.compared_with for row in sweep.rows if row.compared_with}) > 1
    return _time(found[len(found) // 2], unit(sweep)) if found and not several else ""


def _subject(sweep: Sweep, place: int) -> str:
    """What the sample at this place shows, as far as all jobs agree."""
    found = [samples[place] for row in sweep.rows if len(samples := samples_of(row)) > place]
    prompts = {" ".join(str(sample["prompt"]).split()) for sample in found}
    seeds = {sample["seed"] for sample in found}
    prompt = prompts.pop() if len(prompts) == 1 else f"image {place + 1} of each job"
    return f"{prompt} (seed {seeds.pop()})" if len(seeds) == 1 else prompt


def _sample(row: Row, sample: dict[str, Any], album: Album, folder: Path) -> dict[str, Any]:
    """Places in the album of image, reference and difference map, and where the files of the first two lie."""
    name = PurePosixPath(sample["file"]).name
    files = (sample["file"], f"reference/{name}", f"difference/{name}")
    ssim = (sample.get("quality") or {}).get("ssim")
    return {
        "file": sample["file"],
        "prompt": f"{' '.join(str(sample['prompt']).split())} (seed {sample['seed']})",
        "ssim": None if ssim is None else f"{ssim:.4f}",
        "images": [album.add(within(row.folder, still(file))) for file in files],
        "links": [_link(within(row.folder, file), folder) for file in files[:2]],
        "trace": [],
    }


def _link(path: Path | None, start: Path) -> str | None:
    """Relative, so that the folder may move; never a scheme such as `javascript:`."""
    return None if path is None else "./" + quote(Path(os.path.relpath(path.resolve(), start.resolve())).as_posix())


def _add_traces(row: Row, samples: list[dict[str, Any]]) -> None:
    """What the strategies decided on each sample's steps: one entry a stage and guidance branch."""
    try:
        found = _traces(decisions(row.record)) if row.record is not None and samples else {}
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        found = {}  # a damaged record loses its traces, not the page
    for sample in samples:
        sample["trace"] = found.get(sample.pop("file"), [])


def _traces(found: Sequence[Decision]) -> dict[str, list[dict[str, Any]]]:
    """File of a sample -> its traces."""
    by_file: dict[str, dict[tuple[str, str], list[Decision]]] = {}
    for decision in found:
        by_file.setdefault(decision.file, {}).setdefault((decision.stage, decision.branch), []).append(decision)
    stages = {decision.stage for decision in found}
    return {
        file: [_trace(line, stage if len(stages) > 1 else "", branch) for (stage, branch), line in lines.items()]
        for file, lines in by_file.items()
    }


def _trace(line: Sequence[Decision], stage: str, branch: str) -> dict[str, Any]:
    signal = [_short(one.signal) for one in line]
    level = [_short(one.level) for one in line]
    return {
        "name": ", ".join(filter(None, [stage, branch])),
        "computed": "".join("1" if one.computed else "0" for one in line),
        "signal": signal,
        # Where what is compared is the signal itself, one line is drawn.
        "level": None if all(b is None or a == b for a, b in zip(signal, level, strict=True)) else level,
        "threshold": _number(line[0].threshold),
    }


def _short(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else float(f"{value:.4g}")
