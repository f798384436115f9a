"""Sentences that the page, `report.md` and the console of a sweep have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .rows import Row

NAMED = 8
"""Most jobs that a sentence names one by one."""
APART = (
    "~ marks a guess: the reference was timed by another process, more than 15 minutes apart, or while the machine "
    "was busier, as the computed share shows; measure.in_turn=true times it again together with each job"
)
SCALED = (
    "The speed of a machine varies. Where every job was timed together with a reference of its own, plots and Pareto "
    "front use times scaled to the median of these references; the table has times as measured."
)
NOTHING_FASTER = "No setting here is faster than the reference, so there is nothing on a Pareto front."


def describe_never_hit(rows: Sequence[Row]) -> list[str]:
    """Returns one sentence, or none, about the jobs whose cache computed everything."""
    labels = [row.label for row in rows if row.never_hit]
    if not labels:
        return []
    count = f"{len(labels)} job{'s' * (len(labels) != 1)}"
    return [f"The cache never hit in {count}: {enumerate_names(labels)}. There, a difference in time is not its doing."]


def enumerate_names(names: Sequence[str]) -> str:
    """`a; b; c and 7 more`: labels have commas of their own."""
    more = len(names) - NAMED
    return "; ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
