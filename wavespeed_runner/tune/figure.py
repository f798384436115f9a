"""Everything that was tried as a plot for `tune.html`: quality against time, with bounds, front and answer.

Places are percentages of the plot's width and height, so that the drawing fits any window while its text keeps its
size; colours are names of the style sheet's, so that it is dark where the page is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, floor, log10
from typing import Any

from ..metrics.statistics import Point, find_pareto_front
from .aim import Aim
from .result import Result, describe_time, find_interval, list_latest
from .tuning import Tuning

COLOURS = 8
"""That the style sheet has for groups."""
SHAPES = 5
"""That the template has for more groups than colours."""
TICKS = 8
"""About as many on an axis."""
Place = Callable[[float], float]


def draw(tuning: Tuning) -> dict[str, Any]:
    """Lays out the results of the most prompts, and smaller those of fewer; what the template draws."""
    aim, metric = tuning.aim, tuning.aim.shown.metric
    latest = list_latest(tuning.tuning.results)
    most = max((result.prompts for result in latest), default=0)
    whole = [result for result in latest if result.prompts == most]
    bounds = [one for one in tuning.aim.bounds if (one.metric, one.statistic) == (metric, "mean")]
    answers = [tuning.answer] if tuning.answer else []
    means = [find_interval(result, metric)[0] for result in latest]
    ends = [end for result in (*whole, *answers) for end in find_interval(result, metric)]
    limit = [] if aim.seconds is None else [aim.seconds]
    times = [_find_time(result, aim) for result in (*latest, *answers)]
    x, x_ticks = _scale([0.0, *times, *limit], from_low=True)
    y, y_ticks = _scale([*means, *ends, *(bound.value for bound in bounds)])
    kinds = sorted({kind_of(result) for result in latest})

    def point(result: Result) -> dict[str, Any]:
        value, low, high = find_interval(result, metric)
        return {
            "x": x(_find_time(result, aim)),
            "y": 100 - y(value),
            "low": 100 - y(low),
            "high": 100 - y(high),
            "whole": result.prompts == most,
            **_mark(kinds.index(kind_of(result))),
            "text": f"{result.setting.name}: {_say_time(result, aim)}, {metric} {value:.4g} "
            f"({low:.4g} to {high:.4g}), {result.prompts} prompts",
        }

    return {
        "x_ticks": [(x(tick), f"{100 * tick:.0f} %" if not limit else _name_tick(tick, x_ticks)) for tick in x_ticks],
        "x_name": "median time to denoise an image" if limit else "time, share of the reference's",
        "limits": [(x(seconds), f"time<={aim.limit}") for seconds in limit],
        "y_ticks": [(100 - y(tick), f"{tick:.10g}") for tick in y_ticks],
        "points": [point(result) for result in sorted(latest, key=lambda one: one.prompts)],
        "front": _stairs([(one["x"], one["y"]) for one in map(point, find_front(whole, aim))]),
        "bounds": [(100 - y(bound.value), str(bound)) for bound in bounds],
        "answer": point(tuning.answer) if tuning.answer else None,
        "sizes": _describe_sizes(most, len(tuning.tuning.prompts), any(one.prompts < most for one in latest)),
        "kinds": [{"name": kind, **_mark(place)} for place, kind in enumerate(kinds)],
    }


def _describe_sizes(most: int, all_: int, has_small: bool) -> str:
    """What the size of a point says. A budget may have ended before anything was tried on all prompts."""
    on = "all prompts for tuning" if most == all_ else f"{most} of the {all_} prompts for tuning, the most so far"
    return f"Large: on {on}, with 95 % intervals.{' Small: on fewer.' if has_small else ''}"


def kind_of(result: Result) -> str:
    """What a point is coloured by: its cache, or else its sampler, which may have the name of a cache."""
    point = result.setting.point
    return str(point.get("cache") or f"sampler {point.get('sampler', 'default')}")


def _mark(place: int) -> dict[str, int]:
    """Colour and shape of a group by its place: another shape where there are no more colours."""
    return {"colour": place % COLOURS, "shape": place // COLOURS % SHAPES}


def _find_time(result: Result, aim: Aim) -> float:
    """What a point lies at: the seconds that a limit is about, where there is one, or else the share of the time."""
    return 1 / result.speedup if aim.seconds is None else result.seconds


def _say_time(result: Result, aim: Aim) -> str:
    share = f"{100 / result.speedup:.1f} % of the time"
    return share if aim.seconds is None else f"{describe_time(result.seconds)} an image, {share}"


def _name_tick(seconds: float, ticks: Sequence[float]) -> str:
    """A tick of an axis of times, all of which have one unit."""
    return f"{seconds:.10g} s" if max(ticks) >= 1 else f"{1000 * seconds:.10g} ms"


def find_front(results: Sequence[Result], aim: Aim) -> list[Result]:
    """The results that no other beats in both time and quality, fast ones first."""
    sign = 1 if aim.shown.least else -1
    means = [sign * find_interval(result, aim.shown.metric)[0] for result in results]
    times = [_find_time(result, aim) for result in results]
    points = [Point(seconds=time, quality=mean) for time, mean in zip(times, means, strict=True)]
    front = [result for result, on_it in zip(results, find_pareto_front(points), strict=True) if on_it]
    return sorted(front, key=lambda result: _find_time(result, aim))


def _stairs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    """The lines of a front: between two settings there is none, so the faster one is what is there to have."""
    lines = []
    for (x0, y0), (x1, y1) in pairwise(points):
        lines += [(x0, y0, x1, y0), (x1, y0, x1, y1)]
    return lines


def _scale(values: Sequence[float], *, from_low: bool = False) -> tuple[Place, list[float]]:
    """Where a value lies on an axis that has room for all, in percent; and its ticks.

    Args:
        values: at least one.
        from_low: the axis begins at the lowest of them.
    """
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    first, last = low if from_low else low - 0.04 * span, high + 0.04 * span
    size = 10.0 ** floor(log10((last - first) / TICKS))
    step = next(size * times for times in (1, 2, 5, 10) if (last - first) / (size * times) <= TICKS)
    ticks = [number * step for number in range(ceil(first / step), floor(last / step) + 1)]
    return lambda value: round(100 * (value - first) / (last - first), 3), ticks
