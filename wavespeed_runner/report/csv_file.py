"""`results.csv`: one row a job, flat, for pandas and spreadsheets; `docs/results_csv.md` is made from it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import Any

from ..records.names import model_name, setting_name
from ..records.record import Record, Timing
from ..records.summary import METRICS, reference_steps
from .rows import Row, Sweep

AXIS = "axis:"
"""Begins the names of the columns of swept keys, of which there are as many as the sweep has."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the table."""

    name: str
    meaning: str
    value: Callable[[Row], Any]
    """None: an empty cell. A bool: 1 or 0."""


def results_csv(sweep: Sweep) -> str:
    """The whole file."""
    file = StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow([COLUMNS[0].name, *(AXIS + key for key in sweep.axes), *(column.name for column in COLUMNS[1:])])
    for row in sweep.rows:
        axes = [row.axes.get(key, "") for key in sweep.axes]
        table.writerow([COLUMNS[0].value(row), *axes, *(_cell(column, row) for column in COLUMNS[1:])])
    return file.getvalue()


def documentation() -> str:
    """`docs/results_csv.md`."""
    lines = [f"| `{column.name}` | {column.meaning} |" for column in COLUMNS]
    axis = (
        f"| `{AXIS}KEY` | one column for each swept key: its value as typed, empty where the job leaves it as it is |"
    )
    return "\n".join([HEAD, "| column | meaning |", "|---|---|", lines[0], axis, *lines[1:], ""])


HEAD = """\
# Columns of results.csv

`python -m wavespeed_runner report DIR` writes it: one row a job, also of jobs that failed, were skipped or have not
run. UTF-8, comma, full stop, one header line. Unknown values are empty; 1 is yes and 0 is no. Intervals are 95 %
percentile bootstraps over prompts (all images of a prompt are drawn together; over the seeds where there is one
prompt). Made from `wavespeed_runner/report/csv_file.py`.
"""


def _cell(column: Column, row: Row) -> Any:
    try:
        value = column.value(row)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return ""
    return int(value) if isinstance(value, bool) else value


def _record(row: Row) -> Record:
    """The record of a row.

    Raises:
        LookupError: there is none, and the cell stays empty.
    """
    if row.record is None:
        raise LookupError
    return row.record


def _timing(row: Row) -> Timing:
    """The times of a row, or LookupError."""
    if (timing := _record(row).timing) is None:
        raise LookupError
    return timing


def _images_like_the_reference(row: Row) -> int:
    samples = _record(row).samples
    if any(sample.quality is None for sample in samples):
        raise LookupError
    return sum(sample.quality is not None and sample.quality.mae == 0 for sample in samples)


def _of_metric(metric: str) -> list[Column]:
    def part(name: str) -> Callable[[Row], Any]:
        return lambda row: getattr(row.quality[metric].mean, name)

    worst = "greatest" if metric == "mae" else "smallest"
    return [
        Column(name=metric, meaning=f"{MEANINGS[metric]}, mean over the images", value=part("value")),
        Column(name=f"{metric}_low", meaning="lower bound of its interval", value=part("low")),
        Column(name=f"{metric}_high", meaning="upper bound of its interval", value=part("high")),
        Column(
            name=f"{metric}_worst",
            meaning=f"of the worst image, the {worst} value",
            value=lambda row: row.quality[metric].worst,
        ),
        Column(
            name=f"{metric}_noise_floor",
            meaning="the reference against itself, run again or in other numerics: the worst of what was measured",
            value=lambda row: row.quality[metric].noise_floor,
        ),
    ]


MEANINGS = {
    "mae": "mean absolute difference to the reference, 0 to 255",
    "mae_similarity": "1 - MAE / 255",
    "ssim": "structural similarity to the reference",
    "psnr": "peak signal-to-noise ratio in dB, without images that are identical to their reference (infinite)",
}

