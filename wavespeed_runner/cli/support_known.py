"""Writes what is known to work with each model, and where that comes from: published settings, calibrations, fits."""

from __future__ import annotations

from collections.abc import Iterable

from ..caching.calibration.find import find_calibration
from ..caching.calibration.find_published import name_watched
from ..caching.criteria.conditions import Setting
from ..caching.criteria.published import Row, load_polynomials, load_ratios, load_thresholds
from ..caching.strategies import find_threshold_key
from ..config.schema import Config
from ..errors import Unfit
from ..models.family import Family
from ..registry import find_implementation, list_names, lookup
from ..rules.published_runs import compare_runs
from .support_check import Combinations
from .support_coming_from import read_tools

HEAD = """Settings that others published for these very weights, as overrides, with what they measured on their
hardware. The overrides have the steps, size, frames, guidance and shift that the numbers are for, where the model's
option has others; the plan of a run compares it with them. Nothing of this was measured on your machine:
`python -m wavespeed_runner tune model=NAME quality="ssim>=0.97"` finds the fastest setting there, and fewer steps of a
better solver (`sampler=unipc steps=...`) are among what it tries. Times in which others ran more than a cache, such as
FP8 and compilation: `support --published`.
"""


def describe_known(options: Combinations) -> str:
    """The table, and a line for each model with calibrations."""
    lines = ["| model | setting | published | source |", "|---|---|---|---|"]
    for model in options.models:
        lines += _list_published(model, options.config(model))
    table = lines if len(lines) > 2 else ["None is published for these."]
    return "\n".join([HEAD, *table, "", *_list_tools(options), *_list_shipped(options)]).rstrip()


def _list_published(model: str, config: Config) -> list[str]:
    repo, family = config.model.repo, find_implementation("model", config.model)
    # A polynomial of what is not watched in this model here cannot be used.
    polynomials = (row for row in load_polynomials() if row.watched == name_watched(family, row.variant))
    found: list[tuple[Row, str, str]] = [
        *((row, "teacache", "cache.rel_l1_thresh") for row in polynomials),
        *((row, "magcache", "cache.threshold") for row in load_ratios()),
        *(
            (row, row.strategy, find_threshold_key(lookup("cache", row.strategy).options()))
            for row in load_thresholds()
        ),
    ]
    return [
        f"| `{model}` | `{_write(row, strategy, key, setting)}{_write_run(row, config, family)}` "
        f"| {setting.expectation or 'recommended'}{f'; with {setting.differs}' if setting.differs else ''} "
        f"| <{setting.source or row.source}> |"
        for row, strategy, key in found
        if repo in row.repos and row.made_for.weights is None
        for setting in row.settings
    ]


def _write_run(row: Row, config: Config, family: Family) -> str:
    """What the runs that a row comes from have otherwise than the model's option: ` steps=40`."""
    shift = "model.shift" if hasattr(config.model, "shift") else "sampler.shift"
    typed = {key: key for key in ("steps", "width", "height", "num_frames", "guidance_scale", "sampler")}
    typed |= {"sampler.shift": shift, "model.cfg_trunc_ratio": "model.cfg_trunc_ratio"}
    compared = compare_runs(row, config, family)
    others = ((key, there) for key, there, here in compared if key in typed and there != here)
    samplers = list_names("sampler")
    return "".join(f" {typed[key]}={there}" for key, there in others if key != "sampler" or there in samplers)


def _write(row: Row, strategy: str, key: str, setting: Setting) -> str:
    """The setting as overrides of a run with `cache=STRATEGY`."""
    variant = getattr(row, "variant", None)
    parts = [f"cache={strategy}", f"{key}={setting.threshold:g}"]
    parts += [f"cache.variant={variant}"] if variant else []
    parts += [f"cache.start={setting.start:g}"] if setting.start else []
    is_preset = strategy == "magcache" and setting.start_rounding == "nearest"
    parts += (
        [f"cache.start_rounding={setting.start_rounding}"] if setting.start_rounding != "up" and not is_preset else []
    )
    parts += [f"cache.end={setting.end:g}"] if setting.end < 1 else []
    parts += ["cache.include_end=true"] if setting.include_end else []
    parts += [f"cache.warmup_steps={setting.warmup_steps}"] if setting.warmup_steps else []
    parts += [f"cache.max_consecutive_cache_hits={setting.hits}"] if setting.hits > 0 else []
    parts += ["cache.force_last_step=false"] if strategy == "teacache" and not setting.force_last_step else []
    always = ",".join(map(str, setting.always_computed))
    parts += [f"cache.criterion.always_computed=[{always}]"] if always else []
    parts += ["cache.criterion.outside_window=true"] if setting.outside_window else []
    parts += [f"cache.criterion.clamp={setting.clamp}"] if setting.clamp else []
    return " ".join(parts)


def _list_tools(options: Combinations) -> list[str]:
    """The tools of which a setting of the model stands in `docs/coming_from.md`."""
    found: dict[str, list[str]] = {}
    for tool in read_tools():
        for word in {row["ours"].partition(" ")[0] for row in tool["rows"]}:
            found.setdefault(word.removeprefix("model="), []).append(tool["tool"])
    return [
        f"- `{model}` as it is set in {', '.join(found[model])}: `support --coming-from`, docs/coming_from.md."
        for model in options.models
        if model in found
    ]


def _list_shipped(options: Combinations) -> list[str]:
    """What a calibration of the model, shipped or the user's own, allows for."""
    lines = []
    for model in options.models:
        try:
            where, found = find_calibration(options.config(model, graph=options.find_graph(model)), "")
        except Unfit:
            continue
        parts = ["`cache=planned`, `cache=teacache`, `cache=magcache`"]
        parts += [f"`sampler=fitted` with {_join(found.samplers)} steps"] if found.samplers else []
        parts += [f"`cache=fitted` with {_join(found.caches)} computed steps"] if found.caches else []
        lines.append(f"- `{model}` has a calibration ({where}): {'; '.join(parts)}.")
    return lines


def _join(counts: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(counts)))
