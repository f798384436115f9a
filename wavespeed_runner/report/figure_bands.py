"""What others have published, as bands behind the points of `report.png`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .published import list_bands
from .rows import Sweep

PUBLISHED = "#7a5195"
NARROWEST = 0.012
"""Width of a band of one speedup alone, as a share of the longest time that a band ends at."""
APART = 0.03
"""The same share: names of bands whose middles are nearer stand at the upper and the lower end in turn."""


def draw_bands(axes: Any, sweep: Sweep, references: Sequence[float]) -> None:
    """Draws published speedups as bands behind everything, each named along it.

    Args:
        axes: with time along x.
        sweep: with what was published, if that was asked for.
        references: the times of the sweep's own references, in the unit of the axis.
    """
    bands = list_bands(sweep.published, references, sweep.published_groups)
    longest = max((band.high for band in bands), default=0.0)
    last, upper = -longest, True
    for number, band in enumerate(bands):
        middle, half = (band.low + band.high) / 2, max(band.high - band.low, NARROWEST * longest) / 2
        label = "published by others" if number == 0 else None
        axes.axvspan(middle - half, middle + half, color=PUBLISHED, alpha=0.13, linewidth=0, zorder=0.5, label=label)
        upper = not upper if middle - last < APART * longest else False
        place = {
            "transform": axes.get_xaxis_transform(),
            "rotation": 90,
            "ha": "center",
            "va": "top" if upper else "bottom",
        }
        axes.text(middle, 0.985 if upper else 0.015, band.name, color=PUBLISHED, fontsize=9, zorder=1.5, **place)
        last = middle
