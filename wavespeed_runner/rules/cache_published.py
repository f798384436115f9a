"""Rules on published numbers: does this run do what they were published for, and what is to be expected of it?"""

from __future__ import annotations

from collections.abc import Iterator

from ..caching.criteria import published
from ..caching.criteria.conditions import Setting
from ..caching.criteria.magnitude_ratio import MagnitudeRatio
from ..caching.criteria.step_lists import Steps
from ..caching.criteria.thresholds import AccumulatedPolynomial, Clamp
from ..caching.strategies import find_threshold_key
from ..caching.window import count_first_steps
from ..config.schema import Config, Init, Rounding, Window
from ..models.family import Family
from ..registry import find_implementation, list_names
from .cache import get_name, has_all_parts
from .cache_calls import count_calls_by_stage
from .published_runs import compare_runs, format_value
from .rule import Rule


def find_row(c: Config) -> published.Row | None:
    """The published row whose numbers the cache strategy has, or whose threshold is meant for it; None: there is none.

    Numbers are told by their values, so that also a resolved config that is run again is recognized.
    """
    if not has_all_parts(c) or c.model.init is not Init.pretrained:
        return None  # of random weights the list of automatic changes speaks
    criterion, repo = c.cache.criterion, c.model.repo
    rows: Iterator[published.Row] = iter(())
    if isinstance(criterion, AccumulatedPolynomial):
        coefficients = tuple(criterion.coefficients or ())
        rows = (row for row in published.load_polynomials() if row.coefficients == coefficients and repo in row.repos)
    elif isinstance(criterion, MagnitudeRatio):
        ratios = tuple(criterion.ratios or ())
        rows = (row for row in published.load_ratios() if row.ratios == ratios and repo in row.repos)
    elif isinstance(criterion, Steps):
        rows = (row for row in published.load_masks().values() if row.name == criterion.mask and row.repos)
    else:
        fitting = (row for row in published.load_thresholds() if row.strategy == c.cache.name and repo in row.repos)
        # A threshold belongs to what is watched: that of another of our signals is none of this run's.
        others = {*list_names("cache/signal")} - {get_name(c.cache.signal)}
        rows = (row for row in fitting if row.made_for.signal not in others)
    return next(rows, None)


def list_differences(c: Config, f: Family) -> list[str]:
    """Where a run of the same weights differs from what its published numbers are for: `steps=50 (here 30)`."""
    row = find_row(c)
    if row is None or c.model.repo not in row.repos:
        return []
    differences = [f"{key}={there} (here {here})" for key, there, here in compare_runs(row, c, f) if there != here]
    nearest = find_nearest(row, c)
    if nearest and (keys := _list_other_keys(nearest, c)):
        differences.append(_describe_setting(nearest, c, keys))
    if nearest and nearest.differs:
        differences.append(nearest.differs)
    return differences


def find_nearest(row: published.Row, c: Config) -> Setting | None:
    """The published setting that the run's comes closest to: by its threshold, then by the number of other keys."""
    threshold = getattr(c.cache.criterion, "threshold", None)
    if threshold is None:
        return None
    return min(
        row.settings,
        key=lambda setting: (abs(setting.threshold - threshold), len(_list_other_keys(setting, c))),
        default=None,
    )


def _list_other_keys(setting: Setting, c: Config) -> dict[str, tuple[object, object]]:
    """Key -> (published value, value of this run), where they differ."""
    pairs: dict[str, tuple[object, object]] = {
        find_threshold_key(c.cache): (setting.threshold, getattr(c.cache.criterion, "threshold", None)),
        "cache.start": (setting.start, c.cache.start),
        "cache.start_rounding": (setting.start_rounding, c.cache.start_rounding.value),
        "cache.end": (setting.end, c.cache.end),
        "cache.include_end": (setting.include_end, c.cache.include_end),
        "cache.window": (Window.steps.value, c.cache.window.value),
        "cache.warmup_steps": (max(setting.warmup_steps, 1), max(c.cache.warmup_steps, 1)),
        "cache.force_last_step": (setting.force_last_step, c.cache.force_last_step),
        "cache.max_consecutive_cache_hits": (setting.hits, c.cache.max_consecutive_cache_hits),
        **{
            f"cache.criterion.{key}": (there, getattr(c.cache.criterion, key, there))
            for key, there in (
                ("always_computed", list(setting.always_computed)),
                ("outside_window", setting.outside_window),
            )
        },
        "cache.criterion.clamp": _compare_clamps(setting, c),
    }
    idle = _list_idle_keys(setting, c)
    return {key: (there, here) for key, (there, here) in pairs.items() if there != here and key not in idle}


