"""What each option of a setting gives: one is taken away at a time, and those that give nothing fall out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from .aim import Aim
from .result import Result
from .settings import Cut, Point, Setting

SAME_TIME = 1.02
"""A setting without an option that takes no more than this times as long is as fast: timings vary by as much."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A setting without one of its options."""

    without: str
    """The option as it would be typed."""
    result: Result | None
    """None where a rule refuses the rest, or it could not be run."""
    refused: str = ""
    dropped: bool = False
    """The rest does as well: the option has fallen out of the answer."""


Plan = Callable[[Sequence[Point]], tuple[list[Setting], list[Cut]]]
Run = Callable[[Sequence[Setting]], list[Result | None]]


def ablate(
    best: Result, aim: Aim, plan: Plan, run: Run, rejected: Collection[str] = ()
) -> tuple[Result, list[Ablation]]:
    """Takes away each option of the best setting in turn.

    Args:
        best: on all prompts of the tuning half.
        aim: what it has to do.
        plan: plans points.
        run: runs settings on as many prompts as the best.
        rejected: identities of settings that missed the bounds on the prompts for judging: what leads to one stays.

    Returns:
        The setting without what gives nothing, and what each option gave.
    """
    rows: list[Ablation] = []
    for key in list_options(best.setting.point):
        if key not in best.setting.point:  # it went with another one
            continue
        without = f"{key}={best.setting.point[key]}"
        settings, cuts = plan([remove_option(best.setting.point, key)])
        if not settings:
            reason = cuts[0].reason if cuts else "the reference itself, or only what was typed, is left"
            rows.append(Ablation(without=without, result=None, refused=reason))
            continue
        (result,) = run(settings)
        may_drop = result is not None and result.setting.identity not in rejected
        drops = result is not None and may_drop and aim.is_met(result) and _is_as_good(result, best, aim)
        rows.append(Ablation(without=without, result=result, dropped=drops))
        if drops and result is not None:
            best = result
    return best, rows


def list_options(point: Point) -> list[str]:
    """The keys of a point, what belongs to a chosen option before the option."""
    return sorted(point, key=lambda key: (-key.count(".") - key.count("/"), key))


def remove_option(point: Point, key: str) -> Point:
    """The point without a key, and without what belongs to the option that it chooses."""
    return {name: value for name, value in point.items() if name != key and not name.startswith((f"{key}.", f"{key}/"))}


def _has_same_work(result: Result, best: Result) -> bool:
    """Whether both are plain steps, as many or fewer: then a difference in time is noise."""
    points, works = (result.setting.point, best.setting.point), (result.setting.work, best.setting.work)
    plain = all(key.partition(".")[0] in ("sampler", "steps") for point in points for key in point)
    return plain and None not in works and works[0] <= works[1]  # type: ignore[operator]


def _is_as_good(result: Result, best: Result, aim: Aim) -> bool:
    if aim.for_speed:
        return _has_same_work(result, best) or result.relative <= best.relative * SAME_TIME
    return aim.score(result) <= aim.score(best)
