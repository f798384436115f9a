"""Reads a metric from a record by its name, whichever it is: one of the four that every record has, or a judge's."""

from __future__ import annotations

from math import inf
from typing import Any

from ..errors import ConfigError
from ..registry import list_names, lookup
from .quality import LESS_IS_BETTER

FOUR = ("ssim", "mae_similarity", "mae", "psnr")
"""Metrics against the reference that every record has."""


def is_less_better(name: str) -> bool:
    """Whether a smaller value of a metric is the better one.

    Raises:
        ConfigError: no metric has this name.
    """
    if name in FOUR:
        return name in LESS_IS_BETTER
    return bool(lookup("metric", name, "metrics").implementation.less_is_better)


def list_metrics() -> list[str]:
    """Names of all metrics that a run can have: the four, and every registered judge's."""
    return [*FOUR, *list_names("metric")]


def read_values(record: Any, name: str) -> list[float]:
    """The values of a metric, one for each image of a record; of videos the means over their frames.

    Infinite where PSNR is, for images that are identical to their references.

    Raises:
        ConfigError: an image was not compared, or not judged by this metric.
    """
    return [_read_value(sample, name) for sample in record.samples]


def _read_value(sample: Any, name: str) -> float:
    if name in FOUR:
        if sample.quality is None:
            raise ConfigError(f"{name}: {sample.file} was compared with no reference")
        value = getattr(sample.quality, name)
        return inf if value is None and name == "psnr" else float(value)
    if name not in (sample.metrics or {}):
        raise ConfigError(f"{name}: {sample.file} was not judged by it; metrics=[{name}] adds it to a run")
    return float(sample.metrics[name])
