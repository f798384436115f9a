"""How a job ended, from its record: for the loop over the jobs, and for the console."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import make_printable
from ..metrics.forks import Forks
from ..records.names import describe_failure
from ..records.quality_summary import count_forks
from ..records.record import Record
from ..records.summary import computed_share, never_hit

NEVER_HIT = "the cache never hit"
"""How the record's warning begins."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended, as far as its files tell."""

    status: str
    """completed | failed | interrupted (by hand) | lost (its process died) | unfinished (or running) | missing"""
    identity: str | None = None
    reason: str = ""
    """Why it did not complete, on one line."""
    seconds: float | None = None
    """Median time of denoising an image."""
    speedup: float | None = None
    same_run: bool = True
    """False for a speed-up that is a guess: its times were taken apart, or the computed share cannot explain it."""
    timed_together: bool = False
    """Whether each image was timed right beside its reference: then a guess has another cause."""
    ssim: float | None = None
    forks: Forks | None = None
    computed_share: float | None = None
    """Share of the reference's work that was computed."""
    never_hit: str = ""
    """The record's warning that a cache was on and every step was computed; empty where one hit."""


def as_outcome(record: Record) -> Outcome:
    """The outcome that a job's record describes."""
    status: str = record.status
    if status == "interrupted" and record.error is None:
        status = "unfinished"
    timing = record.timing
    share, warning = _read_work(record) if record.status == "completed" else (None, "")
    return Outcome(
        status=status,
        identity=record.identity,
        reason=make_printable(describe_failure(record)),
        seconds=timing.median if timing and not timing.void else None,
        speedup=timing.speedup if timing else None,
        same_run=timing is None or timing.same_run is not False,
        timed_together=all(sample.timed_together for sample in record.samples),
        ssim=record.quality.ssim.mean if record.quality else None,
        forks=count_forks(record) if record.quality else None,
        computed_share=share,
        never_hit=warning,
    )


def _read_work(record: Record) -> tuple[float | None, str]:
    """The computed share, and the warning that no step hit; neither where somebody has edited the record's config."""
    try:
        return computed_share(record), _never_hit_warning(record)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None, ""


def _never_hit_warning(record: Record) -> str:
    """The record's warning that a cache was on while every step was computed; empty where one hit."""
    if not never_hit(record):
        return ""
    return next((warning for warning in record.warnings if warning.startswith(NEVER_HIT)), NEVER_HIT)
