"""Hydra's own arguments, as a namespace: flags may stand anywhere between overrides."""

from __future__ import annotations

from typing import Any, NoReturn

from ..errors import ConfigError


def parse_arguments(arguments: list[str]) -> Any:
    """Hydra's own arguments; flags may stand anywhere between overrides."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message}; see --help")

    parser.error = refuse
    return parser.parse_intermixed_args(arguments)
