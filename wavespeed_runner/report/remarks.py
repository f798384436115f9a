"""Sentences that the page, `report.md` and the console of a sweep have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..metrics.forks import FORK, Forks

if TYPE_CHECKING:
    from ..records.record import Record
    from .rows import Row

NAMED = 8
"""Most jobs that a sentence names one by one."""
APART = (
    "~ marks an estimate: the reference was timed by another process, more than 15 minutes apart, or (as the computed "
    "share shows) while the machine was busier; measure.in_turn=true times it again together with each job"
)
BUSIER = (
    "~ marks an estimate: the reference was timed together with the job, but (as the computed share shows) while the "
    "machine was busier; on a quieter machine, rerun=true times both again"
)
SCALED = (
    "The speed of a machine varies. Every job here was timed together with its own reference, so plots and Pareto "
    "front use times scaled to the median of these references; the table has the measured times."
)
NOTHING_FASTER = "No setting is faster than the reference, so the Pareto front is empty."


def describe_apart(rows: Sequence[Row]) -> list[str]:
    """Returns one sentence, or none, about the jobs whose speed-up is an estimate."""
    guesses = [row.record for row in rows if row.record and row.speedup is not None and not row.same_run]
    if not guesses:
        return []
    return [explain_apart(all(sample.timed_together for record in guesses for sample in record.samples))]


def explain_apart(timed_together: bool) -> str:
    """What `~` marks. timed_together: every reference was timed right beside its job, so that cannot be the cause."""
    return BUSIER if timed_together else APART


def describe_never_hit(rows: Sequence[Row]) -> list[str]:
    """Returns one sentence, or none, about the jobs whose cache computed everything."""
    labels = [row.label for row in rows if row.never_hit]
    if not labels:
        return []
    count = f"{len(labels)} job{'s' * (len(labels) != 1)}"
    return [
        f"The cache never hit in {count}: {enumerate_names(labels)}. It did not cause the differences in time there."
    ]


def describe_forks(rows: Sequence[Row]) -> list[str]:
    """Returns one sentence, or none, about the jobs whose mean SSIM is decided by a few forks."""
    if len(rows) == 1 and rows[0].record and rows[0].forks:
        return explain_forks(rows[0].record, rows[0].forks)
    return enumerate_forks([(row.label, row.forks) for row in rows if row.forks])


def enumerate_forks(jobs: Sequence[tuple[str, Forks]]) -> list[str]:
    """One sentence, or none, that names those jobs whose mean SSIM is decided by a few forks."""
    named = [
        f"{label} ({forks.count} of {forks.of}, without them {forks.mean_of_others:.4f})"
        for label, forks in jobs
        if forks.mean_of_others is not None
    ]
    few = f"A few forks (SSIM below {FORK:g}) decide the mean SSIM"
    return [f"{few} of {len(named)} job{'s' * (len(named) != 1)}: {enumerate_names(named)}."] if named else []


def explain_forks(record: Record, forks: Forks) -> list[str]:
    """One sentence about a run whose mean SSIM is decided by a few forks; none of any other run."""
    if forks.mean_of_others is None:
        return []
    kind = "video" if any(sample.frames is not None for sample in record.samples) else "image"
    one_each = len({sample.prompt for sample in record.samples}) == forks.of
    return [
        f"{forks.count} of {forks.of} {'prompt' if one_each else kind}s became another {kind} (SSIM below {FORK:g}); "
        f"without {'them' if forks.count > 1 else 'it'} the mean SSIM is {forks.mean_of_others:.4f}."
    ]


def describe_compiling(rows: Sequence[Row]) -> list[str]:
    """Returns sentences about the jobs that were compiled: whose timing is void, and what compiling took."""
    timed = [(row.label, row.record.timing) for row in rows if row.record and row.record.timing]
    void = [f"{label} ({timing.void})" for label, timing in timed if timing.void is not None]
    took = [
        f"{label} {timing.first_call:.1f} s, {timing.compile_seconds:.1f} s of it compiling"
        for label, timing in timed
        if timing.compile_seconds is not None and timing.first_call is not None
    ]
    sentences = [f"These timings are void: {enumerate_names(void)}."] if void else []
    return [*sentences, *([f"First calls, which no time includes: {enumerate_names(took)}."] if took else [])]


def enumerate_names(names: Sequence[str]) -> str:
    """`a; b; c and 7 more`: labels have commas of their own."""
    more = len(names) - NAMED
    return "; ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
