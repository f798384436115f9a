"""What each threshold would do, without running anything: a strategy replayed on the model's calibration.

    python -m wavespeed_runner thresholds cache=fbcache [GROUP=OPTION ...] [KEY=VALUE ...]

Takes the runner's overrides. Prints every number of computed steps that the strategy can come to, from which threshold
on, and which steps they are. Loads no model. Exit status 2: nothing to replay, or a wrong configuration.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..caching.calibration.data import Calibration
    from ..caching.calibration.simulate import Prediction
    from ..config.schema import CacheConfig

ROWS = 40


def main(arguments: list[str]) -> int:
    """Exit status as the module says."""
    from ..config.error_messages import explain_config_error
    from ..process.exit_status import run_command

    return run_command(lambda: _main(arguments), explain_config_error)


def _main(arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return 0
    from ..caching.calibration.resolve import find_calibration
    from ..caching.strategies import find_threshold_key
    from ..config.arguments import parse_arguments
    from ..config.compose import compose_job, composer
    from ..planning.plan import build_plan
    from ..report.console import ASCII

    args = parse_arguments(arguments)
    with composer(args.config_dir):
        composed = compose_job(list(args.overrides), list(args.overrides))
        plan = build_plan(composed)
    cache = plan.config.cache
    if cache.name == "none":
        raise ConfigError("cache=none: which strategy? cache=fbcache, for example")
    where, calibration = find_calibration(plan.config, f"cache={cache.name}: a replay needs a calibration")
    text = table(calibration, cache, find_threshold_key(cache), where)
    encoding = sys.stdout.encoding or "ascii"
    print(text if encoding.lower().startswith("utf") else text.translate(ASCII).encode("ascii", "replace").decode())
    return 0


def table(calibration: Calibration, cache: CacheConfig, key: str, where: str) -> str:
    """A part for each guidance branch that decides."""
    from ..caching.calibration.simulate import simulate_thresholds
    from ..report.console import LEGEND

    branches: list[str] = list(calibration.model) or [""]
    if cache.guidance_branches.value == "first":
        branches = branches[:1]
    lines = [f"cache={cache.name} replayed on the calibration {where}: {calibration.steps} steps, nothing was run"]
    for branch in branches:
        title = [f"guidance branch {branch}"] if len(branches) > 1 else []
        lines += ["", *title, *_rows(list(simulate_thresholds(calibration, cache, branch)), key)]
    return "\n".join([*lines, "", LEGEND])


def _rows(found: list[tuple[float, Prediction]], key: str) -> list[str]:
    """One line for each number of computed steps, where it begins; and what holds below and above them all."""
    kept = [found[0]]
    for threshold, told in found[1:]:
        if len(told.computed) != len(kept[-1][1].computed):
            kept.append((threshold, told))
    if len(kept) > ROWS:
        step = (len(kept) - 1) / (ROWS - 1)
        kept = [kept[round(i * step)] for i in range(ROWS)]
    lines = [f"{key:>24}  computed  steps"]
    lines += [
        f"{f'above {threshold:.4g}' if threshold else '0':>24}  {len(told.computed):>8}  {told.bar}"
        for threshold, told in kept
    ]
    first, last = kept[0], kept[-1]
    if len(kept) == 1:
        return [*lines, "no threshold changes anything: the window leaves nothing to decide"]
    lines.append(
        f"{'inert' if len(first[1].computed) == first[1].steps else 'the same'} up to {kept[1][0]:.4g}; "
        f"above {last[0]:.4g} everything that may be skipped is"
    )
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
