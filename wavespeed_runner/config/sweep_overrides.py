"""What a sweep consists of: the overrides of each of its jobs, as Hydra's basic sweeper makes them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, Sweep

from ..errors import ConfigError, format_error
from .compose import compose_checked, compose_unchecked, find_key
from .fast.compose import parse_override
from .limits import refuse_too_many_jobs


def is_sweep(overrides: list[str]) -> bool:
    """True if the config itself asks for a sweep (`hydra.mode=MULTIRUN`)."""
    return "MULTIRUN" in str(compose_unchecked(overrides)["hydra"]["mode"])


def read_sweep(overrides: list[str]) -> tuple[list[str], list[list[str]], Any]:
    """Reads what a sweep consists of.

    The sweep's own config, from which Hydra takes launcher and callbacks, is checked here; its jobs are composed and
    checked one by one later.

    Returns:
        The keys that a config file sweeps over, the overrides of each job as Hydra's basic sweeper makes them, and the
        config's `points`.
    """
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    list(map(parse_override, overrides))
    typed = parser.parse_overrides(overrides)
    first = [o.input_line or "" for o in typed if not o.is_sweep_override()]
    composed = compose_checked(first, first)
    params = composed["hydra"]["sweeper"].get("params") or {}
    if any(find_key(str(key)) == "points" for key in params):
        raise ConfigError("hydra.sweeper.params.points: points stand at the top of a config, not among these")
    swept = [*parser.parse_overrides([parse_override(f"{k}={v}").input_line or "" for k, v in params.items()]), *typed]
    for override in swept:
        _check_values(override)
    points = composed.get("points")
    refuse_too_many_jobs(swept, len(points) if isinstance(points, list) else 1, composed.get("limits"))
    jobs = _list_jobs([o for o in swept if o.key_or_group != "points"])
    if not jobs:
        raise ConfigError(f"{' '.join(overrides)}: nothing to run, a range or choice holds no value")
    return [str(key) for key in params], jobs, points


def _list_jobs(overrides: list[Override]) -> list[list[str]]:
    """The overrides of each job. ConfigError: names the one whose values Hydra cannot list."""
    for override in overrides:
        try:
            BasicSweeper.split_arguments([override], None)
        except Exception as error:  # a step of zero
            raise ConfigError(f"{override.input_line}: its values cannot be listed: {format_error(error)}") from None
    jobs: list[list[str]] = BasicSweeper.split_arguments(overrides, None)[0]
    return jobs


def _check_values(override: Override) -> None:
    """Refuses a sweep whose values cannot be listed, or that lists one twice."""
    value = override.value()
    if override.key_or_group == "points" and isinstance(value, Sweep):
        raise ConfigError(f"{override.input_line}: one list is needed, points=[{{...}}, {{...}}]")
    if isinstance(value, IntervalSweep):
        raise ConfigError(f"{override.input_line}: an interval lists no values; write KEY=a,b,c or KEY=range(a,b,step)")
    if isinstance(value, ChoiceSweep) and any(isinstance(v, Sweep) for v in value.list):
        raise ConfigError(f"{override.input_line}: a sweep inside a sweep; write all values in one: KEY=a,b,c")
    if isinstance(value, ChoiceSweep):
        [(most, count)] = Counter(override.sweep_string_iterator()).most_common(1) or [("", 0)]
        if count > 1:
            drawn = override.key_or_group == "seed" and most == "-1"
            way = f"num_images_per_prompt={count} draws as many" if drawn else "measure.repeats=N times a run N times"
            raise ConfigError(f"{override.input_line}: {most} is listed twice; list each value once, {way}")
