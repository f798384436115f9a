"""Keys of caches as ComfyUI nodes, cache-dit, MagCache and DeepCache have them, and what they are called here.

For messages alone, as `familiar_names.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .suggestions import choose_accepted, find_given

CACHE_KEYS = {
    "rdt": "residual_diff_threshold",
    "fn_compute_blocks": "signal.blocks",
    "bn_compute_blocks": "tail_blocks",
    "max_warmup_steps": "warmup_steps",
    "max_continuous_cached_steps": "max_consecutive_cache_hits",
    "max_skip_steps": "max_consecutive_cache_hits",
    "retention_ratio": "start",
    "ret_ratio": "start",
    "start_percent": "start",
    "end_percent": "end",
    "cache_interval": "interval",
    "magcache_thresh": "threshold",
    "magcache_k": "max_consecutive_cache_hits",
    "k": "max_consecutive_cache_hits",
}
"""A key of `cache` as another tool calls it -> ours."""

WAVESPEED = ("residual_diff_threshold", "start", "end", "max_consecutive_cache_hits")
"""The keys of Comfy-WaveSpeed's node, typed without `cache.`; they have the same names here."""
WAVESPEED_NOTE = (
    " (as Comfy-WaveSpeed's node has it, the rest of whose keys are in docs/coming_from.md; ParaAttention's and "
    "diffusers' is cache=fbcache, cache-dit's cache=dbcache)"
)

OWNERS = {
    **dict.fromkeys(("fn_compute_blocks", "bn_compute_blocks", "max_warmup_steps"), "dbcache"),
    "max_continuous_cached_steps": "dbcache",
    **dict.fromkeys(("max_skip_steps", "start_percent", "end_percent"), "teacache"),
    **dict.fromkeys(("retention_ratio", "ret_ratio", "magcache_thresh", "magcache_k", "k"), "magcache"),
    "cache_interval": "deepcache",
}
"""A key of `CACHE_KEYS` that is typed without `cache.` -> the option that is meant where no cache is chosen."""

POLICIES = ("slow", "medium", "fast", "ultra")
"""What cache-dit's `steps_mask` has masks for."""
TIMESTEPS = ("start_step", "end_step")
TIMESTEPS_NOTE = (
    "a window is cache.start and cache.end, from 0 to 1, with cache.window=steps, timesteps or sigmas; between "
    "timesteps 200 and 800 of 1000 it is cache.window=timesteps cache.start=0.2 cache.end=0.8, and of a number of "
    "steps cache.warmup_steps=NUMBER (docs/coming_from.md)"
)


def explain_cache_part(key: str, value: str, describe: Callable[[list[str], str], str]) -> str:
    """What has no one key of the same meaning here: a window in numbers, a mask of steps; empty for any other key.

    Args:
        key: as typed, with or without `cache.`.
        value: as typed, or a word that stands for it.
        describe: what to say of a way, and why it is refused, if it is.
    """
    name = key.removeprefix("cache.").lower()
    if name in TIMESTEPS:
        return TIMESTEPS_NOTE
    if name != "steps_mask":
        return ""
    policy = value.strip("'\"").lower()
    mask = re.sub(r"[\[\], ]", "", value) if re.fullmatch(r"\[?[01](?:, ?[01])+\]?", value) else value
    ours = [f"cache.criterion.mask={f'cache_dit_{policy}' if policy in POLICIES else mask}"]
    return describe(ours if find_given("cache") == "step_mask" else ["cache=step_mask", *ours], "")


def explain_cache_key(key: str, value: str, typed: str, describe: Callable[[list[str], str], str]) -> str:
    """How a cache's key that another tool has, typed without `cache.`, is written here; empty for any other key.

    Args:
        key: as typed.
        value: as typed, or a word that stands for it.
        typed: the override as typed; empty for a key in a file.
        describe: what to say of a way, and why it is refused, if it is.
    """
    key = key.lower()
    if key not in WAVESPEED and key not in OWNERS:
        return explain_cache_part(key, value, describe)
    own = f"cache.{CACHE_KEYS.get(key, key)}={value or 'VALUE'}"
    preset = OWNERS.get(key) or ("wavespeed" if is_flux(find_given("model")) else "wavespeed_residual")
    if not value or value == "VALUE":  # nothing to try
        return describe([f"cache={preset}", own], "")
    chosen = find_given("cache")
    if chosen not in ("", "none"):
        way, refusal = choose_accepted(typed, [[own], [f"cache={preset}", own]])
        return describe(way, refusal)
    way, refusal = choose_accepted(typed, [[f"cache={preset}", own]])
    return describe(way, refusal) + (WAVESPEED_NOTE if key in WAVESPEED else "")


def is_flux(model: str) -> bool:
    """Whether an option is FLUX.1, where the node watches the first block's output and not its residual."""
    return model.partition("_")[0] == "flux"
