"""The text of `GROUP=OPTION --help`: the option's keys with their values, what is allowed, meaning and source."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from textwrap import fill
from typing import Any, get_args, get_origin, get_type_hints

from .. import registry
from ..caching.guide import GUIDE, WINDOW_RANGES
from ..config.compose import compose_job, composer
from ..config.option_docs import read_attribute_docs, read_constant_docs
from ..config.paths import CONF, list_groups
from ..config.schema import CacheConfig, PartConfig
from ..inputs.files import read_text
from ..inputs.limits import MAX_CONFIG_BYTES
from .strategy_ranges import describe_range

WIDTH = 118
TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", dict: "keys and values"}
AUTOMATIC = ("name", "chosen_as", "calibrated_for")
"""Keys that nobody sets by hand."""


def is_option(argument: str) -> bool:
    """True for `GROUP=OPTION` of a config group."""
    return "=" in argument and argument.partition("=")[0] in list_groups()


def describe_option(argument: str, config_dir: str | None) -> str:
    """Describes an option in about a screen.

    Args:
        argument: `GROUP=OPTION`; of a part of a strategy, `cache/signal=NAME`.
        config_dir: a folder of the user's options.

    Raises:
        ConfigError, HydraException, OmegaConfBaseException: there is no such option, or it is broken.
    """
    group, _, option = argument.partition("=")
    overrides = [*(["cache=custom"] if group.startswith("cache/") else []), argument]
    with composer(config_dir):
        node: Any = compose_job(overrides, overrides)
    for part in group.split("/"):
        node = node.get(part) if isinstance(node, dict) else None
    comment, text = _read_file(group, option, config_dir)
    name = node.get("name") if isinstance(node, dict) else None
    if not isinstance(name, str) or name not in registry.list_names(group):
        return _print_safely([argument, *comment, "", *text])
    options = registry.lookup(group, name).options
    lines = [argument, *comment, *_describe_source(options)]
    if group == "cache" and name in GUIDE:
        lines += [f"For: {GUIDE[name].purpose}.", describe_range(option, name)]
    return _print_safely([*(fill(line, WIDTH) for line in lines), "", *_describe_keys(group, options, node)])


def _print_safely(lines: list[str]) -> str:
    """The lines without control characters: an option of a folder may be a stranger's."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in "\n".join(lines))


def _read_file(group: str, option: str, config_dir: str | None) -> tuple[list[str], list[str]]:
    """The comment at the beginning of the option's file, and the rest; nothing for an option of a plugin."""
    folders = [CONF, *([Path(config_dir)] if config_dir else [])]
    file = next((found for folder in folders if (found := folder / group / f"{option}.yaml").is_file()), None)
    lines = read_text(file, MAX_CONFIG_BYTES).splitlines() if file else []
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line.lstrip("# ") for line in lines[:count] if "@package" not in line], lines[count:]


def _describe_source(options: type) -> list[str]:
    text = " ".join((options.__doc__ or "").split())
    match = re.search(r"Source: (.*?)(?=\.( |$)|$)|(https://\S+[^\s.,;)])", text)
    return [f"Source: {match[1] or match[3]}"] if match else []


def _describe_keys(group: str, options: type, node: dict[str, Any]) -> list[str]:
    """Two lines for each key, those of the option before those that others of the group have too."""
    docs, hints = _read_docs(group, options), get_type_hints(options)
    shared = {field.name for base in options.__mro__[1:] if is_dataclass(base) for field in fields(base)}
    names = [field.name for field in fields(options) if field.name not in AUTOMATIC]
    parts = {name: node[name]["name"] for name in names if isinstance(node.get(name), dict) and "name" in node[name]}
    lines = []
    others = [name for name in names if name not in parts and hints[name] != PartConfig | None]
    for name in sorted(others, key=lambda name: name in shared):
        allowed = _describe_allowed(group, options, name, hints[name])
        lines.append(f"{group.replace('/', '.')}.{name}={_write(node.get(name))}   ({allowed})")
        lines += [fill(docs[name], WIDTH, initial_indent="    ", subsequent_indent="    ")] if name in docs else []
    if parts:
        chosen = ", ".join(f"{group}/{part}={name}" for part, name in parts.items())
        lines.append(fill(f"Parts: {chosen}; each with --help tells its keys.", WIDTH))
    return lines or ["It has no keys."]


def _read_docs(group: str, options: type) -> dict[str, str]:
    if group != "sampler":
        return read_attribute_docs(options)
    from ..samplers import options as made
    from ..samplers import table

    # Their classes are made from a table, in which the common keys are constants.
    constants = read_constant_docs(table) | read_constant_docs(made)
    return {name.lower(): text for name, text in constants.items()}


def _describe_allowed(group: str, options: type, name: str, hint: Any) -> str:
    """What a key may be: from the tables that check it, else from its type."""
    if issubclass(options, CacheConfig) and name in WINDOW_RANGES:
        return str(WINDOW_RANGES[name])
    if group == "sampler" and (text := _describe_sampler_key(options, name)):
        return text
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not type(None)]
    null = ", or null" * (type(None) in get_args(hint))
    if get_origin(hint) in (list, dict, tuple):
        return {list: "a list", dict: "keys and values", tuple: "a list"}[get_origin(hint)]
    enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    if enums:
        return ", ".join(_write(value) for kind in enums for value in kind) + null
    return " or ".join(TYPES.get(kind, "a value or a list") for kind in kinds) + null


def _describe_sampler_key(options: Any, name: str) -> str:
    from ..samplers.options import sampler_keys
    from ..samplers.table import SAMPLERS

    option = sampler_keys(SAMPLERS[options.name])[name] if options.name in SAMPLERS else None
    if option is None:
        return ""
    if option.allowed:
        return ", ".join(map(_write, option.allowed))
    return f"{'above' if option.exclusive else 'at least'} {option.minimum:g}{', or null' * (option.default is None)}"


def _write(value: Any) -> str:
    """A value as it is typed; of one that follows another key, that key."""
    value = value.value if isinstance(value, Enum) else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_write, value))}]"
    return "null" if value is None else str(value)
