"""Writes a run as an experiment file: a few lines of YAML that repeat the run with `experiment=NAME`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ..config import trust
from ..config.code_keys import chooses_code
from ..config.open_schema import OpenConfig
from ..config.paths import CONF, list_groups
from ..errors import ConfigError, make_printable
from ..inputs.files import is_within
from ..inputs.yaml_documents import read_yaml
from ..storage.yaml_text import dump_yaml

NOT_KEPT = ("defaults", "hydra", "points", "claim")
"""Keys of an experiment file that are not values: they define a sweep, choose group options (merged separately), or
claim a result."""
EXPERIMENT = "experiment"
"""Name of the config group, and of its folder."""
KEYS = frozenset({"defaults", "hydra"} | {field.name for field in fields(OpenConfig)})
"""The keys allowed at the top level of an experiment file."""


def experiment_yaml(overrides: Sequence[str], config_dir: Path | None = None) -> str:
    """Writes the overrides of a record as an experiment file, with the content of the experiments that they name.

    Overrides that a config file may not set (such as files outside of the working folder) are in the command in the
    first comment. Keys such as `outputs`, which do not affect the result, are left out.

    Args:
        overrides: the overrides of the run.
        config_dir: the `--config-dir` of the run, where experiments that are not shipped are read.

    Returns:
        The content of the file.
    """
    if any(override.startswith("replay=") for override in overrides):
        return "# This run was itself a replay: python -m wavespeed_runner replay record.json\n"
    groups, values, command_line = _split_overrides(overrides, config_dir)
    command = shlex.join(["python", "-m", "wavespeed_runner", "experiment=NAME", *command_line])
    lines = [
        "# @package _global_",
        f"# {make_printable(command)} --config-dir DIR   (this file: DIR/experiment/NAME.yaml)",
    ]
    content: dict[str, Any] = {"defaults": list(groups.values())} if groups else {}
    content |= values
    if content:
        lines.append(dump_yaml(content, width=120).rstrip("\n"))
    return "\n".join(lines) + "\n"


def is_group(key: str) -> bool:
    """Whether an override's key chooses an option of a config group, such as `cache` or `cache/predictor`."""
    return "/" in key or key.partition("@")[0] in _groups()


@lru_cache(maxsize=1)
def _groups() -> frozenset[str]:
    return frozenset(list_groups())


def _split_overrides(
    overrides: Sequence[str], config_dir: Path | None
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Splits overrides: defaults list entries by group, values, and overrides only a command line may have."""
    groups: dict[str, Any] = {}
    values: dict[str, Any] = {}
    command_line: list[str] = []
    own_groups: dict[str, Any] = {}
    for override in overrides:
        parsed = _parse_override(override)
        key = f"{parsed.key_or_group}@{parsed.package}" if parsed.package else parsed.key_or_group
        if key == EXPERIMENT and not parsed.is_delete():
            _add_experiments(parsed.value(), config_dir, groups, values)
        elif key.startswith("hydra") or key in trust.COMMAND_LINE_KEYS or trust.is_place(key):
            continue
        elif parsed.is_delete() or "${" in override or chooses_code(key, parsed.value()):
            command_line.append(override)
        elif is_group(key):
            entry = f"/{key}" if parsed.is_add() else f"override /{key}"
            own_groups[f"override /{key}"] = {entry: parsed.value()}
        elif _is_allowed(nested := _nest(key, parsed.value())):
            merge(values, nested)
        else:
            command_line.append(override)
    # A group option on the command line takes precedence over the experiment's.
    return groups | own_groups, values, command_line


@lru_cache(maxsize=4096)
def _parse_override(override: str) -> Any:
    """Parses an override as Hydra does; cached, because the jobs of a sweep share most overrides."""
    from ..config.fast.compose import parse_override

    return parse_override(override)


def _add_experiments(names: Any, config_dir: Path | None, groups: dict[str, Any], values: dict[str, Any]) -> None:
    """Adds the content of experiment files; one that is unreadable or based on others is kept as a defaults entry."""
    for name in names if isinstance(names, list) else [names]:
        content = None if name is None else _read_experiment(str(name), config_dir)
        entries = (content or {}).get("defaults") or []
        simple = [e for e in entries if isinstance(e, dict) and all(str(key).startswith("override /") for key in e)]
        if name is None:
            continue
        if content is None or len(simple) + entries.count("_self_") != len(entries):
            groups[str(name)] = str(name)
            continue
        for key, option in ((key, option) for entry in simple for key, option in entry.items()):
            groups[key] = {key: option}
        merge(values, {key: value for key, value in content.items() if key not in NOT_KEPT})


def _read_experiment(name: str, config_dir: Path | None) -> dict[str, Any] | None:
    """Reads an experiment file. Records are untrusted, so names outside of the experiment folders are not read."""
    path_of_name = PurePosixPath(name)
    if not name or path_of_name.is_absolute() or ".." in path_of_name.parts or "\\" in name or "\0" in name:
        return None
    for folder in (CONF, config_dir):
        if folder is None:
            continue
        home = folder / EXPERIMENT
        path = home / f"{name}.yaml"
        if path.is_file():
            return _read_yaml(path) if is_within(path, [home]) else None
    return None


@lru_cache(maxsize=64)
def _read_yaml(path: Path) -> dict[str, Any] | None:
    try:
        content = read_yaml(path)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    # An untrusted record may name any YAML file: return only what looks like an experiment.
    return content if isinstance(content, dict) and content.keys() <= KEYS else None


def _nest(key: str, value: Any) -> dict[str, Any]:
    """Nests a dotted key: `a.b`, 1 -> {"a": {"b": 1}}."""
    for part in reversed(key.split(".")):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested


def merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Merges nested values into a dict, replacing existing ones. `more` is copied, not shared."""
    for key, value in more.items():
        if isinstance(value, dict):
            below = into.get(key)
            into[key] = dict(below) if isinstance(below, dict) else {}
            merge(into[key], value)
        else:
            into[key] = value


def _is_allowed(values: dict[str, Any]) -> bool:
    """Whether a config file may set these values."""
    try:
        trust.check_files(values)
        trust.check_values(values)
    except ConfigError:
        return False
    return True
