"""What is lossy: the settings that change images, and that the reference therefore runs without.

This is the only place that knows. Lossy are a cache strategy, and weights kept in 8 bits. Tiled decoding is not on the
list although it changes pixels at the seams: without tiles a large image may not be decodable at all, and an image and
its reference are decoded alike.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from ..registry import lookup
from .schema import CacheConfig, MemoryConfig

LOSSY_GROUPS = ("cache",)
"""Config groups of which every option but `none` is lossy."""
LOSSY_MEMORY_KEYS = ("layerwise_casting",)
"""Keys of the group `memory` that are lossy unless they are null."""


def remove_lossy(options: Any) -> Any:
    """A copy of typed options (a stage's, or the whole config) with every lossy setting among their fields off."""
    if not is_dataclass(options) or isinstance(options, type):
        return options
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    lossless = {name: _remove_lossy_value(value) for name, value in values.items()}
    return replace(options, **{name: value for name, value in lossless.items() if value is not values[name]})


def _remove_lossy_value(value: Any) -> Any:
    if isinstance(value, CacheConfig):
        return lookup("cache", "none").options()
    if isinstance(value, MemoryConfig):
        off: dict[str, Any] = {key: None for key in LOSSY_MEMORY_KEYS if getattr(value, key, None) is not None}
        return replace(value, **off)
    return value


def remove_lossy_data(options: Any) -> Any:
    """The same for a stage's options as plain data: lossy groups are left out, lossy keys become null."""
    if not isinstance(options, dict):
        return options
    kept = {key: value for key, value in options.items() if key not in LOSSY_GROUPS}
    if isinstance(memory := kept.get("memory"), dict):
        kept["memory"] = {**memory, **dict.fromkeys(LOSSY_MEMORY_KEYS)}
    return kept


def lossy_names(config: dict[str, Any]) -> list[str]:
    """What the lossy settings of a config (plain data) are called: `fbcache`, `float8_e4m3fn weights`."""
    names = [str(config[group]["name"]) for group in LOSSY_GROUPS if is_option_on(config.get(group))]
    return [*names, *(f"{value} weights" for value in _lossy_memory_values(config))]


def is_lossy(config: dict[str, Any]) -> bool:
    """True if a config (plain data) has anything on that the reference runs without, for all stages or for one."""
    return any(is_option_on(cache) for cache in find_caches(config)) or is_lossy_beside_caches(config)


def is_lossy_beside_caches(config: dict[str, Any]) -> bool:
    """True if a config (plain data) has something lossy on that is not a cache."""
    groups = any(is_option_on(config.get(group)) for group in LOSSY_GROUPS if group != "cache")
    return groups or bool(_lossy_memory_values(config))


def find_caches(config: dict[str, Any]) -> list[Any]:
    """The options of every cache in a config (plain data): the run's, and those that single stages have."""
    stages = ((config.get("graph") or {}).get("stages") or {}).values()
    options = [stage.get("options") for stage in stages if isinstance(stage, dict)]
    return [config.get("cache"), *(given.get("cache") for given in options if isinstance(given, dict))]


def is_option_on(options: Any) -> bool:
    """True if the options of a config group (plain data) are those of another option than `none`."""
    return bool((options or {}).get("name", "none") != "none")


def _lossy_memory_values(config: dict[str, Any]) -> list[Any]:
    memory = config.get("memory") or {}
    return [memory[key] for key in LOSSY_MEMORY_KEYS if memory.get(key)]
