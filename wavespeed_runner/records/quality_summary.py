"""How close the images of one completed record are to the reference, and what judges say of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median

from ..metrics.forks import Forks, find_forks
from ..metrics.quality import LESS_IS_BETTER, compute_tail
from ..metrics.statistics import Interval, bootstrap_interval
from .record import Record
from .sample import SampleRecord

METRICS = ("mae", "mae_similarity", "ssim", "psnr")


@dataclass(frozen=True, kw_only=True)
class Quality:
    """One metric over the images of a job."""

    mean: Interval
    median: float
    p10: float
    """A tenth of the images are no better, see `compute_tail`."""
    worst: float
    worst_prompt: str
    worst_seed: int
    noise_floor: float | None = None
    """The metric between the reference and the reference again, or in another precision; None: not measured."""
    less_is_better: bool = False
    reference_mean: float | None = None
    """Of a judge that does not compare: what it says of the references."""


def summarize_quality(record: Record) -> dict[str, Quality]:
    """Each metric that has a value: PSNR has none where all images are identical to their references.

    As in a record's own summary, identical images are left out of the mean PSNR, which makes it pessimistic.
    """
    result = {}
    for metric in METRICS:
        values = [
            (sample, value)
            for sample in record.samples
            if sample.quality and (value := getattr(sample.quality, metric)) is not None
        ]
        if values:
            quality = _summarize_values(values, less_is_better=metric in LESS_IS_BETTER)
            result[metric] = replace(quality, noise_floor=worst_noise_floor(record, metric))
    return result


def summarize_judges(record: Record) -> dict[str, Quality]:
    """Each judge of the record, by the direction that the record gives it."""
    result = {}
    for name, judge in (record.metrics or {}).items():
        values = [(s, s.metrics[name]) for s in record.samples if s.metrics and name in s.metrics]
        if values:
            quality = _summarize_values(values, less_is_better=judge.less_is_better)
            result[name] = replace(quality, reference_mean=judge.reference_mean)
    return result


def _summarize_values(values: list[tuple[SampleRecord, float]], *, less_is_better: bool) -> Quality:
    numbers = [value for _, value in values]
    sample, worst = (max if less_is_better else min)(values, key=lambda pair: pair[1])
    return Quality(
        mean=bootstrap_interval([(sample.prompt, value) for sample, value in values], "mean"),
        median=median(numbers),
        p10=compute_tail(numbers, less_is_better=less_is_better),
        worst=worst,
        worst_prompt=sample.prompt,
        worst_seed=sample.seed,
        less_is_better=less_is_better,
    )


def count_forks(record: Record) -> Forks | None:
    """The forks among the images; None where none was compared."""
    ssims = [sample.quality.ssim for sample in record.samples if sample.quality and sample.quality.ssim is not None]
    return find_forks(ssims) if ssims else None


def worst_noise_floor(record: Record, metric: str, kinds: tuple[str, ...] = ("repeat", "numerics")) -> float | None:
    """The worst value of a metric between the reference and itself; None where it was not measured.

    Args:
        record: of the run.
        metric: its name.
        kinds: which ways of generating the reference again count.
    """
    floors = [getattr(record.noise_floor, kind, None) for kind in kinds]
    known = [value for floor in floors if floor and (value := getattr(floor, metric)) is not None]
    return (max if metric in LESS_IS_BETTER else min)(known, default=None)
