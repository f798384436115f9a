"""Fills in the numbers that a strategy needs and its YAML leaves open: published ones, or those of a calibration.

The order: what the YAML gives; a calibration file that it names; what is published for the weights; a calibration of
this very run, the user's own (`<outputs>/calibrations/`) before the shipped ones. Nothing is borrowed from another
model, sampler, step count or size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...config.paths import PACKAGE
from ...config.schema import CacheConfig, Config, Init
from ...errors import ConfigError, Unfit
from ...models.family import Blocks, Family
from ..criteria import published
from ..predictors.fitted import find_best_schedule
from ..window import count_head_blocks
from .data import Calibration, Key, build_key, compare_keys, format_key, model_of
from .file import load, load_key

SHIPPED = PACKAGE / "calibrations"
OPEN = {
    ("criterion", "accumulated_polynomial"): "coefficients",
    ("criterion", "magnitude_ratio"): "ratios",
    ("criterion", "planned"): "schedule",
    ("predictor", "fitted"): "gram",
}
"""Part of a strategy, by group and name -> its key that is filled in where it is null."""
COMMAND = "python -m wavespeed_runner calibrate with this run's overrides, those of cache left out, makes one"


@dataclass(frozen=True, kw_only=True)
class ResolvedKey:
    """One key that was filled in: for the plan's list of what was set automatically."""

    key: str
    value: str
    why: str


Values = dict[str, Any]
Found = tuple[Values, str]
"""Values for a part's keys, and where they are from."""


def resolve_cache_numbers(config: Config, family: Family) -> tuple[Config, list[ResolvedKey]]:
    """The config with nothing left open, and what was filled in.

    Raises:
        Unfit: there are no such numbers for this run; a calibration does not fit it, or could not take effect;
            or a config that was filled for one run was changed to another.
    """
    cache = config.cache
    if cache.calibrated_for is not None:
        _refuse_another_run(config)
    left_open = list_open_keys(cache)
    if not left_open:
        if cache.calibration is not None:
            raise Unfit(
                f"cache.calibration={cache.calibration}: cache={cache.name} leaves nothing open that a calibration "
                "could fill, so it could not take effect; leave it out"
            )
        return config, []
    known = {group: None if cache.calibration else _published(config, family, key) for group, key in left_open}
    belongs = _published_for(config)
    if any(found is None for found in known.values()):
        first = next(f"cache.{group}.{key}=null" for group, key in left_open if known[group] is None)
        belongs = format_key(build_key(config))
        where, calibration = find_calibration(config, f"{first}: cache={cache.name} needs a calibration")
        for group, key in left_open:
            if known[group] is None:
                known[group] = (_calibrated(cache, group, key, where, calibration), f"calibration {where}")
    parts = {group: _completed(getattr(cache, group), found[0]) for group, found in known.items() if found}
    told = [
        ResolvedKey(key=f"cache.{group}.{key}", value=_short(found[0][key]), why=found[1])
        for group, key in left_open
        if (found := known[group])
    ]
    changed = replace(cache, **parts, calibration=None, calibrated_for=belongs)
    return replace(config, cache=changed), told


def _completed(part: Any, values: Values) -> Any:
    """The part with its open keys filled; what was given beside them stays."""
    return replace(part, **{key: value for key, value in values.items() if getattr(part, key) is None})


def list_open_keys(cache: CacheConfig) -> list[tuple[str, str]]:
    """(group, key) of what is left open."""
    found = []
    for (group, name), key in OPEN.items():
        part = getattr(cache, group)
        if part is not None and part.name == name and getattr(part, key) is None:
            found.append((group, key))
    return found


def _refuse_another_run(config: Config) -> None:
    cache = config.cache
    if cache.calibrated_for == _published_for(config) or cache.calibrated_for == (
        mine := format_key(build_key(config))
    ):
        return
    keys = [f"cache.{group}.{key}=null" for (group, name), key in OPEN.items() if _named(cache, group) == name]
    raise Unfit(
        f"cache.calibrated_for={cache.calibrated_for}: the strategy's numbers were filled in for that run, and this "
        f"one is {mine}; to have them looked up anew: {' '.join(keys)} cache.calibrated_for=null"
    )


def _named(cache: CacheConfig, group: str) -> str | None:
    part = getattr(cache, group)
    return part.name if part is not None else None


def _published_for(config: Config) -> str:
    variant = getattr(config.cache.signal, "variant", None)
    return f"repo={config.model.repo}" + (f" variant={variant}" if variant else "")


def starts_from_image(config: Config) -> bool:
    """Whether some stage runs part of the schedule only: published ratios are of a whole one."""
    return any(
        {"image", "latents"} & set(stage.inputs) for stage in config.graph.stages.values() if stage.stage == "denoise"
    )


def _published(config: Config, family: Family, key: str) -> Found | None:
    """What others have published for the model's weights. A rehearsal may use it: its weights are random anyway."""
    repo = config.model.repo
    note = "" if config.model.init is Init.pretrained else f"; model.init={config.model.init.value} has random weights"
    if key == "coefficients" and (
        row := _row(repo, getattr(config.cache.signal, "variant", None), _watched(config, family))
    ):
        values = {"coefficients": list(row.coefficients), "range": list(row.range)}
        return values, f"published for {repo}, {row.source}{note}"
    if key == "ratios" and not starts_from_image(config) and (ratios := published.find_ratios(repo)):
        return {"ratios": list(ratios.ratios)}, f"published for {repo}, {ratios.source}{note}"
    return None


