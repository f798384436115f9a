"""Along what the page lays jobs out: the sweep's axes, and settings that were paired as one axis of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...records.labels import label_jobs, shorten_to_parts
from ..rows import Row, Sweep

SETTING = "setting"
"""Name of the axis that stands for several paired ones; no key has it."""


def named_axes(sweep: Sweep) -> list[tuple[str, str]]:
    """Each axis with its name at the head of a column, as in the console."""
    return list(shorten_to_parts(sweep.axes).items())


def axes_data(sweep: Sweep) -> list[dict[str, Any]]:
    """The axes for the script, each with its values in the sweep's order."""
    return [{"key": key, "short": short, "values": _values(sweep, key)} for key, short in named_axes(sweep)]


def paired(sweep: Sweep) -> dict[str, Any] | None:
    """The axes that were zipped (`points`), not multiplied, as one axis; None where that would tell nothing new.

    Its values are the combinations that there are, `of` says job by job which one it has, `keys` are the axes in it.
    """
    keys = _tied(sweep.rows, [key for key in sweep.axes if len({row.axes.get(key, "") for row in sweep.rows}) > 1])
    combined = [tuple(row.axes.get(key, "") for key in keys) for row in sweep.rows]
    if len(keys) < 2 or len(set(combined)) == len(sweep.rows):
        return None
    first = {one: place for place, one in reversed(list(enumerate(combined)))}
    names = _names([sweep.rows[first[one]] for one in dict.fromkeys(combined)], keys)
    named = dict(zip(dict.fromkeys(combined), names, strict=True))
    return {
        "key": SETTING,
        "short": SETTING,
        "keys": keys,
        "values": list(named.values()),
        "of": [named[one] for one in combined],
    }


def _tied(rows: Sequence[Row], keys: list[str]) -> list[str]:
    """The keys that are left when those are taken away that every combination of the others has all values of."""
    free = [key for key in keys if _is_free(rows, key, keys)]
    return [key for key in keys if key not in free]


def _is_free(rows: Sequence[Row], key: str, keys: Sequence[str]) -> bool:
    others = [other for other in keys if other != key]
    seen = {(row.axes.get(key, ""), *(row.axes.get(other, "") for other in others)) for row in rows}
    return len(seen) == len({one[0] for one in seen}) * len({one[1:] for one in seen})


def _names(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """`8 steps`, `fbcache, 0.1`: as in labels, without what is not paired."""
    return label_jobs(
        [{key: row.axes.get(key, "") for key in keys} for row in rows],
        [row.job for row in rows],
        rivals=[row.record.config["steps"] if row.rival and row.record else None for row in rows],
        settings=[row.label for row in rows],
    )


def _values(sweep: Sweep, key: str) -> list[str]:
    return list(dict.fromkeys(row.axes[key] for row in sweep.rows if row.axes.get(key)))
