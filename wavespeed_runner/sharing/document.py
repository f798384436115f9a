"""The content of an experiment file as nested dicts: dotted keys, YAML text, and paths that work on other machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf._utils import get_omega_conf_dumper

from ..config import trust
from ..inputs.files import ADAPTER, IMAGE
from ..records.override_yaml import merge
from ..storage.yaml_text import dump_yaml

FlatConfig = dict[str, Any]
"""Dotted key -> value; lists are values."""


def flatten(node: Any, key: str = "") -> FlatConfig:
    """Flattens nested dicts to dotted keys; an empty dict is a value.

    Args:
        node: nested dicts, or a value.
        key: the dotted key of `node`.
    """
    if not isinstance(node, dict) or not node:
        return {key: node}
    values: FlatConfig = {}
    for name, value in node.items():
        values |= flatten(value, f"{key}.{name}" if key else str(name))
    return values


def nest(key: str, value: Any) -> dict[str, Any]:
    """Nested dicts that hold one value under a dotted key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested


def format_yaml(document: dict[str, Any]) -> str:
    """The text of an experiment file, in Hydra's YAML.

    Hydra reads `1e3` and `1_0` as numbers, and PyYAML would not quote such texts; OmegaConf does.
    """
    content = {key: value for key, value in document.items() if key != "defaults" or value}
    body = dump_yaml(content, get_omega_conf_dumper(), default_flow_style=False) if content else ""
    return f"# @package _global_\n{body}"


def copy_portable(config: dict[str, Any]) -> dict[str, Any]:
    """A copy of a run's config without what makes sense only on its machine, see `make_portable`."""
    copy: dict[str, Any] = {}
    merge(copy, trust.remove_places(config))
    make_portable(copy)
    return copy


def make_portable(config: dict[str, Any]) -> None:
    """Removes what makes sense only on the machine of the run, in place.

    Files of prompts, images and adapters keep only their name, as a config file may give them. Calibration files are
    left out, because their numbers are in the config.
    """
    for key, value in flatten(config).items():
        paths = value if isinstance(value, list) else [value]
        is_file = key == trust.PROMPT_FILE or trust.find_kind(key) in (IMAGE, ADAPTER)
        if is_file and not all(_is_portable(path) for path in paths if isinstance(path, str)):
            names = [_file_name(key, p) if isinstance(p, str) and not _is_portable(p) else p for p in paths]
            merge(config, nest(key, names if isinstance(value, list) else names[0]))
        elif (
            key.endswith(("cache.calibration", "sampler.calibration"))
            and value is not None
            and not value.startswith("pkg://")
        ):
            merge(config, nest(key, None))


def _is_portable(path: str) -> bool:
    return path.startswith("pkg://") or not (Path(path).is_absolute() or path.startswith("~") or ".." in path)


def _file_name(key: str, path: str) -> str:
    """The name of a file; a prompt file must end in .txt."""
    file = Path(path)
    return file.name if key != trust.PROMPT_FILE or file.suffix == ".txt" else f"{file.stem or 'prompts'}.txt"
