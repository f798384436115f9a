"""Colours and markers of `report.png`: one for each cache strategy, the same in both panels."""

from __future__ import annotations

from collections.abc import Sequence

from .rows import Row

RIVAL = "#D55E00"
"""Of fewer steps without a cache, which are drawn as squares."""
STEPS, OTHER = "fewer steps, no cache", "other settings"
COLOURS = ("#0072B2", "#CC79A7", "#009E73", "#E69F00", "#56B4E9", "#7F3C8D", "#4B4B4B")
MARKERS = ("o", "D", "^", "v", "P", "X", "o")
"""Colours safe for colour blindness (Okabe and Ito, Color Universal Design, 2008), and two more; markers differ as
well. The last one is for whatever has no own."""


def name_group(row: Row) -> str:
    """`fewer steps, no cache`, or what people call the cache strategy; `other settings` without one."""
    if row.rival:
        return STEPS
    cache = (row.record.config.get("cache") or {}) if row.record else {}
    name = cache.get("chosen_as") or cache.get("name") or "none"
    return OTHER if name == "none" else str(name)


def choose_styles(rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """Group -> its colour and marker, in the order of the legend.

    Args:
        rows: the jobs that are drawn. Strategies beyond the sixth share a look.
    """
    names = list(dict.fromkeys(name_group(row) for row in rows))
    own = [name for name in names if name not in (STEPS, OTHER)]
    last = len(COLOURS) - 1
    styles = {name: (COLOURS[min(order, last)], MARKERS[min(order, last)]) for order, name in enumerate(own)}
    styles |= {OTHER: (COLOURS[last], MARKERS[last]), STEPS: (RIVAL, "s")}
    return {name: styles[name] for name in [*own, OTHER, STEPS] if name in names}