def _list_idle_keys(setting: Setting, c: Config) -> list[str]:
    """Keys that change nothing in either window: nothing is rounded, it has no end, or no step outside."""
    both, calls = (setting, c.cache), count_calls_by_stage(c, find_implementation("model", c.model))
    there, here = Rounding(setting.start_rounding), c.cache.start_rounding
    is_rounded = any(
        count_first_steps(setting.start, there, steps) != count_first_steps(setting.start, here, steps)
        for steps in calls
    )
    idle = [] if is_rounded else ["cache.start_rounding"]
    if any(one.end < 1 for one in both):
        return idle
    is_whole = all(one.start == 0 and one.warmup_steps <= 1 for one in both)
    return [*idle, "cache.include_end", *(["cache.criterion.outside_window"] if is_whole else [])]


def _compare_clamps(setting: Setting, c: Config) -> tuple[str, str]:
    """Both. `range` is ours alone and acts only where no polynomial was fitted: no run is held against it."""
    there, here = setting.clamp or Clamp.none.value, getattr(c.cache.criterion, "clamp", Clamp.range)
    return there, there if here is Clamp.range else here.value


def _describe_setting(setting: Setting, c: Config, keys: dict[str, tuple[object, object]]) -> str:
    """`cache.threshold=0.24 cache.start=0.1 (here 0.06, 0.2; there 2.8x)`."""
    there = " ".join(f"{key}={format_value(value)}" for key, (value, _) in keys.items())
    here = ", ".join(format_value(value) for _, value in keys.values())
    expected = f"; there {setting.expectation}" if setting.expectation else ""
    return f"{there} (here {here}{expected})"


def _describe_expectation(c: Config) -> str:
    """What the source says that comes out: `in URL, which measured 2.8x (...)`."""
    row = find_row(c)
    setting = find_nearest(row, c) if row else None
    found = setting.expectation if setting else getattr(row, "measured", "")
    return f"in {_find_source(c)}, " + (f"which measured {found}" if found else "which gives no figures")


def _find_source(c: Config) -> str:
    """Where the nearest published setting is found."""
    row = find_row(c)
    setting = find_nearest(row, c) if row else None
    return (setting.source if setting else "") or (row.source if row else "")


def _has_other_weights(c: Config) -> bool:
    """Whether a list of steps is used that was found for other weights. Other numbers are not filled in for those."""
    row = find_row(c)
    return row is not None and c.model.repo not in row.repos


def _get_repo_of_list(c: Config) -> str:
    row = find_row(c)
    return row.repos[0] if row else ""


def _suggest_lists(c: Config) -> str:
    """The lists that were found for these weights, and how to have one of one's own."""
    own = [row.name for row in published.load_masks().values() if c.model.repo in row.repos]
    lists = f"cache.criterion.mask={', '.join(own)} of {c.model.repo}; or " if own else ""
    own_run = (
        "python -m wavespeed_runner calibrate with this run's overrides, without those of cache, then cache=planned"
    )
    return lists + own_run


def _suggest_own(c: Config) -> str:
    """How to have numbers of this very run."""
    if isinstance(c.cache.criterion, Steps):
        then = "cache=planned"
    elif isinstance(c.cache.criterion, AccumulatedPolynomial | MagnitudeRatio):
        then = "cache.calibration=FILE, and `thresholds` with it"
    else:
        then = "`thresholds`"
    return (
        "the published values; or values of this run: python -m wavespeed_runner calibrate with its overrides, without "
        f"those of cache, then {then}"
    )


PUBLISHED: tuple[Rule, ...] = (
    Rule(
        id="published-weights",
        verdict="unverified",
        when=lambda c, f: _has_other_weights(c),
        message=lambda c, f: (
            f"cache.criterion.mask={getattr(c.cache.criterion, 'mask', None)}: steps that were found for "
            f"{_get_repo_of_list(c)}; other weights may need others ({_find_source(c)})"
        ),
        fix=lambda c, f: _suggest_lists(c),
        source="wavespeed_runner/caching/criteria/tables",
    ),
    Rule(
        id="published-differs",
        verdict="unverified",
        when=lambda c, f: bool(list_differences(c, f)),
        message=lambda c, f: (
            f"cache={c.cache.title}: published for {', '.join(list_differences(c, f))}; speed and quality may be "
            f"others here ({_find_source(c)})"
        ),
        fix=lambda c, f: _suggest_own(c),
        source="wavespeed_runner/caching/criteria/tables",
    ),
    Rule(
        id="published-same",
        verdict="good",
        when=lambda c, f: find_row(c) is not None and not _has_other_weights(c) and not list_differences(c, f),
        message=lambda c, f: f"cache={c.cache.title}: as published {_describe_expectation(c)}",
        source="wavespeed_runner/caching/criteria/tables",
    ),
)
