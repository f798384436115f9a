"""`report.png`: time against quality, and share of the work against quality, with what has to be beaten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from math import inf, log10
from typing import TYPE_CHECKING, Any

from ..media.contact_sheet import INK, LINE, QUIET
from ..metrics.statistics import Interval
from .figure_labels import CROWD, METRIC, RIVAL, SETTING, add_labels, drawable
from .judging import paces, reference_times
from .rows import Row, Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE = 30
"""From this ratio of the greatest distance to SSIM 1 to the smallest one on, the axis is logarithmic in it."""
NEAREST = 2e-4
"""Distance to SSIM 1 below which the logarithmic axis stops stretching."""
NARROW = 0.02
"""Least part of the quality axis that is shown: settings that are all perfect need a scale too."""
NARROW_SHARE = 10
"""Of the share's axis, in %, the same: where nearly everything was computed, it begins at 0."""
DPI, SIZE = 160, (13.0, 6.0)
TICKS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999, 1.0)


def report_png(sweep: Sweep) -> bytes:
    """The whole file."""
    buffer = BytesIO()
    figure(sweep).savefig(buffer, dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def figure(sweep: Sweep) -> Figure:
    """Two panels; one sentence where nothing was compared with a reference."""
    from matplotlib.figure import Figure

    rows = [row for row in sweep.rows if row.status == "completed" and row.seconds and METRIC in row.quality]
    made = Figure(figsize=SIZE, layout="constrained")
    made.suptitle(drawable(sweep.title), fontsize=14, color=INK, parse_math=False)
    if not rows:
        made.text(0.5, 0.5, "No job has been compared with a reference yet.", ha="center", fontsize=14, color=QUIET)
        return made
    time, share = made.subplots(1, 2, sharey=True)
    factor, unit = (1.0, "s") if max(row.seconds.value for row in rows if row.seconds) >= 1 else (1000.0, "ms")
    pace = paces(rows)
    how = "median" if all(one == 1 for one in pace) else "median, as beside the middle reference"
    _axes(time, rows, f"time an image, {unit} ({how})")
    _axes(share, rows, "computed share of the reference's work, %")
    times = [_scaled(row.seconds, factor * own) for row, own in zip(rows, pace, strict=True)]
    shares = [_scaled(_alone(row.computed_share), 100) for row in rows]
    if all(one is None or one.value > 100 - NARROW_SHARE for one in shares):
        share.set_xlim(0, 105)
    if not any(shares):
        share.text(0.5, 0.5, "not known", transform=share.transAxes, ha="center", fontsize=12, color=QUIET)
    _panel(time, rows, times, apart=True)
    _panel(share, rows, shares)
    references = {group: seconds * factor for group, seconds in reference_times(rows).items()}
    whole = dict.fromkeys(references, 100.0)
    _front(time, rows, times, references)
    _rivals(time, rows, times, references)
    _rivals(share, rows, shares, whole)
    _stars(time, list(references.values()))
    _stars(share, [100.0] if references and any(shares) else [])
    for axes in (time, share):
        _floor(axes, rows)
    time.set_ylabel("SSIM to the reference (mean, 95 % interval)", fontsize=12, color=INK)
    handles, names = time.get_legend_handles_labels()
    made.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=12, frameon=False)
    made.draw_without_rendering()  # lays everything out, so that labels know where they may stand
    made.set_layout_engine("none")
    add_labels(time, rows, times)
    add_labels(share, rows, shares)
    return made


def _alone(value: float | None) -> Interval | None:
    return None if value is None else Interval(value=value, low=value, high=value)


def _scaled(found: Interval | None, factor: float) -> Interval | None:
    return found and Interval(value=found.value * factor, low=found.low * factor, high=found.high * factor)


