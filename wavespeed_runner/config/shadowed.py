"""Finds options of a user's folder that are never read, because a shipped one has their name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..inputs.files import InputError, read_file
from ..inputs.limits import MAX_CONFIG_BYTES
from .paths import CONF

BASE = re.compile(r"^ +- (\w+)$", re.MULTILINE)
"""In a shipped option's defaults: another one of its group that it starts from, as `balanced` does from `deepcache`."""


def refuse_shadowed(chosen: Mapping[str, Any], folders: Iterable[str]) -> None:
    """Refuses a chosen option whose name a file of the user's has too, with another content.

    Hydra looks into the shipped folder first, so what stands in the user's file would have no effect. Options that this
    command does not choose may have any name, and a copy of the shipped file does no harm.

    Args:
        chosen: config group -> option, of the whole config.
        folders: those of the user's.

    Raises:
        ConfigError: names the file.
    """
    for folder in folders:
        for group, option in _walk_shipped(chosen):
            file = Path(folder) / group / f"{option}.yaml"
            if file.is_file() and not _is_copy(file, CONF / group / f"{option}.yaml"):
                raise ConfigError(
                    f"{group}={option}: the shipped option has this name and is found first, so {file} would never be "
                    f"read; give the file another name, and choose {group}=NAME"
                )


def _walk_shipped(chosen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Group and name of each shipped option that is read."""
    for key, option in chosen.items():
        group = key.partition("@")[0]
        shipped = CONF / group / f"{option}.yaml"
        if not isinstance(option, str) or not shipped.is_file():
            continue
        yield group, option
        for base in BASE.findall(shipped.read_text("utf-8")):
            if (CONF / group / f"{base}.yaml").is_file():
                yield group, base


def _is_copy(file: Path, shipped: Path) -> bool:
    try:
        return read_file(file, MAX_CONFIG_BYTES) == shipped.read_bytes()
    except (OSError, InputError):
        return False
