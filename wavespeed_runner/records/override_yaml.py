"""A run as an experiment file: a few lines of YAML that run exactly this point again with `experiment=NAME`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ..config import trust
from ..config.open_schema import OpenConfig
from ..config.paths import CONF, list_groups
from ..errors import ConfigError, make_printable

NOT_KEPT = ("defaults", "hydra", "points", "claim")
"""Parts of an experiment file that make a sweep of it, choose groups (they are merged on their own), or tell of a
result."""
EXPERIMENT = "experiment"
KEYS = frozenset({"defaults", "hydra"} | {field.name for field in fields(OpenConfig)})
"""What may stand at the top of an experiment file."""


def experiment_yaml(overrides: Sequence[str], config_dir: Path | None = None) -> str:
    """Writes the overrides of a record as an experiment file, with the experiments that they name written out.

    What a config file may not set (`outputs`, files outside of the working folder) stands in the command of the first
    comment; `outputs` and the like, which decide nothing, are left out.

    Args:
        overrides: of the run.
        config_dir: the `--config-dir` of the run, where experiments are looked up that are not shipped.
    """
    if any(override.startswith("replay=") for override in overrides):
        return "# This run was itself a replay: python -m wavespeed_runner replay record.json\n"
    chosen, values, typed = _parts(overrides, config_dir)
    command = shlex.join(["python", "-m", "wavespeed_runner", "experiment=NAME", *typed])
    lines = [
        "# @package _global_",
        f"# {make_printable(command)} --config-dir DIR   (this file: DIR/experiment/NAME.yaml)",
    ]
    content: dict[str, Any] = {"defaults": list(chosen.values())} if chosen else {}
    content |= values
    if content:
        lines.append(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120).rstrip("\n"))
    return "\n".join(lines) + "\n"


def is_group(key: str) -> bool:
    """Whether an override's key chooses an option of a group, as `cache` and `cache/predictor` do."""
    return "/" in key or key.partition("@")[0] in _groups()


@lru_cache(maxsize=1)
def _groups() -> frozenset[str]:
    return frozenset(list_groups())


def _parts(overrides: Sequence[str], config_dir: Path | None) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Entries of the defaults list by group, values, and overrides that only a command line may hold."""
    chosen: dict[str, Any] = {}
    values: dict[str, Any] = {}
    typed: list[str] = []
    own: dict[str, Any] = {}
    for override in overrides:
        found = _parsed(override)
        key = f"{found.key_or_group}@{found.package}" if found.package else found.key_or_group
        if key == EXPERIMENT and not found.is_delete():
            _write_out(found.value(), config_dir, chosen, values)
        elif key.startswith("hydra") or key in trust.COMMAND_LINE_KEYS:
            continue
        elif found.is_delete() or "${" in override:
            typed.append(override)
        elif is_group(key):
            entry = f"/{key}" if found.is_add() else f"override /{key}"
            own[f"override /{key}"] = {entry: found.value()}
        elif _allowed(nested := _nested(key, found.value())):
            merge(values, nested)
        else:
            typed.append(override)
    # A group on the command line wins over the experiment's.
    return chosen | own, values, typed


@lru_cache(maxsize=4096)
def _parsed(override: str) -> Any:
    """Hydra's own reading; the jobs of a sweep share most of their overrides."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(override)


def _write_out(names: Any, config_dir: Path | None, chosen: dict[str, Any], values: dict[str, Any]) -> None:
    """Adds what experiment files hold; one that cannot be read, or is made of others, stands in as a base."""
    for name in names if isinstance(names, list) else [names]:
        content = None if name is None else _file(str(name), config_dir)
        entries = (content or {}).get("defaults") or []
        simple = [e for e in entries if isinstance(e, dict) and all(str(key).startswith("override /") for key in e)]
        if name is None:
            continue
        if content is None or len(simple) + entries.count("_self_") != len(entries):
            chosen[str(name)] = str(name)
            continue
        for key, option in ((key, option) for entry in simple for key, option in entry.items()):
            chosen[key] = {key: option}
        merge(values, {key: value for key, value in content.items() if key not in NOT_KEPT})


def _file(name: str, config_dir: Path | None) -> dict[str, Any] | None:
    """A record is a stranger's text: what it names outside of the experiments' folder is not read."""
    named = PurePosixPath(name)
    if not name or named.is_absolute() or ".." in named.parts or "\\" in name or "\0" in name:
        return None
    for folder in (CONF, config_dir):
        if folder is None:
            continue
        home = folder / EXPERIMENT
        path = home / f"{name}.yaml"
        if path.is_file():
            return _read(path) if path.resolve().is_relative_to(home.resolve()) else None
    return None


@lru_cache(maxsize=64)
def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    # Another YAML file, which a record may name as well, is nobody's business.
    return content if isinstance(content, dict) and content.keys() <= KEYS else None


def _nested(key: str, value: Any) -> dict[str, Any]:
    """Nests a dotted key: `a.b`, 1 -> {"a": {"b": 1}}."""
    for part in reversed(key.split(".")):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested


def merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Merges nested values into a dict; later ones win. `more` is copied, not shared."""
    for key, value in more.items():
        if isinstance(value, dict):
            below = into.get(key)
            into[key] = dict(below) if isinstance(below, dict) else {}
            merge(into[key], value)
        else:
            into[key] = value


def _allowed(values: dict[str, Any]) -> bool:
    """Whether a config file may set this."""
    try:
        if "prompts" in values:
            trust.check_prompt_file(values)
        trust.check_images(values)
        trust.check_values(values)
    except ConfigError:
        return False
    return True
