"""A small sweep as a real one leaves it, and what a hostile record may hold: for the tests of the page."""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from wavespeed_runner.records.file import record_from_data, write_record
from wavespeed_runner.records.sample import BranchDecision
from wavespeed_runner.report.rows import Sweep

THRESHOLDS = ("0.05", "0.65", "2.5")
SAMPLERS = ("default", "dpmpp_2m")
HOSTILE = (
    "</script><script>window.hacked = 1</script><img class=hacked src=x onerror='window.hacked = 1'>\"'&{{ 7 * 7 }}"
)


def small_sweep(source: Path, record: dict[str, Any], home: Path) -> Path:
    """Three thresholds and two samplers: five jobs completed, one failed."""
    grid = [(threshold, sampler) for threshold in THRESHOLDS for sampler in SAMPLERS]
    for order, (threshold, sampler) in enumerate(grid):
        overrides = [f"cache.residual_diff_threshold={threshold}", f"sampler={sampler}"]
        made = changed(record, order, threshold, sampler)
        if order == 5:
            error = {"stage": "denoise", "type": "RunError", "message": "the latents are not finite"}
            made |= {"status": "failed", "error": error, "samples": [], "timing": None, "quality": None}
        job(home, str(order), made, overrides, source)
    return home


def job(home: Path, name: str, record: dict[str, Any], overrides: list[str], source: Path) -> None:
    """A job's folder: a real run's images and record, the latter changed."""
    for part in ("images", "reference", "difference"):
        shutil.copytree(source / part, home / name / part)
    write_record(home / name, record_from_data(record | {"overrides": ["cache=fbcache", *overrides]}))


def changed(record: dict[str, Any], order: int, threshold: str, sampler: str) -> dict[str, Any]:
    """The record as another setting might have left it: the higher the threshold the faster and the worse."""
    made = deepcopy(record)
    made["config"]["cache"]["criterion"]["threshold"] = float(threshold)
    made["config"]["cache"]["residual_diff_threshold"] = float(threshold)
    made["config"]["sampler"] = {"name": sampler}
    for number, sample in enumerate(made["samples"]):
        sample["raw_seconds"] = [0.5 - 0.05 * order + 0.01 * number]
        sample["seconds"] = sample["raw_seconds"][0]
        sample["quality"] |= {"ssim": 0.99 - 0.03 * order - 0.002 * number, "psnr": 40.0 - order}
    # The reference is slower than all of them.
    made["timing"] |= {"reference_median": 0.6, "speedup": 0.6 / (0.5 - 0.05 * order), "same_run": True}
    return made


def hostile(sweep: Sweep) -> Sweep:
    """Markup wherever a record may hold text."""
    rows = []
    for row in sweep.rows:
        record = deepcopy(row.record)
        for sample in record.samples if record else []:
            sample.prompt = HOSTILE
            for step in sample.steps:
                decision = BranchDecision(computed=step.computed, signal=step.signal, level=step.level)
                step.branches = {HOSTILE: decision}
        quality = {name: replace(one, worst_prompt=HOSTILE) for name, one in row.quality.items()}
        text = {"label": HOSTILE, "reason": HOSTILE, "config_yaml": HOSTILE, "axes": {"a": HOSTILE, "b": row.job}}
        rows.append(replace(row, record=record, quality=quality, **text))
    environment = {"device_name": HOSTILE, "versions": {"torch": HOSTILE}}
    return replace(sweep, rows=rows, axes=["a", "b"], title=HOSTILE, command=HOSTILE, environment=environment)
