"""Sentences that page, `report.md` and a sweep's console share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .rows import Row

NAMED = 8
"""Most jobs that a sentence names one by one."""
APART = (
    "~ a guess: the reference was timed in another process, more than 15 minutes apart, or while the machine was "
    "busier, as the computed share shows; measure.in_turn=true times it again beside each job"
)
PACED = (
    "A machine is not equally fast at all times. Where every job was timed beside a reference of its own, plots and "
    "front go by its time as it would be beside the middle one of these references; the table has times as measured."
)
NOTHING_FASTER = "No setting here is faster than the reference, so there is nothing on a Pareto front."


def never_hit(rows: Sequence[Row]) -> list[str]:
    """One sentence, or none, of the jobs whose cache computed everything."""
    found = [row.label for row in rows if row.never_hit]
    if not found:
        return []
    count = f"{len(found)} job{'s' * (len(found) != 1)}"
    return [
        f"The cache never hit in {count}: {enumerated(found)}. A difference in time there is not the cache's doing."
    ]


def enumerated(names: Sequence[str]) -> str:
    """`a; b; c and 7 more`: labels have commas of their own."""
    more = len(names) - NAMED
    return "; ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
