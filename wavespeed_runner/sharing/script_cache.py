"""The part of a script for diffusers that attaches a cache, where diffusers' own hooks do the same thing."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from ..caching.attach.diffusers_hooks import select_options
from ..caching.attach.diffusers_options import DiffusersHookOptions, FasterCache
from ..caching.strategies import FirstBlockCache, MagCache
from ..caching.window import count_first_steps
from ..config.compose import compose_job, composer
from ..config.resolve import resolve_config
from ..config.schema import CacheConfig
from ..models.family import uses_cfg
from .script import Script, format_call, to_code

SAME = ("flux",)
"""Families whose decisions and latents were compared with diffusers' own, tests/caching/test_against_diffusers.py."""
FIRST_TIMESTEP = 1000
"""Of pure noise: diffusers' hooks have nothing cached there yet."""


def add_cache(script: Script) -> None:
    """Attaches the cache to the denoiser, or says why diffusers has none that is the same."""
    cache = script.config.cache
    if cache.name == "none":
        return
    call = _find_same(script, cache) if script.config.model.name in SAME else []
    if not call:
        script.refused.append(f"cache={cache.title}: diffusers has no cache that is the same thing with these options")
        return
    script.lines += ["cache = " + call[0], *call[1:], f"pipe.{script.family.denoiser}.enable_cache(cache)"]


def _find_same(script: Script, cache: CacheConfig) -> list[str]:
    """The configuration of diffusers that does the same, as lines of code; none if there is none."""
    if isinstance(cache, DiffusersHookOptions):
        return _format_hooks(script, cache)
    if type(cache) is FirstBlockCache:
        threshold = cache.residual_diff_threshold
        same = _compose("fbcache", f"cache.residual_diff_threshold={threshold}")
        return _format(script, "FirstBlockCacheConfig", {"threshold": threshold}) if _is_same(cache, same) else []
    if type(cache) is MagCache:
        criterion: Any = cache.criterion
        steps, limit = script.config.steps or 1, cache.max_consecutive_cache_hits
        rounding = cache.start_rounding
        window = (f"cache.start={cache.start}", f"cache.start_rounding={rounding.value}")
        hits = f"cache.max_consecutive_cache_hits={limit}"
        same = _compose("magcache", f"cache.threshold={cache.threshold}", *window, hits)
        same.criterion = replace(same.criterion, ratios=criterion.ratios)  # type: ignore[type-var]
        if limit < 0 or not _is_same(cache, same):
            return []
        options = {"threshold": cache.threshold, "max_skip_steps": limit, "num_inference_steps": steps}
        retained = count_first_steps(cache.start, rounding, steps)
        options |= {"retention_ratio": retained / steps, "mag_ratios": criterion.ratios}
        return _format(script, "MagCacheConfig", options)
    return []


def _format_hooks(script: Script, cache: DiffusersHookOptions) -> list[str]:
    """FasterCache and PAB are diffusers' own; the timestep comes from the pipeline."""
    ranges = [getattr(cache, each.name) for each in fields(cache) if each.name.endswith("_timestep_skip_range")]
    guided = uses_cfg(script.config.model, script.config.guidance_scale, off=script.family.unguided_scale)
    if guided or any(high > FIRST_TIMESTEP for _, high in ranges):
        return []
    code = to_code(select_options(cache)) | {"current_timestep_callback": "lambda: pipe.current_timestep"}
    if not isinstance(cache, FasterCache):
        return format_call(script.use("PyramidAttentionBroadcastConfig"), **code)
    code |= {"attention_weight_callback": f"lambda module: {cache.attention_weight!r}", "is_guidance_distilled": "True"}
    return format_call(script.use("FasterCacheConfig"), **code)


def _format(script: Script, name: str, options: dict[str, Any]) -> list[str]:
    return format_call(script.use(name), **to_code(options))


def _compose(option: str, *overrides: str) -> CacheConfig:
    """A shipped cache option with these changes."""
    given = ["model=demo", f"cache={option}", *overrides]
    with composer(None):
        return resolve_config(compose_job(given, given)).cache


def _is_same(cache: CacheConfig, other: CacheConfig) -> bool:
    """Whether two strategies compute the same: their names and the runs that their numbers are from do not count."""
    plain = {"chosen_as": None, "calibration": None, "calibrated_for": None}
    return replace(cache, **plain) == replace(other, **plain)  # type: ignore[arg-type]
