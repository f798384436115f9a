"""What is lossy: the settings that change images, and that the reference therefore runs without.

This is the only place that knows. Lossy are a cache strategy, quantization, weights kept in 8 bits, and whatever
computes with other kernels than the model's own or adds up in another order: compilation, attention backends, several
ranks, the switches of `accelerate`. The last ones often change no more than the last bits, but only a comparison with
the model's own kernels shows whether that is so.
Tiled decoding is not on the list although it changes pixels at the seams: without tiles a large image may not be
decodable at all, and an image and its reference are decoded alike.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from ..registry import lookup
from .schema import (
    AccelerateConfig,
    AttentionConfig,
    CacheConfig,
    CompileConfig,
    MemoryConfig,
    ParallelConfig,
    QuantConfig,
)

LOSSY_GROUPS = ("cache", "quant", "attention", "compile", "parallel")
"""Config groups of which every option but `none` is lossy."""
LOSSY_SWITCHES = "accelerate"
"""The config group of which every key that is not at its default is lossy."""
LOSSY_MEMORY_KEYS = ("layerwise_casting",)
"""Keys of the group `memory` that are lossy unless they are null."""


_LOSSY_TYPES = {
    "cache": CacheConfig,
    "quant": QuantConfig,
    "attention": AttentionConfig,
    "compile": CompileConfig,
    "parallel": ParallelConfig,
}


def remove_lossy(options: Any) -> Any:
    """A copy of typed options (a stage's, or the whole config) with every lossy setting among their fields off."""
    if not is_dataclass(options) or isinstance(options, type):
        return options
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    lossless = {name: _remove_lossy_value(value) for name, value in values.items()}
    return replace(options, **{name: value for name, value in lossless.items() if value is not values[name]})


def _remove_lossy_value(value: Any) -> Any:
    for group, type_ in _LOSSY_TYPES.items():
        if isinstance(value, type_):
            return lookup(group, "none").options()
    if isinstance(value, AccelerateConfig):
        return type(value)()
    if isinstance(value, MemoryConfig):
        off: dict[str, Any] = {key: None for key in LOSSY_MEMORY_KEYS if getattr(value, key, None) is not None}
        return replace(value, **off)
    return value


def remove_lossy_data(options: Any) -> Any:
    """The same for a stage's options as plain data: lossy groups are left out, lossy keys become null."""
    if not isinstance(options, dict):
        return options
    kept = {key: value for key, value in options.items() if key not in (*LOSSY_GROUPS, LOSSY_SWITCHES)}
    if isinstance(memory := kept.get("memory"), dict):
        kept["memory"] = {**memory, **dict.fromkeys(LOSSY_MEMORY_KEYS)}
    return kept


def lossy_names(config: dict[str, Any]) -> list[str]:
    """What the lossy settings of a config (plain data) are called: `fbcache`, `compile regional`, `flash attention`."""
    names = [_name_option(group, config[group]) for group in LOSSY_GROUPS if is_option_on(config.get(group))]
    return [*names, *_switches_on(config), *(f"{value} weights" for value in _lossy_memory_values(config))]


def list_lossy(config: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(key, what the reference has, what a config has) of every lossy setting of a config (plain data)."""
    groups = [
        (group, "none", _name_option(group, config[group]).removeprefix("compile ").removesuffix(" attention"))
        for group in LOSSY_GROUPS
        if is_option_on(config.get(group))
    ]
    off = lookup(LOSSY_SWITCHES, "settings").options()
    switches = [(key, getattr(off, key), config[LOSSY_SWITCHES][key]) for key in _switches_on(config)]
    memory = [(key, None, config["memory"][key]) for key in LOSSY_MEMORY_KEYS if (config.get("memory") or {}).get(key)]
    return [
        *groups,
        *((f"{LOSSY_SWITCHES}.{key}", _to_yaml(lossless), _to_yaml(given)) for key, lossless, given in switches),
        *((f"memory.{key}", _to_yaml(lossless), _to_yaml(given)) for key, lossless, given in memory),
    ]


def _to_yaml(value: Any) -> str:
    """A value as people write it in a config."""
    return {True: "true", False: "false", None: "null"}.get(value, str(value))


def _name_option(group: str, options: dict[str, Any]) -> str:
    if group == "compile":
        words = ["regional"] if options.get("regional") else []
        words += [str(options["mode"])] if options.get("mode", "default") != "default" else []
        return " ".join(["compile", *words])
    return f"{options['name']} attention" if group == "attention" else str(options.get("chosen_as") or options["name"])


def is_lossy(config: dict[str, Any]) -> bool:
    """True if a config (plain data) has anything on that the reference runs without, for all stages or for one."""
    return any(is_option_on(cache) for cache in find_caches(config)) or is_lossy_beside_caches(config)


def is_lossy_beside_caches(config: dict[str, Any]) -> bool:
    """True if a config (plain data) has something lossy on that is not a cache."""
    groups = any(is_option_on(config.get(group)) for group in LOSSY_GROUPS if group != "cache")
    return groups or bool(_lossy_memory_values(config) or _switches_on(config))


def find_caches(config: dict[str, Any]) -> list[Any]:
    """The options of every cache in a config (plain data): the run's, and those that single stages have."""
    stages = ((config.get("graph") or {}).get("stages") or {}).values()
    options = [stage.get("options") for stage in stages if isinstance(stage, dict)]
    return [config.get("cache"), *(given.get("cache") for given in options if isinstance(given, dict))]


def is_option_on(options: Any) -> bool:
    """True if the options of a config group (plain data) are those of another option than `none`.

    `parallel=data` does not count: it computes the same bits.
    """
    return (options or {}).get("name", "none") not in ("none", "data")


def _switches_on(config: dict[str, Any]) -> list[str]:
    """The keys of `accelerate` that are on."""
    return [str(key) for key, value in (config.get(LOSSY_SWITCHES) or {}).items() if key != "name" and value]


def _lossy_memory_values(config: dict[str, Any]) -> list[Any]:
    memory = config.get("memory") or {}
    return [memory[key] for key in LOSSY_MEMORY_KEYS if memory.get(key)]
