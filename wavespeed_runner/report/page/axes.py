"""The axes along which the page lays out jobs: the swept keys, and keys swept in pairs as one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...records.labels import label_jobs, shorten_to_parts
from ..rows import Row, Sweep, name_rival, naming_axes

SETTING = "setting"
"""Name of the axis that combines paired keys; no configuration key has this name."""


def named_axes(sweep: Sweep) -> list[tuple[str, str]]:
    """Returns each axis with its short name for column heads, the same as in the console."""
    return list(shorten_to_parts(sweep.axes).items())


def axes_data(sweep: Sweep) -> list[dict[str, Any]]:
    """Returns the axes for the scripts, each with its values in the sweep's order."""
    return [{"key": key, "short": short, "values": _values(sweep, key)} for key, short in named_axes(sweep)]


def paired(sweep: Sweep) -> dict[str, Any] | None:
    """Combines the keys that were swept in pairs (`points`), not as a grid, to one axis.

    Args:
        sweep: the collected sweep.

    Returns:
        The axis: `values` are the combinations, `of` the combination of each job, `keys` the combined keys. None where
        fewer than two keys were paired, or where every job has a combination of its own.
    """
    keys = _tied(sweep.rows, [key for key in sweep.axes if len({row.axes.get(key, "") for row in sweep.rows}) > 1])
    combined = [tuple(row.axes.get(key, "") for key in keys) for row in sweep.rows]
    if len(keys) < 2 or len(set(combined)) == len(sweep.rows):
        return None
    first = {values: place for place, values in reversed(list(enumerate(combined)))}
    names = _names([sweep.rows[first[values]] for values in dict.fromkeys(combined)], keys)
    name_of = dict(zip(dict.fromkeys(combined), names, strict=True))
    return {
        "key": SETTING,
        "short": SETTING,
        "keys": keys,
        "values": list(name_of.values()),
        "of": [name_of[values] for values in combined],
    }


def _tied(rows: Sequence[Row], keys: list[str]) -> list[str]:
    """The keys that are paired with others: without those that take all values with every combination of the others."""
    free = [key for key in keys if _is_free(rows, key, keys)]
    return [key for key in keys if key not in free]


def _is_free(rows: Sequence[Row], key: str, keys: Sequence[str]) -> bool:
    others = [other for other in keys if other != key]
    points = {(row.axes.get(key, ""), *(row.axes.get(other, "") for other in others)) for row in rows}
    return len(points) == len({point[0] for point in points}) * len({point[1:] for point in points})


def _names(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """Names such as `8 steps` or `fbcache, 0.1`: job labels from the paired keys only."""
    return label_jobs(
        [{key: naming_axes(row).get(key, "") for key in keys} for row in rows],
        [row.job for row in rows],
        rivals=[name_rival(row) for row in rows],
        settings=[row.label for row in rows],
    )


def _values(sweep: Sweep, key: str) -> list[str]:
    return list(dict.fromkeys(row.axes[key] for row in sweep.rows if row.axes.get(key)))
