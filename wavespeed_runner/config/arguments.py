"""Parses Hydra's own command-line arguments."""

from __future__ import annotations

from argparse import Namespace
from typing import NoReturn

from ..errors import ConfigError
from .typed_text import keep_typed_texts


def parse_arguments(arguments: list[str]) -> Namespace:
    """Splits a command line into Hydra's flags and the overrides, texts as they were typed; flags may stand anywhere.

    Raises:
        ConfigError: an unknown flag, or one without its value.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message}; see --help")

    parser.error = refuse
    given: Namespace = parser.parse_intermixed_args(arguments)
    given.overrides = keep_typed_texts(list(given.overrides))
    return given
