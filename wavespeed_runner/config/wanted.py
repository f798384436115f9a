"""Refuses a config in which a file wants a value to be given (`seed: ???`) and nothing gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError
from .fast.compose import find_wanted, parse_override
from .fast.wanted import holds


def refuse_wanted(composed: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Refuses what would have the default's value although a file says that there is none; returns the config.

    Args:
        composed: the whole composed config; what is missing there is reported when it is converted.
        overrides: that it was composed with.

    Raises:
        ConfigError: names the key and the file.
    """
    wanted = find_wanted(overrides)
    given = [_read(override) for override in overrides] if wanted else []
    for key, file in wanted.items():
        names = key.split(".")
        if holds(composed, names) and not any(holds(content, names) for content in given):
            raise ConfigError(f"{key}=???: {file} wants it to be given; {key}=VALUE")
    return composed


def _read(override: str) -> dict[str, Any]:
    """An override as the mapping that it would be in a file; the choice of an option gives the option alone."""
    parsed = parse_override(override)
    content: Any = None if parsed.is_delete() else parsed.value()
    for name in reversed(parsed.key_or_group.replace("/", ".").split(".")):
        content = {name: content}
    return dict(content)
