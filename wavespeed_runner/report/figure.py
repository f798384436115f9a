"""`report.png`: quality against time, and against the computed share, with fewer steps as what has to be beaten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from math import inf, log10
from typing import TYPE_CHECKING, Any

from ..media.contact_sheet import INK, LINE, QUIET
from ..media.plotting import new_figure
from ..metrics.statistics import Interval
from .figure_bands import draw_bands
from .figure_front import draw_front, find_share_front
from .figure_labels import CROWD, METRIC, add_labels, drawable
from .figure_styles import RIVAL, STEPS, choose_styles, name_group
from .ranking import reference_times, time_factors
from .rows import Row, Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEAREST = 2e-4
"""Distance from SSIM 1 below which the logarithmic axis is linear."""
NARROW = 0.02
"""Shortest range of the quality axis: settings that are all perfect need a scale too."""
NARROW_SHARE = 10
"""The same for the axis of the share, in %: where nearly everything was computed, it begins at 0."""
DPI, SIZE = 160, (13.0, 6.0)
TICKS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999, 1.0)


def report_png(sweep: Sweep) -> bytes:
    """Draws the plot of a sweep and returns the PNG file."""
    figure(sweep).savefig(buffer := BytesIO(), dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def figure(sweep: Sweep) -> Figure:
    """Draws the two panels, or one sentence where nothing was compared with a reference."""
    rows = [row for row in sweep.rows if row.status == "completed" and row.seconds and METRIC in row.quality]
    drawing = new_figure(figsize=SIZE, layout="constrained")
    drawing.suptitle(drawable(sweep.title), fontsize=14, color=INK, parse_math=False)
    if not rows:
        drawing.text(0.5, 0.5, "No job has been compared with a reference yet.", ha="center", fontsize=14, color=QUIET)
        return drawing
    time, share = drawing.subplots(1, 2, sharey=True)
    scale, unit = (1.0, "s") if max(row.seconds.value for row in rows if row.seconds) >= 1 else (1000.0, "ms")
    factors = time_factors(rows)
    how = "median" if all(factor == 1 for factor in factors) else "median, scaled to the median reference"
    _axes(time, rows, f"time per image, {unit} ({how})")
    _axes(share, rows, "computed share of the reference's work, %")
    times = [_scaled(row.seconds, scale * factor) for row, factor in zip(rows, factors, strict=True)]
    shares = [_scaled(_alone(row.computed_share), 100) for row in rows]
    if all(one is None or one.value > 100 - NARROW_SHARE for one in shares):
        share.set_xlim(0, 105)
    if not any(shares):
        share.text(0.5, 0.5, "not known", transform=share.transAxes, ha="center", fontsize=12, color=QUIET)
    _panel(time, rows, times, apart=True)
    _panel(share, rows, shares)
    references = {group: seconds * scale for group, seconds in reference_times(rows).items()}
    draw_bands(time, sweep, list(references.values()))
    draw_front(time, rows, times, references, [row.front for row in rows])
    draw_front(share, rows, shares, dict.fromkeys(references, 100.0), find_share_front(rows))
    _rivals(time, rows, times, references)
    _rivals(share, rows, shares, dict.fromkeys(references, 100.0))
    stars = {time: list(references.values()), share: [100.0] if references and any(shares) else []}
    for axes, places in stars.items():
        _stars(axes, places)
    for axes in (time, share):
        _floor(axes, rows)
    time.set_ylabel("SSIM to the reference (mean, 95 % interval)", fontsize=12, color=INK)
    handles, names = time.get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=12, frameon=False)
    drawing.draw_without_rendering()  # lays everything out, so that labels know where they may stand
    drawing.set_layout_engine("none")
    add_labels(time, rows, times, stars[time])
    add_labels(share, rows, shares, stars[share])
    return drawing


def _alone(value: float | None) -> Interval | None:
    return None if value is None else Interval(value=value, low=value, high=value)


def _scaled(interval: Interval | None, factor: float) -> Interval | None:
    if interval is None:
        return None
    return Interval(value=interval.value * factor, low=interval.low * factor, high=interval.high * factor)


def _axes(axes: Any, rows: Sequence[Row], name: str) -> None:
    """Sets scale, ticks and frame.

    Near SSIM 1, where every setting of interest is, small distances must show: the axis is logarithmic in the distance
    from 1, in every report, as on the page.
    """
    distances = [1 - row.quality[METRIC].mean.value for row in rows]
    floors = [1 - floor for row in rows if (floor := row.quality[METRIC].noise_floor) is not None]
    nearest = max([NEAREST, *(floor / 3 for floor in floors)])
    near = max(min(distances), nearest)
    zero = near / 2  # a distance of 0 is drawn here
    axes.set_yscale("function", functions=(lambda y: _log(1 - y, zero), lambda z: 1 + zero - 10.0**-z))
    lowest = 1 - max([NARROW, *distances, *(1 - row.quality[METRIC].mean.low for row in rows)])
    bottom = 1 - (1 - lowest) * 1.3
    axes.set_ylim(bottom, 1 + zero * 0.25)
    axes.set_yticks(_spread([tick for tick in TICKS if bottom <= tick], zero))
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    axes.minorticks_off()
    axes.set_xlabel(name, fontsize=12, color=INK)
    axes.tick_params(labelsize=11, colors=QUIET)
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)


def _log(distance: Any, zero: float) -> Any:
    import numpy as np

    return -np.log10(np.maximum(distance, -0.9 * zero) + zero)


def _spread(ticks: Sequence[float], zero: float) -> list[float]:
    """Returns the ticks that are far enough apart to be read, from the top."""
    kept: list[float] = []
    last = inf
    for tick in sorted(ticks, reverse=True):
        place = -log10(1 - tick + zero)
        if last - place > 0.16:
            kept.append(tick)
            last = place
    return kept


def _panel(axes: Any, rows: Sequence[Row], x: Sequence[Interval | None], *, apart: bool = False) -> None:
    """Draws points with their intervals; with `apart`, hollow where they were not timed together with a reference."""
    drawn = [(row, at) for row, at in zip(rows, x, strict=True) if at is not None]
    crowd = len(drawn) > CROWD
    for name, (colour, marker) in choose_styles(rows).items():
        for guess in (False, True):
            own = [
                (at, row.quality[METRIC].mean)
                for row, at in drawn
                if name_group(row) == name and (apart and row.speedup is not None and not row.same_run) == guess
            ]
            if own:
                label = f"{name}, ~ timed apart" if guess else name
                _points(axes, own, colour, marker, label, pale=crowd and name != STEPS, hollow=guess)


def _points(
    axes: Any,
    own: Sequence[tuple[Interval, Interval]],
    colour: str,
    marker: str,
    name: str,
    *,
    pale: bool,
    hollow: bool,
) -> None:
    """own: place along x and quality of each."""
    axes.errorbar(
        [at.value for at, _ in own],
        [mean.value for _, mean in own],
        xerr=_bars([at for at, _ in own]),
        yerr=_bars([mean for _, mean in own]),
        fmt=marker,
        color=colour,
        markerfacecolor="white" if hollow else colour,
        elinewidth=0.6 if pale else 1.0,
        markersize=3.5 if pale else 6.5,
        alpha=0.45 if pale else 1.0,
        label=name,
        zorder=4 + (marker == "s"),
    )


def _bars(intervals: Sequence[Interval]) -> list[list[float]]:
    """Lengths to the left and to the right; rounding may put both bounds of a bootstrap on one side of the value."""
    return [[max(0.0, i.value - i.low) for i in intervals], [max(0.0, i.high - i.value) for i in intervals]]


def _line(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Returns the x and the y coordinates, in order of x."""
    ordered = sorted(points)
    return [x for x, _ in ordered], [y for _, y in ordered]


def _rivals(axes: Any, rows: Sequence[Row], x: Sequence[Interval | None], references: Mapping[str, float]) -> None:
    """Draws the rivals of each sampler as a curve; that of the reference's sampler ends there."""
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row, at in zip(rows, x, strict=True):
        if at is not None and row.rival:
            groups.setdefault((row.rivals_with, row.solver), []).append((at.value, row.quality[METRIC].mean.value))
    for (group, solver), points in groups.items():
        end = [(references[group], 1.0)] if group in references and not solver else []
        axes.plot(*_line([*points, *end]), color=RIVAL, linewidth=1.3, linestyle="--", zorder=2)


def _stars(axes: Any, places: Sequence[float]) -> None:
    """Marks the references, at SSIM 1 by definition."""
    style = {"linestyle": "none", "marker": "*", "color": INK, "markersize": 12, "zorder": 5, "clip_on": False}
    if places:
        axes.plot(places, [1.0] * len(places), label="reference", **style)


def _floor(axes: Any, rows: Sequence[Row]) -> None:
    floors = [floor for row in rows if (floor := row.quality[METRIC].noise_floor) is not None]
    if floors:
        axes.axhline(min(floors), color=QUIET, linewidth=1.3, linestyle=":", label="noise floor", zorder=1)