def _row(repo: str, variant: str | None, watched: str) -> published.TeaCachePolynomial | None:
    """The polynomial of what is watched here; with no variant asked for, the plain one before the others."""
    rows = [row for row in published.load_polynomials() if repo in row.repos and variant in (None, row.variant)]
    fitting = [row for row in rows if row.watched == watched]
    if variant is not None and not fitting:
        there = sorted(
            {str(row.variant) for row in published.load_polynomials() if repo in row.repos and row.watched == watched}
        )
        raise Unfit(
            f"cache.variant={variant}: no such polynomial of the {watched.replace('_', ' ')} is published for {repo}"
            + (f" (there: {', '.join(there)})" if there else "; cache.variant=null, and a calibration")
        )
    return min(fitting, key=lambda row: row.variant is not None, default=None)


def _watched(config: Config, family: Family) -> str:
    """Which of `published.WATCHED` the signal `modulated_input` is for this family and variant."""
    if not isinstance(family.blocks, Blocks):
        return "modulated_input"
    variant = getattr(config.cache.signal, "variant", None) or ""
    name = getattr(family.blocks.variants.get(variant, family.blocks.modulated), "__name__", "")
    return name if name in published.WATCHED else "modulated_input"


def find_calibration(config: Config, needed: str) -> tuple[str, Calibration]:
    """The calibration of this run, and where it is from.

    Args:
        needed: what for, as the error begins.

    Raises:
        Unfit: there is none.
        ConfigError: a file that `cache.calibration` names cannot be read.
    """
    key = build_key(config)
    if config.cache.calibration is not None:
        path = Path(config.cache.calibration)
        if differing := compare_keys(key, load_key(path)):
            raise Unfit(f"cache.calibration={path}: it does not fit this run: {_listed(differing)}; {COMMAND}")
        return str(path), load(path)
    near: list[tuple[Path, list[tuple[str, str, str]]]] = []
    for path, theirs in _heads(config):
        differing = compare_keys(key, theirs)
        if not differing:
            return _shown(path), load(path)
        if model_of(theirs) == model_of(key):
            near.append((path, differing))
    there = "there is none for this model"
    if near:
        path, differing = min(near, key=lambda one: len(one[1]))
        there = f"the nearest there is, {_shown(path)}, does not fit: {_listed(differing)}"
    raise Unfit(f"{needed} for {format_key(key)}; {there}; {COMMAND}")


def _heads(config: Config) -> list[tuple[Path, Key]]:
    """The user's own calibrations, then the shipped ones. A file that is none of ours is nobody's business here."""
    found = []
    for folder in (Path(config.outputs) / "calibrations", SHIPPED):
        for path in sorted(folder.glob("*.yaml")):
            try:
                found.append((path, load_key(path)))
            except ConfigError:
                continue
    return found


def _shown(path: Path) -> str:
    """As a record may have it: no machine's path for what is shipped."""
    return f"{path.stem} (shipped)" if path.parent == SHIPPED else str(path)


def _listed(differing: Sequence[tuple[str, str, str]]) -> str:
    return ", ".join(f"it is for {name}={there}, this run has {wanted}" for name, there, wanted in differing)


def _calibrated(cache: CacheConfig, group: str, key: str, where: str, calibration: Calibration) -> Values:
    """One part's values from a calibration."""
    if key == "coefficients":
        if calibration.polynomial is None:
            raise Unfit(
                f"cache.{group}.{key}=null: {where} has none: no modulated input to watch, or too few steps and "
                "prompts to fit a polynomial of degree 4"
            )
        return {"coefficients": calibration.polynomial.coefficients, "range": calibration.polynomial.range}
    if key == "ratios":
        if not calibration.ratios:
            raise Unfit(f"cache.{group}.{key}=null: {where} has none")
        return {"ratios": calibration.ratios}
    gram = _gram(cache, where, calibration)
    return {"gram": gram} if key == "gram" else {"schedule": _schedule(cache, gram, calibration)}


def _gram(cache: CacheConfig, where: str, calibration: Calibration) -> list[list[float]]:
    """Of the residual that this strategy stands in for."""
    blocks = count_head_blocks(cache)
    if cache.tail_blocks or cache.depth is not None or blocks not in calibration.gram:
        there = " or ".join(map(str, sorted(calibration.gram)))
        raise Unfit(
            f"cache.signal.blocks={blocks} cache.tail_blocks={cache.tail_blocks} cache.depth={cache.depth}: {where} "
            f"knows the residual behind {there} first blocks, up to the end; tail_blocks=0 and depth=null, or "
            "cache/predictor=taylor"
        )
    return calibration.gram[blocks]


def _schedule(cache: CacheConfig, gram: list[list[float]], calibration: Calibration) -> list[int]:
    """The steps that a search has found best; without one, those that leave the fitted sum the least error."""
    criterion: Any = cache.criterion
    if criterion.computed in calibration.schedules:
        return calibration.schedules[criterion.computed]
    names = ("history", "ridge", "order") if _named(cache, "predictor") == "fitted" else ()
    own = {name: getattr(cache.predictor, name) for name in names}
    # The search takes up to two seconds, and the jobs of a sweep ask for the same.
    steps = _known_schedule(tuple(map(tuple, gram)), criterion.computed, first=criterion.first, **own)
    return [step + 1 for step in steps]


_known_schedule = lru_cache(maxsize=256)(find_best_schedule)


def _short(values: Sequence[Any]) -> str:
    """A list as the plan shows it."""
    if len(values) <= 12 and not any(isinstance(value, list) for value in values):
        return "[" + ",".join(f"{value:g}" for value in values) + "]"
    return f"[{len(values)} {'rows' if isinstance(values[0], list) else 'numbers'}]"
