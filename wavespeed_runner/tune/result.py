"""What a setting gave on some prompts, and how it is read from a run's record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from pathlib import Path
from statistics import median

from ..errors import RunError
from ..metrics.confidence import Values
from ..metrics.forks import FORK
from ..metrics.statistics import bootstrap_interval
from ..metrics.timing import is_too_fast
from ..metrics.values import FOUR, read_values
from ..records.plausible import find_most_gain
from ..records.record import Record
from ..records.summary import computed_share
from .bounds import FORKS, MOST_DECIBELS
from .settings import Setting


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a setting gave on some prompts."""

    setting: Setting
    prompts: int
    values: dict[str, Values]
    """Metric -> prompt -> values; `forks` too."""
    seconds: float
    """Median of denoising an image."""
    relative: float
    """The same as a share of the reference's: what decides, the median over images, each beside its own reference."""
    folder: Path
    """Of the run."""
    guess: bool = False
    """Times of setting and reference were taken apart, or on a machine that was busy."""
    foreseen: bool = False
    """The share of the work that was computed stands for the share of the time, which was less than that allows."""
    told: float = 0.0
    """The speed-up as the record has it, and so the log, the experiment and its replay; 0: none is told."""

    @property
    def speedup(self) -> float:
        """How many times as fast as the reference, for people: one number wherever it stands."""
        return self.told or 1 / self.relative

    def timed_as(self, timed: Result | None) -> Result:
        """This result with the times of another run of the same setting; None: with its own."""
        if timed is None:
            return self
        return replace(
            self,
            seconds=timed.seconds,
            relative=timed.relative,
            guess=timed.guess,
            foreseen=timed.foreseen,
            told=timed.told,
        )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A setting that could not be run."""

    setting: Setting
    reason: str


def read_result(record: Record, setting: Setting, folder: Path, prompts: int) -> Result:
    """What a completed record says of a setting.

    Raises:
        RunError: its times or its metrics mean nothing.
        ConfigError: a metric is missing.
    """
    timing = record.timing
    if timing is None or timing.void or timing.median is None or not timing.reference_median:
        raise RunError(f"its times mean nothing: {(timing and timing.void) or 'nothing was timed'}")
    # Each image beside its own reference: a machine may slow down in the middle of a run.
    ratios = [one.seconds / one.reference_seconds for one in record.samples if one.reference_seconds]
    values = {name: read_by_prompt(record, name) for name in (*FOUR, *(record.samples[0].metrics or {}), FORKS)}
    for name, found in values.items():
        if not all(isfinite(value) for many in found.values() for value in many):
            raise RunError(f"{name} is no finite number for one of its images")
    relative = median(ratios) if ratios else timing.median / timing.reference_median
    speedup = timing.speedup or 1 / relative
    if foreseen := is_impossible(record, speedup) or is_impossible(record, 1 / relative):
        speedup = find_most_speed(record)
        relative = 1 / speedup
    return Result(
        setting=setting,
        prompts=prompts,
        values=values,
        seconds=timing.median,
        relative=relative,
        folder=folder,
        guess=timing.same_run is False or foreseen,
        foreseen=foreseen,
        told=speedup,
    )


def is_impossible(record: Record, speedup: float | None) -> bool:
    """Whether a run was timed as faster than what it computed allows."""
    return is_too_fast(speedup, computed_share(record), gain=find_most_gain(record))


def find_most_speed(record: Record) -> float:
    """The speed-up that the share which was computed allows: the reference does all of it."""
    return find_most_gain(record) / (computed_share(record) or 1.0)


def read_by_prompt(record: Record, name: str) -> Values:
    """Prompt -> a metric's value of each of its images.

    Args:
        record: of a run that was compared.
        name: of the metric; or `forks`: 1 for an image that counts as another one than its reference, else 0.
    """
    values: dict[str, list[float]] = {}
    numbers = read_values(record, "ssim" if name == FORKS else name)
    for sample, number in zip(record.samples, numbers, strict=True):
        value = float(number < FORK) if name == FORKS else MOST_DECIBELS if number == inf else number
        values.setdefault(sample.prompt, []).append(value)
    return values


def find_interval(result: Result, metric: str) -> tuple[float, float, float]:
    """Mean of a metric with its 95 % interval over prompts, as reports have it."""
    values = [(prompt, value) for prompt, many in result.values[metric].items() for value in many]
    interval = bootstrap_interval(values, "mean")
    return interval.value, interval.low, interval.high


def describe_time(seconds: float) -> str:
    """A time with its unit and two or three digits: `9.1 ms`, `30 ms`, `1.53 s`, `140 s`."""
    value, unit = (seconds, "s") if seconds >= 0.9995 else (1000 * seconds, "ms")
    return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.3g} {unit}"


def list_latest(results: Sequence[Result]) -> list[Result]:
    """Of each setting the result on the most prompts."""
    latest: dict[str, Result] = {}
    for result in results:
        before = latest.get(result.setting.identity)
        if before is None or result.prompts >= before.prompts:
            latest[result.setting.identity] = result
    return list(latest.values())
