"""Folders of records for the tests of reports: real records of a finished run, multiplied, with figures of the test's
choosing."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from tests.records import makers
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.rows import Row

FLOOR = {
    "latents_max_abs": 0.0,
    "repeat": {"mae": 0.0, "mae_similarity": 1.0, "ssim": 1.0, "psnr": None},
    "numerics": {"what": "bfloat16", "mae": 0.5, "mae_similarity": 1 - 0.5 / 255, "ssim": 0.997, "psnr": 48.0},
}


def evidence(**figures: Any) -> dict[str, Any]:
    """`engaged.cache` of a record."""
    return to_builtins(makers.evidence(**figures))


def varied(
    record: dict[str, Any],
    overrides: list[str],
    *,
    seconds: float = 1.0,
    ssim: float = 0.9,
    share: float | None = 0.5,
    steps: int = 28,
    rival: bool = False,
    floor: bool = False,
    sampler: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The record with this time, quality and share of computed work, against a reference of 28 steps.

    With a sampler, that is the run's, and the reference has the model's own.
    """
    made = deepcopy(record)
    made["reference"] = {"kind": "run"} | ({"sampler": {"name": "default"}, "steps": 28} if sampler else {})
    made["config"]["sampler"] = sampler or made["config"]["sampler"]
    made["overrides"] = overrides
    made["config"]["steps"] = steps
    made["config"]["measure"]["reference_steps"] = 28
    made["config"]["cache"] = {"name": "none"} if rival else made["config"]["cache"]
    made["engaged"]["cache"] = None if share is None else evidence(flop_share=share)
    made["noise_floor"] = FLOOR if floor else None
    for number, sample in enumerate(made["samples"]):
        sample |= {"seconds": seconds, "raw_seconds": [seconds], "reference_seconds": 2.0}
        sample["steps"] = [{**step, "computed": step["computed"] or rival} for step in sample["steps"]]
        own = ssim - 0.001 * number
        sample["quality"] = {"mae": 1 - own, "mae_similarity": 1 - (1 - own) / 255, "ssim": own, "psnr": 30.0}
    made["timing"] |= {"median": seconds, "reference_median": 2.0, "speedup": 2.0 / seconds, "same_run": True}
    return made


def write_job(folder: Path, record: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")


def write_sweep(folder: Path, jobs: list[dict[str, Any]], axes: list[str], command: list[str] | None = None) -> None:
    """jobs: what `sweep.json` says of each, beside its number."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = [{"identity": None, "skipped": "", "number": number, **job} for number, job in enumerate(jobs)]
    about = {"schema_version": 1, "identity": "", "config_dir": None, "axes": axes, "jobs": listed}
    (folder / "sweep.json").write_text(json.dumps({**about, "command": command or []}), encoding="utf-8")


def study(folder: Path, record: dict[str, Any], count: int = 6) -> Path:
    """A sweep over thresholds with its rivals, one failure, one skipped and one missing job."""
    key = "cache.residual_diff_threshold"
    jobs: list[dict[str, Any]] = []
    for number in range(count):
        overrides = ["cache=fbcache", f"{key}={number / 100}"]
        share = 1 / (1 + number)
        made = varied(record, overrides, seconds=0.1 + share, ssim=1 - 0.02 * number, share=share, floor=True)
        write_job(folder / str(len(jobs)), made)
        jobs.append({"overrides": overrides})
    for steps in (7, 14, 21):
        overrides = ["cache=none", f"steps={steps}", "measure.reference_steps=28"]
        made = varied(
            record, overrides, seconds=0.1 + steps / 28, ssim=0.5 + steps / 70, share=None, steps=steps, rival=True
        )
        write_job(folder / str(len(jobs)), made)
        jobs.append({"overrides": overrides})
    failed = {**varied(record, ["cache=fbcache", f"{key}=7"]), "status": "failed"}
    failed["error"] = {"stage": "denoise", "type": "OutOfMemoryError", "message": "out of | <b>memory</b>"}
    write_job(folder / str(len(jobs)), failed)
    jobs.append({"overrides": failed["overrides"]})
    jobs.append({"overrides": ["cache=fbcache", f"{key}=8"], "skipped": "rule x: 8 is too much"})
    jobs.append({"overrides": ["cache=fbcache", f"{key}=9"], "identity": "0" * 64})
    axes = [key, "cache", "steps", "measure.reference_steps"]
    write_sweep(folder, jobs, axes, ["-m", "cache=fbcache", f"{key}=range(0,1)"])
    return folder


def by_label(folder: Path) -> dict[str, Row]:
    """The rows of a folder's report by label."""
    return {row.label: row for row in collect(folder).rows}


def by_job(folder: Path) -> dict[str, Row]:
    """The rows of a folder's report by job."""
    return {row.job: row for row in collect(folder).rows}
