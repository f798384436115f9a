"""Remembers the shipped config files: they do not change while the process lives."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

from hydra.plugins.config_source import ConfigResult

from ..paths import CONF

SHIPPED = (str(CONF), "hydra.conf")
"""Where Hydra's sources find our configs and its own."""

_shipped: dict[tuple[str, str], ConfigResult] = {}


def load_shipped_once(load: Callable[[Any, str], ConfigResult]) -> Callable[[Any, str], ConfigResult]:
    """The `load_config` of a source of configs, which parses a shipped file only once."""

    def load_config(source: Any, config_path: str) -> ConfigResult:
        if source.path not in SHIPPED:
            return load(source, config_path)
        if (source.path, config_path) not in _shipped:
            _shipped[source.path, config_path] = load(source, config_path)
        result = _shipped[source.path, config_path]
        return replace(result, config=deepcopy(result.config), header=dict(result.header))

    return load_config
