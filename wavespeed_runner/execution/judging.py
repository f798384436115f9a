"""Lets the judges of a run judge its images: those of the config group `metrics`, beside SSIM, PSNR and MAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, RunError, format_error
from ..judges.chosen import Chosen, list_chosen
from ..judges.metric import Judge
from ..metrics.quality import summarize_metrics
from ..planning.plan import Plan
from ..records.record import JudgeSummary
from ..records.sample import SampleRecord

MOST = 1e12
"""A record holds no larger figure, see `Figure`."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A judge that has loaded what it needs."""

    chosen: Chosen
    judge: Judge


def open_judges(plan: Plan) -> list[Opened]:
    """Loads the judges of a run, each once, before anything is computed for them.

    Raises:
        RunError: names the judge that cannot be loaded.
    """
    opened = []
    for chosen in list_chosen(plan.config):
        try:
            opened.append(Opened(chosen=chosen, judge=chosen.metric.make(chosen.options)))
        except (ConfigError, RunError):
            raise
        except Exception as error:
            raise RunError(
                f"{chosen.key}: it cannot be loaded: {type(error).__name__}: {format_error(error)}"
            ) from error
    return opened


def judge_sample(judges: Sequence[Opened], sample: SampleRecord, image: Any, reference: Any | None) -> None:
    """Adds what the judges say of an image or video to its record.

    A judge that compares says nothing where the run is its own reference. One that does not is asked about the
    reference too.

    Raises:
        RunError: a judge failed, or gave no finite number.
    """
    means, worst, of_references = {}, {}, {}
    for one in judges:
        metric = one.chosen.metric
        if metric.needs_reference and reference is None:
            continue
        values = _judge(one, image, reference if metric.needs_reference else None, sample.prompt)
        means[metric.name] = sum(values) / len(values)
        if image.ndim == 4:
            worst[metric.name] = (max if metric.less_is_better else min)(values)
        if reference is not None and not metric.needs_reference:
            values = _judge(one, reference, None, sample.prompt)
            of_references[metric.name] = sum(values) / len(values)
    sample.metrics, sample.metrics_worst_frame = means or None, worst or None
    sample.metrics_of_reference = of_references or None


def _judge(one: Opened, image: Any, reference: Any | None, prompt: str) -> list[float]:
    """The value of an image; of a video that of each frame, or of each pair of frames."""
    if image.ndim == 3 or one.chosen.metric.of_videos:
        pairs = [(image, reference)]
    else:
        others = [None] * len(image) if reference is None else reference
        pairs = list(zip(image, others, strict=True))
    values: list[float] = []
    for made, other in pairs:
        try:
            value: Any = one.judge(made, other, prompt)
            values += [float(each) for each in value] if isinstance(value, Sequence) else [float(value)]
        except RunError:
            raise
        except Exception as error:
            raise RunError(f"{one.chosen.key}: {type(error).__name__}: {format_error(error)}") from error
    wrong = [value for value in values if not abs(value) < MOST]  # NaN is not below either
    if not values or wrong:
        told = wrong[0] if wrong else "no value"
        raise RunError(f"{one.chosen.key}: {told}: a judge has to give a number below {MOST:g} for every image")
    return values


def summarize_judges(plan: Plan, samples: Sequence[SampleRecord]) -> dict[str, JudgeSummary] | None:
    """What the judges say of all images; None where none was asked."""
    directions = {chosen.metric.name: chosen.metric.less_is_better for chosen in list_chosen(plan.config)}
    less = [name for name, is_less in directions.items() if is_less]
    figures = summarize_metrics([sample.metrics or {} for sample in samples], less_is_better=less)
    summaries = {}
    for name, figure in figures.items():
        references = [(sample.metrics_of_reference or {}).get(name) for sample in samples]
        known = [value for value in references if value is not None]
        mean = sum(known) / len(known) if known else None
        summaries[name] = JudgeSummary(**figure, less_is_better=directions[name], reference_mean=mean)
    return summaries or None
