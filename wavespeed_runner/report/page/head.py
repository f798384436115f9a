"""The head of the page: how far the jobs are, and the key figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...metrics.forks import FORK
from ..ranking import is_nothing_faster
from ..rows import Row, Sweep
from .samples import samples_of
from .texts import NOTHING, reference_text, texts, unit

STATUSES = ("completed", "failed", "lost", "interrupted", "running", "missing", "skipped")
"""In the order in which the page lists them."""
REFERENCE = "median time per image without acceleration"
NEAR = 0.95
"""The mean SSIM that is known to be kept (lower end of its 95 % interval) by what the head of the page praises."""
UNENDED = ("interrupted", "running", "missing")
"""Statuses of jobs that have yet to end."""


def list_statuses(sweep: Sweep) -> list[tuple[str, int]]:
    """Each status that jobs have, and how many have it."""
    counted = Counter(row.status for row in sweep.rows)
    return [(status, counted[status]) for status in STATUSES if counted[status]]


def describe_state(sweep: Sweep) -> str:
    """`finished`, or which jobs are still to end."""
    if sweep.finished:
        return "finished"
    counted = dict(list_statuses(sweep))
    waiting = [f"{counted[status]} {status}" for status in UNENDED if status in counted]
    return "unfinished: " + (", ".join(waiting) or "more jobs to come")


def list_facts(sweep: Sweep) -> list[tuple[str, str, str]]:
    """The key figures at the top of the page: name, value and explanation."""
    if len(sweep.rows) == 1 and sweep.rows[0].status == "completed":
        return _facts_of_one(sweep)
    counted = list_statuses(sweep)
    ended = sum(count for status, count in counted if status not in UNENDED)
    facts = [("jobs", f"{ended} of {len(sweep.rows)}", ", ".join(f"{count} {status}" for status, count in counted))]
    if reference := reference_text(sweep):
        facts.append(("reference", reference, REFERENCE))
    on_front = [row for row in sweep.rows if row.front]
    compared = sum("ssim" in row.quality for row in sweep.rows)
    if on_front:
        facts.append(("Pareto front", f"{len(on_front)} of {compared}", _name_fastest(sweep, on_front)))
    elif is_nothing_faster(sweep.rows):
        facts.append(("Pareto front", f"0 of {compared}", "nothing is faster than the reference"))
    compared_settings = [row for row in sweep.rows if row.beaten_by_fewer_steps is not None and not row.rival]
    if compared_settings:
        better = sum(not row.beaten_by_fewer_steps for row in compared_settings)
        facts.append(
            ("better than fewer steps", f"{better} of {len(compared_settings)}", "settings, by SSIM in the same time")
        )
    return facts


def _name_fastest(sweep: Sweep, on_front: Sequence[Row]) -> str:
    """The fastest setting that is near the reference: what is faster, and another image, is no gain."""
    if not any(row.speedup for row in on_front):
        return "settings that no other is better than"
    near = [row for row in on_front if row.speedup and "ssim" in row.quality and row.quality["ssim"].mean.low >= NEAR]
    if not near:
        return f"of none is a mean SSIM of {NEAR:g} known (lower end of its interval)"
    fastest = max(near, key=lambda row: row.speedup or 0.0)
    text = texts(fastest, unit(sweep))
    interval = f" ({text['speedup_interval']})" if text["speedup_interval"] else ""
    return f"fastest near the reference: {fastest.label}, {text['speedup']}{interval} at SSIM {_ssim(fastest)}"


def _facts_of_one(sweep: Sweep) -> list[tuple[str, str, str]]:
    """The key figures of a single run."""
    (row,) = sweep.rows
    text = texts(row, unit(sweep))
    facts = [("time per image", text["time"], "median time to denoise it")]
    if reference := reference_text(sweep):
        facts.append(("reference", reference, REFERENCE))
    if row.speedup is not None:
        share = "" if row.computed_share is None else f"{text['share']} of the reference's work computed"
        facts.append(("speedup", text["speedup"], "the cache never hit" if row.never_hit else share))
    if "ssim" in row.quality:
        spread = f"median {text['ssim_median']}, 10th percentile {text['ssim_p10']}, worst image {text['ssim_worst']}"
        several = len(samples_of(row)) > 1
        facts.append(("SSIM", _ssim(row), f"to the reference; {spread}" if several else "to the reference"))
        if row.forks and row.forks.count:
            facts.append(("forks", text["forks"], f"images with an SSIM below {FORK:g}"))
    return facts


def _ssim(row: Row) -> str:
    return f"{row.quality['ssim'].mean.value:.4f}" if "ssim" in row.quality else NOTHING
