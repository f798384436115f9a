"""Keys of caches as ComfyUI nodes, cache-dit, MagCache and DeepCache have them, and what they are called here.

For messages alone, as `familiar_names.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .familiar_options import OFF
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
    "deepcache_interval": "interval",
    "cache_branch_id": "depth",
    "disable_cache_before_step": "warmup_steps",
    "max_order": "predictor.order",
    "taylorseer_order": "predictor.order",
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
    **dict.fromkeys(("max_continuous_cached_steps", "taylorseer_order"), "dbcache"),
    "rdt": "fbcache",
    **dict.fromkeys(("disable_cache_before_step", "max_order"), "taylorseer"),
    **dict.fromkeys(("max_skip_steps", "start_percent", "end_percent"), "teacache"),
    **dict.fromkeys(("retention_ratio", "ret_ratio", "magcache_thresh", "magcache_k", "k"), "magcache"),
    **dict.fromkeys(("cache_interval", "deepcache_interval", "cache_branch_id"), "deepcache"),
}
"""A key of `CACHE_KEYS` that is typed without `cache.` -> the option that is meant where no cache is chosen."""

NODE_KEYS = ("start_percent", "end_percent")
NODE_NOTE = (
    " (ComfyUI-TeaCache's node as a whole also needs cache.include_end, cache.criterion.outside_window, "
    "cache.criterion.clamp and cache.force_last_step=false: docs/coming_from.md)"
)

MASKS = ("steps_mask", "mask_policy", "scm_steps_mask_policy")
POLICIES = ("slow", "medium", "fast", "ultra")
"""What cache-dit's `steps_mask` has masks for."""
TIMESTEPS = ("start_step", "end_step")
TIMESTEPS_NOTE = (
    "a window is cache.start and cache.end, from 0 to 1, with cache.window=steps, timesteps or sigmas; between "
    "timesteps 200 and 800 of 1000 it is cache.window=timesteps cache.start=0.2 cache.end=0.8, and of a number of "
    "steps cache.warmup_steps=NUMBER (docs/coming_from.md)"
)
RET_STEPS = ("variant=ret_steps", "warmup_steps=5", "force_last_step=false", "criterion.clamp=none")
"""What `use_ret_steps` of TeaCache's script for Wan sets, as keys of `cache`."""

NUMBER = re.compile(r"\d+(\.\d+)?")
"""An end of a window that can be read: no word, and not below 0."""

Describe = Callable[[list[str], str], str]
"""(overrides, why they are refused or empty) -> what is said of them."""


def explain_cache_part(key: str, value: str, typed: str, describe: Describe) -> str:
    """What has no one key of the same meaning here: a window in numbers, a mask of steps; empty for any other key.

    Args:
        key: as typed, with or without `cache.`.
        value: as typed, or a word that stands for it.
        typed: the override as typed; empty for a key in a file.
        describe: what to say of a way, and why it is refused, if it is.
    """
    name, off = key.removeprefix("cache.").lower(), value.lower() in OFF
    if name in TIMESTEPS:
        return TIMESTEPS_NOTE
    if name in MASKS:
        return describe(_choose_cache("step_mask", [f"cache.criterion.mask={_name_mask(value)}"]), "")
    if name == "use_ret_steps":
        if off:
            return "leave it out: cache=teacache is without them"
        keys = [f"cache.{key}" for key in RET_STEPS]
        way, refusal = choose_accepted(typed, [_choose_cache("teacache", keys)])
        return describe(way, refusal) + ("" if refusal else " (docs/coming_from.md)")
    if name == "enable_taylorseer":
        own = f"cache/predictor={'reuse' if off else 'taylor'}"
        chosen = find_given("cache") not in ("", "none")
        if off and not chosen and not find_given("experiment") and not find_given("from"):
            return "leave it out: no cache is chosen, so nothing is predicted"
        return describe(*choose_accepted(typed, [[own] if chosen else ["cache=dbcache", own]]))
    return ""


def _choose_cache(preset: str, keys: list[str]) -> list[str]:
    """Keys of a cache option, and before them the option where it is not the chosen one."""
    return keys if find_given("cache") == preset else [f"cache={preset}", *keys]


