"""Which values of a cache strategy's main key are worth trying: replayed on the demo model's calibration."""

from __future__ import annotations

import re
from typing import Any

from ..caching.calibration.find import find_calibration
from ..caching.calibration.simulate import simulate_thresholds
from ..caching.criteria.schedule import list_scheduled_steps
from ..caching.guide import GUIDE, WINDOW_RANGES
from ..config.compose import compose_job, composer
from ..config.paths import CONF
from ..config.schema import Window
from ..planning.plan import build_plan

STEPS = 28
"""Of the demo model."""
TABLE = """\
| strategy | main key | default | allowed | worth trying on the demo model: of 28 steps | its file says | for |
|---|---|---|---|---|---|---|"""


def describe_range(option: str, strategy: str) -> str:
    """One sentence about the main key of an option of the group `cache`.

    Args:
        option: as chosen, a preset for example; an option of the user's own has the range of its strategy.
        strategy: the name of its class, which has a guide.
    """
    shipped = option if (CONF / "cache" / f"{option}.yaml").is_file() else strategy
    typed = [f"cache={shipped}", *_choose_window(shipped)]
    low, high = find_range(strategy, *typed)
    key, named = f"cache.{GUIDE[strategy].key}", " ".join([f"cache={option}", *typed[1:]])
    at = f"with {' '.join(typed[1:])}, the only window that can be replayed, " if typed[1:] else ""
    thresholds = f" (python -m wavespeed_runner thresholds {named})" if GUIDE[strategy].values is None else ""
    return (
        f"Main key: {key}, worth trying {at}from {low[0]} to {high[0]}: on the demo model, {low[1]} to {high[1]} of "
        f"{STEPS} steps are computed then{thresholds}."
    )


def _choose_window(option: str) -> list[str]:
    """What makes an option's window one of steps, the others being known only in a run."""
    with composer(None):
        window = compose_job([f"cache={option}"], [f"cache={option}"])["cache"]["window"]
    return [] if Window(window) is Window.steps else ["cache.window=steps"]


def find_range(strategy: str, *typed: str) -> tuple[tuple[str, int], tuple[str, int]]:
    """(value, steps that it computes) at both ends of what is worth trying for a strategy's main key.

    Of a threshold: from the first reused step to half of the steps. Other models have other numbers, but the order of
    strategies and the way to find them (`calibrate`, `thresholds`) is the same.

    Args:
        strategy: one that has a guide.
        typed: overrides that choose one of its presets; none: the strategy as it is shipped.
    """
    guide, typed = GUIDE[strategy], typed or (f"cache={strategy}",)
    if guide.values is None:
        plan = _plan(*typed)
        _, calibration = find_calibration(plan.config, "")
        branch = next(iter(calibration.model), "")
        levels = [
            (level, len(found.computed)) for level, found in simulate_thresholds(calibration, plan.config.cache, branch)
        ]
        reused = [pair for pair in levels if pair[1] < STEPS]
        half = [pair for pair in reused if pair[1] >= STEPS / 2] or reused[:1]
        return (f"{half[0][0]:.2g}", half[0][1]), (f"{half[-1][0]:.2g}", half[-1][1])
    ends = [(str(value), _count_scheduled(strategy, guide.key, value, typed)) for value in guide.values]
    return ends[0], ends[1]


def _count_scheduled(strategy: str, key: str, value: int, typed: tuple[str, ...]) -> int:
    if key == "computed":
        return value
    cache = _plan(
        *typed, f"cache.{key}={value}", *(["model=demo_unet"] if strategy == "deepcache" else [])
    ).config.cache
    return len(list_scheduled_steps(cache.criterion, STEPS, cache) or [])


def _plan(*overrides: str) -> Any:
    with composer(None):
        return build_plan(compose_job(list(overrides), list(overrides)))


def describe_strategies() -> str:
    """The table of docs/caching.md, as Markdown."""
    lines = [TABLE]
    for name, guide in GUIDE.items():
        low, high = find_range(name)
        default, note = _read_default(name, guide.key)
        lines.append(
            f"| `{name}` | `cache.{guide.key}` | {default} | {WINDOW_RANGES[guide.key]} | {low[0]} to {high[0]}: "
            f"{low[1]} to {high[1]} | {note} | {guide.purpose} |"
        )
    return "\n".join(lines)


def _read_default(strategy: str, key: str) -> tuple[str, str]:
    """A key's value in the shipped option, and the comment beside it."""
    text = (CONF / "cache" / f"{strategy}.yaml").read_text(encoding="utf-8")
    match = re.search(rf"^{key}: (\S+)(?: +# (.*))?$", text, re.MULTILINE)
    return (match[1], match[2] or "") if match else ("", "")
