"""`thresholds`: what each threshold of a strategy would compute, replayed on the model's calibration."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..process.exit_status import DONE
from .arguments import CommandParser

if TYPE_CHECKING:
    from ..caching.calibration.data import Calibration
    from ..caching.calibration.simulate import Prediction
    from ..config.schema import CacheConfig

ABOUT = """
Replays a cache strategy on the calibration of the run, without running or loading anything. Prints each number of
computed steps that the strategy can reach, the threshold from which it does, and which steps they are.
"""
ROWS = 40
"""Most rows of a table."""


def build_parser() -> CommandParser:
    """The arguments of `thresholds`."""
    parser = CommandParser("thresholds", "cache=STRATEGY [OVERRIDE ...]", ABOUT)
    parser.add_overrides()
    return parser


def main(args: Namespace) -> int:
    """Prints the table."""
    from ..caching.calibration.find import find_calibration
    from ..caching.strategies import find_threshold_key
    from ..config.compose import compose_job, composer
    from ..config.wanted import refuse_wanted
    from ..planning.plan import build_plan
    from ..report.console_text import ASCII

    with composer(args.config_dir):
        composed = refuse_wanted(compose_job(list(args.overrides), list(args.overrides)), args.overrides)
        plan = build_plan(composed)
    cache = plan.config.cache
    if cache.name == "none":
        raise ConfigError("cache=none: which strategy? cache=fbcache, for example")
    # The plan has the numbers that it took from a file that is named, and no longer the name.
    named = replace(plan.config, cache=replace(cache, calibration=composed["cache"].get("calibration")))
    where, calibration = find_calibration(named, f"cache={cache.title}: a replay needs a calibration")
    text = table(calibration, cache, find_threshold_key(cache), where)
    encoding = sys.stdout.encoding or "ascii"
    print(text if encoding.lower().startswith("utf") else text.translate(ASCII).encode("ascii", "replace").decode())
    return DONE


def table(calibration: Calibration, cache: CacheConfig, key: str, where: str) -> str:
    """The table as text, with a part for each guidance branch that decides for itself."""
    from ..caching.calibration.simulate import simulate_thresholds
    from ..report.console_text import LEGEND

    branches: list[str] = list(calibration.model) or [""]
    if cache.guidance_branches.value == "first":
        branches = branches[:1]
    lines = [f"cache={cache.title} replayed on the calibration {where}: {calibration.steps} steps, nothing was run"]
    for branch in branches:
        title = [f"guidance branch {branch}"] if len(branches) > 1 else []
        lines += ["", *title, *_rows(list(simulate_thresholds(calibration, cache, branch)), key)]
    return "\n".join([*lines, "", LEGEND])


def _rows(levels: list[tuple[float, Prediction]], key: str) -> list[str]:
    """One line for each number of computed steps, at the threshold where it begins; then what holds at the ends."""
    kept = [levels[0]]
    for threshold, outcome in levels[1:]:
        if len(outcome.computed) != len(kept[-1][1].computed):
            kept.append((threshold, outcome))
    if len(kept) > ROWS:
        step = (len(kept) - 1) / (ROWS - 1)
        kept = [kept[round(i * step)] for i in range(ROWS)]
    lines = [f"{key:>24}  computed  steps"]
    lines += [
        f"{f'above {threshold:.4g}' if threshold else '0':>24}  {len(outcome.computed):>8}  {outcome.bar}"
        for threshold, outcome in kept
    ]
    first, last = kept[0], kept[-1]
    if len(kept) == 1:
        return [*lines, "no threshold changes anything: the window leaves nothing to decide"]
    lines.append(
        f"{'inert' if len(first[1].computed) == first[1].steps else 'the same'} up to {kept[1][0]:.4g}; "
        f"above {last[0]:.4g} everything that may be skipped is"
    )
    return lines