def _name_mask(value: str) -> str:
    """cache-dit's mask as `cache.criterion.mask` has it: a policy by its name, a list as ones and zeros."""
    policy = value.strip("'\"").lower()
    mask = re.sub(r"[\[\], ]", "", value) if re.fullmatch(r"\[?[01](?:, ?[01])+\]?", value) else value
    return f"cache_dit_{policy}" if policy in POLICIES else mask


def explain_cache_key(key: str, value: str, typed: str, describe: Describe) -> str:
    """How a cache's key that another tool has, typed without `cache.`, is written here; empty for any other key.

    Args:
        key: as typed.
        value: as typed, or a word that stands for it.
        typed: the override as typed; empty for a key in a file.
        describe: what to say of a way, and why it is refused, if it is.
    """
    key = key.lower()
    if key not in WAVESPEED and key not in OWNERS:
        return explain_cache_part(key, value, typed, describe)
    own, note = _write_key(key, CACHE_KEYS.get(key, key), value or "VALUE")
    preset = OWNERS.get(key) or ("wavespeed" if is_flux(find_given("model")) else "wavespeed_residual")
    if not value or value == "VALUE":  # nothing to try
        return describe([f"cache={preset}", own], "")
    chosen = find_given("cache")
    if chosen not in ("", "none"):
        way, refusal = choose_accepted(typed, [[own], [f"cache={preset}", own]])
        return describe(way, refusal) + note
    way, refusal = choose_accepted(typed, [[f"cache={preset}", own]])
    return describe(way, refusal) + note + (WAVESPEED_NOTE if key in WAVESPEED else "")


def explain_renamed(group: str, key: str, renamed: str, value: str) -> str:
    """How a key that stands in its group, and has another name in another tool, is written here.

    Args:
        group: such as `cache`.
        key: as typed, without the group.
        renamed: what it is called here.
        value: as typed, or a word that stands for it.
    """
    own, note = _write_key(key.lower(), renamed, value) if group == "cache" else (f"{group}.{renamed}={value}", "")
    return f"here it is {own}{note}"


def _write_key(key: str, ours: str, value: str) -> tuple[str, str]:
    """A key of `cache` with its value, and what is to be said of it: of the end of a window, a part of 1."""
    if ours not in ("start", "end"):
        return f"cache.{ours}={value}", ""
    part, of = _read_part(ours, value)
    cache = find_given("cache")
    note = NODE_NOTE if key in NODE_KEYS and cache in ("", "none", "teacache") else ""
    return f"cache.{ours}={part}", (f" ({of} as a part of 1)" if of else "") + note


def _read_part(ours: str, value: str) -> tuple[str, str]:
    """The end of a window as a part of 1, and what it was read as, beside the other end if that was typed.

    Args:
        ours: `start` or `end`.
        value: of it, as typed.
    """
    if not NUMBER.fullmatch(value):
        return value, ""
    ends = {"start": 0.0, "end": 1.0}
    for word, end in (*CACHE_KEYS.items(), *((end, end) for end in ends)):
        for typed in (find_given(word), find_given(f"cache.{word}")):
            if end in ends and NUMBER.fullmatch(typed):
                ends[end] = float(typed)
    *window, whole = read_window(**ends | {ours: float(value)})
    part = dict(zip(ends, window, strict=True))[ours]
    if part == float(value):
        return value, ""
    return f"{part:g}", f"{value} {'percent' if whole == 100 else f'of {whole}'}"


def read_window(start: float, end: float) -> tuple[float, float, int]:
    """Reads the ends of a window as fractions: those of percent, or above 100 of thousandths, that they mean.

    Args:
        start: as typed; 0 where it was not.
        end: as typed; 1 where it was not.

    Returns:
        Both as parts of 1, and what they were parts of: 100, 1000, or 1 where they are left as they are.
    """
    most = max(start, end)
    if not 1 < most <= 1000:
        return start, end, 1
    whole = 100 if most <= 100 else 1000
    # Beside a number above 1, a start below 1 is a fraction already, and an end of 1 the default.
    return start / whole if start >= 1 else start, end / whole if end > 1 else end, whole


def is_flux(model: str) -> bool:
    """Whether an option is FLUX.1, where the node watches the first block's output and not its residual."""
    return model.partition("_")[0] == "flux"
