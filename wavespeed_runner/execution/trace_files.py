"""Writes the decisions of the cache strategy at each step: `trace.csv` (table) and `trace.png` (plot)."""

from __future__ import annotations

from io import BytesIO
from math import ceil, nan
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from ..caching.interfaces import StepInfo
from ..caching.window import is_inside_window
from ..config.schema import CacheConfig, Rounding
from ..media.contact_sheet import INK, LINE, QUIET
from ..media.plotting import new_figure
from ..records.record import Record
from ..storage.atomic import write_bytes
from .trace_table import Row, as_csv, rows, strategy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BRANCHES = ("#1f5fa8", "#c2571a", "#3f7d3a")
"""Colours of the guidance branches of a step."""
PANELS, COLUMNS = 12, 3
"""Most panels in the plot, and most in a row of panels."""
PANEL, STRIP, WIDTH, MARGIN, ENTRY = 2.3, 1.0, 4.4, 0.6, 1.4
"""Inches: height of a panel, height of a panel without curves, width of both, height of the legend, width of its
entries."""
TITLE, DPI = 62, 100
"""Most characters in a line of a panel's title, and resolution of the plot."""
SHADE, LIMIT, DASHES = "#e9eff6", "#b3261e", (0, (4, 3))
"""Colour of the steps that may be cached, colour of the threshold, and its line style."""
FORCED = ("warmup_steps", "force_last_step")
WINDOW = ("start", "start_rounding", "end", "include_end", *FORCED)
"""The cache options that limit which steps may be cached; where start and end are no fractions of the steps, the record
says which steps are outside."""


def write_trace(folder: Path, record: Record, *, plot: bool = True) -> None:
    """Writes `trace.csv` and `trace.png`; neither if no cache strategy was attached.

    Args:
        folder: of the run.
        record: of the run.
        plot: whether to write `trace.png`.
    """
    decisions = rows(record)
    if decisions:
        write_bytes(folder / "trace.csv", as_csv(decisions).encode())
    if decisions and plot:
        buffer = BytesIO()
        figure(record, decisions).savefig(buffer, dpi=DPI, metadata={"Software": None})
        write_bytes(folder / "trace.png", buffer.getvalue())


def figure(record: Record, decisions: list[Row]) -> Figure:
    """Draws one panel per image and denoising stage.

    A panel shows the value compared with the threshold at each step and, below it, the decisions. Schedules have no
    threshold, so their panels show the decisions only.
    """
    panels: dict[tuple[str, str], list[Row]] = {}
    for row in decisions:
        panels.setdefault((row.file, row.stage), []).append(row)
    curves = any(row.signal is not None or row.level is not None for row in decisions)
    parts = list(panels.values()) if curves else _join_alike(list(panels.values()))
    shown = parts[:PANELS]
    columns = min(COLUMNS, ceil(len(shown) ** 0.5))
    lines = ceil(len(shown) / columns)
    height = (PANEL if curves else STRIP) * lines + MARGIN
    plot = new_figure(figsize=(WIDTH * columns, height), layout="constrained")
    grid = plot.subplots(lines, columns, squeeze=False, sharey=True)
    top = _find_top(shown)
    prompts = {sample.file: sample.prompt for sample in record.samples}
    for axes, part in zip(grid.flat, shown, strict=False):
        _draw_panel(axes, part, strategy(record, part[0].stage), top=top if curves else 0)
        stages = len({row.stage for row in decisions}) > 1
        alike = 1 if curves else _count_alike(part, list(panels.values()))
        lines_of_title = wrap(_name_panel(part, prompts, alike, stages=stages), TITLE, max_lines=2, placeholder="…")
        axes.set_title("\n".join(lines_of_title), fontsize=8.5, color=INK, loc="left", parse_math=False)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(shown) - columns) : len(shown)]:
        axes.set_xlabel("step", fontsize=8.5, color=QUIET)
    if curves:
        for axes in grid[:, 0]:
            axes.set_ylabel(_describe_signal(strategy(record, shown[0][0].stage)), fontsize=8.5, color=QUIET)
    _draw_legend(plot, shown, top=top if curves else 0, left_out=len(parts) - len(shown))
    return plot


def _list_decisions(part: list[Row]) -> list[tuple[int, str, bool]]:
    return [(row.step, row.branch, row.computed) for row in part]


def _join_alike(parts: list[list[Row]]) -> list[list[Row]]:
    """One panel of those that would look the same: a schedule computes the same steps for every image."""
    different: dict[tuple[Any, ...], list[Row]] = {}
    for part in parts:
        different.setdefault((part[0].stage, *_list_decisions(part)), part)
    return list(different.values())


def _count_alike(part: list[Row], parts: list[list[Row]]) -> int:
    same = (part[0].stage, _list_decisions(part))
    return sum((other[0].stage, _list_decisions(other)) == same for other in parts)


def _name_panel(part: list[Row], prompts: dict[str, str], alike: int, *, stages: bool) -> str:
    """`a red circle (seed 0, denoise)`, or `8 images` where they share the panel."""
    stage = f"{part[0].stage}" if stages else ""
    if alike > 1:
        return f"{alike} images{f' ({stage})' if stage else ''}"
    sample = f"(seed {part[0].seed}{', ' * bool(stage)}{stage})".replace(" ", "\N{NO-BREAK SPACE}")
    return f"{_drawable(prompts[part[0].file])} {sample}"


