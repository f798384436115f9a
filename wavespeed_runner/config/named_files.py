"""Finds the files that a composed config names: where the command runs, else in the folders of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from . import trust
from .fast.compose import parse_override


def locate_files(composed: dict[str, Any], typed: Iterable[str], folders: Sequence[Path | str]) -> dict[str, Any]:
    """Checks the files that a config names, and says where those are that lie in one of the folders.

    Args:
        composed: the whole composed config, unresolved; not changed.
        typed: overrides of the command line, which may name any file, from where the command runs.
        folders: that the command line gave.

    Returns:
        The config with the place of each file that is not where the command runs.

    Raises:
        ConfigError: a config file names a file that might be private.
    """
    ours = {key: value for key, value in composed.items() if key not in ("hydra", "points")}
    found = trust.check_files(ours, _list_typed_values(typed), folders)
    return {**composed, **_set_leaves(ours, found)} if found else composed


def _list_typed_values(overrides: Iterable[str]) -> dict[str, Any]:
    """Key -> value that overrides set, also inside of a value that is a mapping."""
    values: dict[str, Any] = {}
    for override in overrides:
        parsed = parse_override(override)
        values |= trust.list_values(parsed.key_or_group, None if parsed.is_delete() else parsed.value())
    return values


def _set_leaves(data: Any, values: dict[str, str], above: str = "") -> Any:
    """A copy with these values at their dotted keys; what holds none of them is shared with `data`."""
    if above in values:
        return values[above]
    if not any(key.startswith(f"{above}." if above else "") for key in values):
        return data
    items = data.items() if isinstance(data, dict) else enumerate(data)
    changed = {name: _set_leaves(value, values, f"{above}.{name}".lstrip(".")) for name, value in items}
    return changed if isinstance(data, dict) else list(changed.values())