COLUMNS = (
    Column(name="job", meaning="folder of the job, relative to the sweep's", value=lambda row: row.job),
    Column(name="label", meaning="what plots call it; unique", value=lambda row: row.label),
    Column(
        name="status",
        meaning="`completed`, `failed`, `interrupted` (by hand, or killed together with the sweep), `running`, `lost` "
        "(its own process died), `skipped` (a rule refuses it) or `missing` (not run yet)",
        value=lambda row: row.status,
    ),
    Column(name="reason", meaning="why it failed or was skipped", value=lambda row: row.reason),
    Column(name="model", meaning="what was loaded", value=lambda row: model_name(_record(row).config["model"])),
    Column(name="setting", meaning="the lossy options", value=lambda row: setting_name(_record(row))),
    Column(name="steps", meaning="denoising steps", value=lambda row: _record(row).config["steps"]),
    Column(name="reference_steps", meaning="of the reference", value=lambda row: reference_steps(_record(row))),
    Column(name="pictures", meaning="how many images or videos", value=lambda row: len(_record(row).samples)),
    Column(
        name="prompts",
        meaning="how many different prompts",
        value=lambda row: len({sample.prompt for sample in _record(row).samples}),
    ),
    Column(
        name="seconds",
        meaning="denoising one image, median over images and repeats",
        value=lambda row: row.seconds and row.seconds.value,
    ),
    Column(
        name="seconds_low", meaning="lower bound of its interval", value=lambda row: row.seconds and row.seconds.low
    ),
    Column(name="seconds_high", meaning="upper bound", value=lambda row: row.seconds and row.seconds.high),
    Column(name="seconds_p90", meaning="90th percentile", value=lambda row: _timing(row).p90),
    Column(
        name="seconds_mad",
        meaning="median absolute deviation over images and repeats, so also of quick images from slow ones: the ± "
        "in the table, and `mad` in a claim",
        value=lambda row: _timing(row).mad,
    ),
    Column(
        name="first_call_seconds",
        meaning="the first, untimed generation, with warm-up costs",
        value=lambda row: _timing(row).first_call,
    ),
    Column(
        name="reference_seconds",
        meaning="denoising one image of the reference, median",
        value=lambda row: _timing(row).reference_median,
    ),
    Column(name="speedup", meaning="ratio of the two medians", value=lambda row: row.speedup),
    Column(
        name="same_run",
        meaning="whether reference and job were timed in turn in one run; 0: in another process, more than 15 "
        "minutes apart, or while the machine was busier, as the computed share shows, and the speedup is a guess",
        value=lambda row: row.same_run if row.speedup is not None else None,
    ),
    Column(
        name="computed_share",
        meaning="share of the reference's work that was computed: by the FLOPs of the blocks where they were counted, "
        "else by steps; empty where attention inside of steps was skipped (`pab`, `fastercache`): of what part of the "
        "work nobody has counted",
        value=lambda row: row.computed_share,
    ),
    Column(
        name="hit_rate",
        meaning="share of its steps that were reused",
        value=lambda row: getattr(_record(row).cache, "hit_rate", None),
    ),
    Column(
        name="never_hit",
        meaning="a cache was on and all was computed: a difference in time is not the cache's doing",
        value=lambda row: row.never_hit if row.status == "completed" else None,
    ),
    *(column for metric in METRICS for column in _of_metric(metric)),
    Column(
        name="worst_prompt", meaning="prompt of the smallest SSIM", value=lambda row: row.quality["ssim"].worst_prompt
    ),
    Column(name="worst_seed", meaning="its seed", value=lambda row: row.quality["ssim"].worst_seed),
    Column(
        name="identical_pictures",
        meaning="how many images are the reference's, pixel for pixel",
        value=_images_like_the_reference,
    ),
    Column(
        name="compared_with",
        meaning="the same for jobs that may be judged by one another: same model, prompts, reference and hardware",
        value=lambda row: row.compared_with,
    ),
    Column(
        name="rivals_with",
        meaning="the same for jobs that have the same rivals: with the same batch size and memory options as well",
        value=lambda row: row.rivals_with,
    ),
    Column(
        name="rival", meaning="nothing lossy is on, only fewer steps than the reference", value=lambda row: row.rival
    ),
    Column(
        name="front",
        meaning="faster than the reference, and no other comparable job is as fast and as good; by times relative to "
        "references where each comparable job was timed beside one in the same run; never a job that computed all that "
        "the reference does",
        value=lambda row: row.front,
    ),
    Column(
        name="beaten_by_fewer_steps",
        meaning="fewer steps without a cache have at least this SSIM in no more time (interpolated between the "
        "rivals and the reference); empty without rivals",
        value=lambda row: row.beaten_by_fewer_steps,
    ),
    Column(
        name="judged_same_run",
        meaning="whether that compares times relative to references, each timed in the same run; else it is a guess",
        value=lambda row: row.judged_same_run if row.beaten_by_fewer_steps is not None else None,
    ),
    Column(name="device", meaning="processor", value=lambda row: _record(row).environment.device_name),
    Column(name="torch", meaning="version", value=lambda row: _record(row).environment.versions["torch"]),
    Column(name="diffusers", meaning="version", value=lambda row: _record(row).environment.versions["diffusers"]),
    Column(
        name="commit",
        meaning="of wavespeed_runner, `+` with changes",
        value=lambda row: _record(row).environment.commit,
    ),
    Column(
        name="fingerprint",
        meaning="identifies everything that determines the images",
        value=lambda row: _record(row).fingerprint,
    ),
)