def _find_top(shown: list[list[Row]]) -> float:
    """Upper end of the vertical axis: above all curves, and above thresholds that would not flatten the curves."""
    values = [value for part in shown for row in part if (value := find_plotted_value(row, part)) is not None]
    highest = max(values, default=0.0) or 1.0
    near = [row.threshold for part in shown for row in part if row.threshold and row.threshold <= 2 * highest]
    return 1.08 * max([highest, *near])


def _describe_signal(cache: dict[str, Any]) -> str:
    """Label of the vertical axis, such as `relative change of first block residual`, on two lines."""
    names = [(cache.get(part) or {}).get("name", "") for part in ("criterion", "signal")]
    return " of\n".join(name.replace("_", " ") for name in names if name and name != "none")


def _draw_panel(axes: Any, part: list[Row], cache: dict[str, Any], *, top: float) -> None:
    """Draws the steps of one image and stage. top: upper end of the vertical axis; 0 for decisions only."""
    steps = sorted({row.step for row in part})
    known = WINDOW if cache.get("window", "steps") == "steps" else FORCED
    values = {key: cache[key] for key in known if key in cache}
    window = CacheConfig(**values | {"start_rounding": Rounding(values.get("start_rounding", "up"))})
    outside = {row.step for row in part if row.outside_window}
    cacheable = [
        step
        for step in steps
        if step > 1
        and step not in outside
        and is_inside_window(window, StepInfo(step=step - 1, steps=len(steps), sigma=nan))
    ]
    if cacheable:
        axes.axvspan(cacheable[0] - 0.5, cacheable[-1] + 0.5, color=SHADE, zorder=0)
    branches = list(dict.fromkeys(row.branch for row in part))
    # Decisions are in rows below the curves. Their heights are fractions of the axis.
    rise = 0.09 if top else 1 / (len(branches) + 1)
    for order, branch in enumerate(branches):
        branch_rows, colour = [row for row in part if row.branch == branch], BRANCHES[order % len(BRANCHES)]
        if top:
            points = [
                (row.step, value, row.computed)
                for row in branch_rows
                if (value := find_plotted_value(row, part)) is not None
            ]
            axes.plot([step for step, *_ in points], [value for _, value, _ in points], color=colour, linewidth=0.9)
            _draw_marks(axes, points, colour, "o", 4)
        strip = [(row.step, rise * (order + (0.7 if top else 1)), row.computed) for row in branch_rows]
        _draw_marks(axes, strip, colour, "s", 5, transform=axes.get_xaxis_transform())
    threshold = part[0].threshold
    if top and threshold is not None and threshold <= top:
        axes.axhline(threshold, color=LIMIT, linewidth=0.9, linestyle=DASHES)
    room = rise * (len(branches) + 0.5)
    axes.set_ylim(-top * room / (1 - room) if top else 0, top or 1)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top] if top else [])
    axes.set_xlim(0.3, max(steps) + 0.7)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=8, colors=QUIET)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)


def find_plotted_value(row: Row, part: list[Row]) -> float | None:
    """Returns the value that a panel shows for a step: the level compared with the threshold.

    Where level and signal are the same it is the signal, which is known at more steps.
    """
    same = all(other.level is None or other.level == other.signal for other in part)
    return row.signal if same else row.level


def _draw_marks(
    axes: Any, points: list[tuple[int, float, bool]], colour: str, marker: str, size: float, **more: Any
) -> None:
    """Draws filled marks for computed steps and hollow ones for cached steps."""
    for computed, face in ((True, colour), (False, "white")):
        x = [step for step, _, is_computed in points if is_computed == computed]
        y = [value for _, value, is_computed in points if is_computed == computed]
        style = {"linestyle": "none", "markerfacecolor": face, "markeredgecolor": colour, "markersize": size}
        axes.plot(x, y, marker=marker, clip_on=False, in_layout=False, **style, **more)


def _draw_legend(plot: Any, shown: list[list[Row]], *, top: float, left_out: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    branches = [branch for branch in dict.fromkeys(row.branch for part in shown for row in part) if branch]
    colours = dict(zip(branches, BRANCHES * len(branches), strict=False))
    handles: list[Any] = [
        Line2D([], [], linestyle="none", marker="s", color=INK, label="computed"),
        Line2D([], [], linestyle="none", marker="s", color=INK, markerfacecolor="white", label="cached"),
        Patch(color=SHADE, label="may be cached"),
        *(Line2D([], [], color=colours[name], label=_drawable(name)) for name in branches),
    ]
    thresholds = {row.threshold for part in shown for row in part if row.threshold is not None}
    if top and thresholds:
        number = f" {min(thresholds):.4g}" if len(thresholds) == 1 else ""
        above = ", off scale" if min(thresholds) > top else ""
        handles.append(Line2D([], [], color=LIMIT, linestyle=DASHES, label=f"threshold{number}{above}"))
    if left_out:
        handles.append(Line2D([], [], linestyle="none", label=f"{left_out} more in trace.csv"))
    columns = int(plot.get_figwidth() / ENTRY)
    plot.legend(
        handles=handles, loc="outside upper left", ncols=columns, fontsize=8.5, frameon=False, columnspacing=1.2
    )


def _drawable(text: str) -> str:
    """Replaces characters that matplotlib's default font lacks, all but Latin, Greek and Cyrillic, by `?`."""
    return "".join(c if c.isprintable() and c < "\u0530" else "?" for c in " ".join(text.split()))
