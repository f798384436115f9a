"""What the judges of the config group `metrics` say of the jobs of a report: names, texts and columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..records.quality_summary import Quality
from .csv_column import Column
from .rows import Row

DIGITS, BOUND_DIGITS = ".4g", ".3g"
"""Significant digits of a figure and of the bounds of its interval: a judge's unit is its own."""
PREFIX = "metrics."
"""Of columns, and of texts on the page, so that a judge may have any name."""
FIELDS = {
    "": ("mean over the images", lambda quality: quality.mean.value),
    "_low": ("lower bound of its interval", lambda quality: quality.mean.low),
    "_high": ("upper bound of its interval", lambda quality: quality.mean.high),
    "_median": ("median over the images", lambda quality: quality.median),
    "_p10": ("a tenth of the images are no better", lambda quality: quality.p10),
    "_worst": ("value of the worst image", lambda quality: quality.worst),
    "_of_reference": (
        "mean of what it says of the references, where it does not compare with them",
        lambda quality: quality.reference_mean,
    ),
}
"""What follows a judge's name in a column -> the column's meaning, and how its value is read."""


def list_judges(rows: Sequence[Row]) -> dict[str, bool]:
    """The judges of any of the jobs -> whether less is better, in the order in which they first appear."""
    return {name: quality.less_is_better for row in rows for name, quality in row.metrics.items()}


def describe_mean(quality: Quality) -> str:
    """`0.021 (0.018 to 0.025)`; without the interval where there is none."""
    mean = quality.mean
    bounds = f" ({mean.low:{BOUND_DIGITS}} to {mean.high:{BOUND_DIGITS}})" if mean.low < mean.high else ""
    return f"{mean.value:{DIGITS}}{bounds}"


def judge_columns(rows: Sequence[Row]) -> list[Column]:
    """The columns of `results.csv` for the judges of these jobs."""

    def read(name: str, field: str) -> Callable[[Row], Any]:
        return lambda row: FIELDS[field][1](row.metrics[name])

    return [
        Column(name=f"{PREFIX}{name}{field}", meaning=meaning, value=read(name, field))
        for name in list_judges(rows)
        for field, (meaning, _) in FIELDS.items()
    ]


def judge_texts(row: Row) -> dict[str, str]:
    """The figures of a job's judges as text, by names like those of the four metrics on the page."""
    text: dict[str, str] = {}
    for name, quality in row.metrics.items():
        key, mean = f"{PREFIX}{name}", quality.mean
        text |= {
            key: f"{mean.value:{DIGITS}}",
            f"{key}_interval": ""
            if mean.low == mean.high
            else f"{mean.low:{BOUND_DIGITS}}\N{EN DASH}{mean.high:{BOUND_DIGITS}}",
            f"{key}_median": f"{quality.median:{DIGITS}}",
            f"{key}_p10": f"{quality.p10:{DIGITS}}",
            f"{key}_worst": f"{quality.worst:{DIGITS}}",
            f"{key}_worst_at": f"{' '.join(quality.worst_prompt.split())} (seed {quality.worst_seed})",
        }
        if quality.reference_mean is not None:
            text[f"{key}_reference"] = f"{quality.reference_mean:{DIGITS}}"
    return text