def _axes(axes: Any, rows: Sequence[Row], name: str) -> None:
    """Scale, ticks and frame. Near SSIM 1, where every setting of interest is, small distances must show."""
    distances = [1 - row.quality[METRIC].mean.value for row in rows]
    floors = [1 - floor for row in rows if (floor := row.quality[METRIC].noise_floor) is not None]
    # Closer than this nothing is worth telling apart.
    nearest = max([NEAREST, *(floor / 3 for floor in floors)])
    near = max(min(distances), nearest)
    if max(distances) > WIDE * near:
        zero = near / 2  # where a distance of 0 is drawn
        axes.set_yscale("function", functions=(lambda y: _log(1 - y, zero), lambda z: 1 + zero - 10.0**-z))
        lowest = 1 - max([*distances, *(1 - row.quality[METRIC].mean.low for row in rows)])
        axes.set_ylim(1 - (1 - lowest) * 1.3, 1 + zero * 0.25)
        axes.set_yticks(_spread([tick for tick in TICKS if lowest - 0.05 <= tick <= 1], zero))
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        axes.yaxis.set_minor_locator(_no_ticks())
    else:
        lows = [row.quality[METRIC].mean.low for row in rows]
        height = max(NARROW, 1 - min([*lows, *(1 - floor for floor in floors)]))
        axes.set_ylim(1 - 1.1 * height, 1 + 0.06 * height)
        # Above 1 there is nothing, except room for the marks that lie on it.
        axes.set_yticks([tick for tick in axes.get_yticks() if 1 - 1.1 * height <= tick <= 1 + 1e-9])
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
    """Those that are far enough apart to be read, from the top."""
    kept: list[float] = []
    last = inf
    for tick in sorted(ticks, reverse=True):
        place = -log10(1 - tick + zero)
        if last - place > 0.16:
            kept.append(tick)
            last = place
    return kept


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _panel(axes: Any, rows: Sequence[Row], x: Sequence[Interval | None], *, apart: bool = False) -> None:
    """Points with their intervals.

    Args:
        apart: draw those hollow that were not timed beside their reference.
    """
    drawn = [(row, at) for row, at in zip(rows, x, strict=True) if at is not None]
    crowd = len(drawn) > CROWD
    for is_rival, colour, marker, name in (
        (False, SETTING, "o", "setting"),
        (True, RIVAL, "s", "fewer steps, no cache"),
    ):
        for guess in (False, True):
            own = [
                (at, row.quality[METRIC].mean)
                for row, at in drawn
                if row.rival == is_rival and (apart and row.speedup is not None and not row.same_run) == guess
            ]
            if own:
                label = f"{name}, ~ timed apart from the reference" if guess else name
                _points(axes, own, colour, marker, label, pale=crowd and not is_rival, hollow=guess)


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


def _bars(found: Sequence[Interval]) -> list[list[float]]:
    """Lengths to the left and to the right; a bootstrap's bounds may lie on one side of the value by a rounding."""
    return [[max(0.0, one.value - one.low) for one in found], [max(0.0, one.high - one.value) for one in found]]


def _front(axes: Any, rows: Sequence[Row], x: Sequence[Interval | None], references: Mapping[str, float]) -> None:
    """The front of each group as a line, which ends at the reference: that takes part, and nothing is better."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for row, at in zip(rows, x, strict=True):
        if at is not None and row.front:
            own = groups.setdefault(row.compared_with, [])
            own.append((at.value, row.quality[METRIC].mean.value))
            if row.rivals_with in references:
                own.append((references[row.rivals_with], 1.0))
    for number, points in enumerate(_ascending(points) for points in groups.values()):
        if len(points) > 1:
            axes.plot(
                *_line(points),
                color=INK,
                linewidth=1.1,
                alpha=0.75,
                zorder=2.5,
                label="Pareto front" if number == 0 else None,
            )


def _ascending(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that are better than all before them: of several references the fastest is the end."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or y > kept[-1][1] or (x, y) == kept[-1]:
            kept.append((x, y))
    return list(dict.fromkeys(kept))


def _line(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """x and y in order of x."""
    ordered = sorted(points)
    return [x for x, _ in ordered], [y for _, y in ordered]


def _rivals(axes: Any, rows: Sequence[Row], x: Sequence[Interval | None], references: Mapping[str, float]) -> None:
    """The rivals of each group as a curve, which ends at their reference."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for row, at in zip(rows, x, strict=True):
        if at is not None and row.rival:
            groups.setdefault(row.rivals_with, []).append((at.value, row.quality[METRIC].mean.value))
    for group, points in groups.items():
        end = [(references[group], 1.0)] if group in references else []
        axes.plot(*_line([*points, *end]), color=RIVAL, linewidth=1.3, linestyle="--", zorder=2)


def _stars(axes: Any, places: Sequence[float]) -> None:
    """Where the references are: SSIM 1, by definition."""
    style = {"linestyle": "none", "marker": "*", "color": INK, "markersize": 12, "zorder": 5, "clip_on": False}
    if places:
        axes.plot(places, [1.0] * len(places), label="reference", **style)


def _floor(axes: Any, rows: Sequence[Row]) -> None:
    floors = [floor for row in rows if (floor := row.quality[METRIC].noise_floor) is not None]
    if floors:
        axes.axhline(min(floors), color=QUIET, linewidth=1.3, linestyle=":", label="noise floor", zorder=1)
