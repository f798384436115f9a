"""Notes what the files of a config want to be given (`seed: ???`): merging takes such a value for none at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from .merging import replace_attribute

MISSING = "???"
SHIPPED = ("hydra", "main", "schema")
"""Providers of files whose wishes their schema holds as well."""


@contextmanager
def note_wanted() -> Iterator[dict[str, str]]:
    """Within it Hydra composes one config. Yields dotted key -> the file that wants it and no later one gives it."""
    load = ConfigLoaderImpl._load_single_config
    wanted: dict[str, str] = {}

    def load_and_note(loader: ConfigLoaderImpl, default: Any, repo: Any) -> ConfigResult:
        result = load(loader, default=default, repo=repo)
        if wanted or result.provider not in SHIPPED:
            _note(result.config, default.config_path, wanted)
        return result

    with replace_attribute(ConfigLoaderImpl, "_load_single_config", load_and_note):
        yield wanted


def _note(config: Any, path: str, wanted: dict[str, str]) -> None:
    content: Any = OmegaConf.to_container(config, resolve=False) if OmegaConf.is_dict(config) else {}
    for key in [key for key in wanted if holds(content, key.split("."))]:
        del wanted[key]
    group, _, option = path.rpartition("/")
    wanted.update(dict.fromkeys(_find_missing(content, ""), f"{group}={option}"))


def _find_missing(node: dict[Any, Any], above: str) -> Iterator[str]:
    for name, value in node.items():
        if value == MISSING and isinstance(value, str):
            yield f"{above}{name}"
        elif isinstance(value, dict):
            yield from _find_missing(value, f"{above}{name}.")


def holds(node: Any, names: Sequence[str]) -> bool:
    """Whether there is a value at the place that these names lead to."""
    for name in names:
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return not (isinstance(node, str) and node == MISSING)
