"""`tune.png`: everything that was tried, quality against time, with the bound, the front and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from ..media.contact_sheet import INK, LINE, QUIET
from ..media.plotting import new_figure
from ..metrics.statistics import Point, find_pareto_front
from .result import Result, find_interval
from .tune import Tuning

SIZE, DPI = (9.0, 5.4), 150
COLORS = ("#2860b4", "#b0417f", "#2c7a4b", "#7752b8", "#0f7f8c", "#a3792b", "#5c6670", "#d98cb3", "#7fb3e0", "#8fbf6a")
ANSWER = "#c05a17"


def draw(tuning: Tuning) -> bytes:
    """Draws the results of the most prompts, and smaller those of fewer; returns the PNG file."""
    metric = tuning.aim.shown.metric
    drawing = new_figure(figsize=SIZE, layout="constrained")
    axes = drawing.subplots()
    latest = list_latest(tuning.tuning.results)
    most = max((result.prompts for result in latest), default=0)
    for index, kind in enumerate(sorted({kind_of(result) for result in latest})):
        for whole in (False, True):
            points = [one for one in latest if kind_of(one) == kind and (one.prompts == most) is whole]
            _scatter(axes, points, metric, COLORS[index % len(COLORS)], kind if whole else None, whole=whole)
    _front(axes, [result for result in latest if result.prompts == most], metric, tuning.aim.shown.least)
    for bound in (one for one in tuning.aim.bounds if (one.metric, one.statistic) == (metric, "mean")):
        axes.axhline(bound.value, color=ANSWER, linewidth=1, linestyle=(0, (4, 3)), label=str(bound))
    if tuning.answer:
        _mark(axes, tuning.answer, metric)
    axes.set_xlabel("time, share of the reference's", fontsize=11, color=INK)
    axes.set_ylabel(f"{metric} to the reference (mean)", fontsize=11, color=INK)
    axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    axes.set_xlim(left=0)
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=10, colors=QUIET)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.legend(fontsize=9, frameon=False, loc="best")
    drawing.savefig(buffer := BytesIO(), dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def list_latest(results: Sequence[Result]) -> list[Result]:
    """Of each setting the result on the most prompts."""
    latest: dict[str, Result] = {}
    for result in results:
        before = latest.get(result.setting.identity)
        if before is None or result.prompts >= before.prompts:
            latest[result.setting.identity] = result
    return list(latest.values())


def kind_of(result: Result) -> str:
    """What a point is coloured by: its cache, or else its sampler."""
    point = result.setting.point
    return str(point.get("cache") or point.get("sampler") or "default")


def find_front(results: Sequence[Result], metric: str, *, least: bool) -> list[Result]:
    """The results that no other beats in both time and quality, fast ones first."""
    sign = 1 if least else -1
    means = [sign * find_interval(result, metric)[0] for result in results]
    points = [Point(seconds=one.relative, quality=mean) for one, mean in zip(results, means, strict=True)]
    front = [result for result, on_it in zip(results, find_pareto_front(points), strict=True) if on_it]
    return sorted(front, key=lambda result: result.relative)


def _scatter(axes: Any, results: Sequence[Result], metric: str, color: str, label: str | None, *, whole: bool) -> None:
    xs = [result.relative for result in results]
    figures = [find_interval(result, metric) for result in results]
    if whole:
        errors = [[value - low for value, low, _ in figures], [high - value for value, _, high in figures]]
        axes.errorbar(xs, [one[0] for one in figures], errors, fmt="o", ms=5, color=color, elinewidth=0.8, label=label)
    else:
        axes.plot(xs, [one[0] for one in figures], "o", ms=2.5, color=color, alpha=0.45)


def _front(axes: Any, results: Sequence[Result], metric: str, least: bool) -> None:
    front = find_front(results, metric, least=least)
    ys = [find_interval(result, metric)[0] for result in front]
    axes.plot([one.relative for one in front], ys, color=QUIET, linewidth=1, zorder=1, label="front")


def _mark(axes: Any, result: Result, metric: str) -> None:
    value, low, high = find_interval(result, metric)
    errors = [[value - low], [high - value]]
    axes.errorbar([result.relative], [value], errors, fmt="*", ms=16, color=ANSWER, zorder=5, label="answer, judged")
