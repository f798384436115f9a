"""A config from a stranger is data. Checked here, before Hydra acts on it.

Hydra instantiates what its own node names (callbacks, launchers, log handlers) and writes where that node says,
whatever the application does; see https://github.com/hydra-ecosystem/hydra/issues/3258. So: nothing but the command
line may change anything under `hydra`, or where results go. One exception, `hydra.sweeper.params`, which only holds
overrides, and those are checked like the rest. Nor may any value call a resolver: `${oc.env:TOKEN}` would carry a
secret into the record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .errors import ConfigError

LET_THROUGH = (
    "sweeper.params",  # overrides of our own keys, checked one by one
    "overrides",  # what was typed
    "job.override_dirname",
    "runtime.choices",  # which options were chosen
)
"""Parts of the hydra node that differ for honest reasons."""

OURS = ("outputs", "dry_run", "rerun")
"""Top-level keys that only the command line may set."""

PROMPT_FILE = "prompts.path"
"""Reads a file into records and pictures, which are shared: a config may name a packaged file, or a relative .txt."""

PLAIN = re.compile(r"\$\{\.*[\w.\[\]]+\}")
"""An interpolation that only names another key."""


def is_reserved(override: str) -> bool:
    """Whether an override sets what is for the command line: Hydra's node and groups, `OURS`, `PROMPT_FILE`."""
    key = re.split(r"[=@]", override.lstrip("+~"), maxsplit=1)[0].strip()
    return key == PROMPT_FILE or re.split(r"[./]", key, maxsplit=1)[0] in ("hydra", *OURS)


def check(composed: dict[str, Any], baseline: dict[str, Any]) -> None:
    """Refuses what only a command line may do.

    Args:
        composed: the whole composed config, hydra node included, unresolved.
        baseline: the shipped config composed with those overrides of the command line that are reserved, and no other.

    Raises:
        ConfigError: names the key that a config file set.
    """
    ours, theirs = _leaves(composed["hydra"]), _leaves(baseline["hydra"])
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key) and not key.startswith(LET_THROUGH):
            raise ConfigError(
                f"hydra.{key}: a config file sets it, and only the command line may; "
                "a config may set our groups, run values and hydra.sweeper.params"
            )
    for key in OURS:
        if composed[key] != baseline[key]:
            raise ConfigError(f"{key}={composed[key]}: a config file sets it, and only the command line may")
    if composed["prompts"] != baseline["prompts"]:
        check_prompt_file(composed)
    for override in composed["hydra"].get("sweeper", {}).get("params") or {}:
        if is_reserved(str(override)):
            raise ConfigError(f"hydra.sweeper.params.{override}: a config file may not sweep over it")
    check_values({key: value for key, value in composed.items() if key != "hydra"})


def check_prompt_file(config: dict[str, Any]) -> None:
    """Refuses a prompt file, named by a config, that might be somebody's secret."""
    path = str((config.get("prompts") or {}).get("path", ""))
    harmless = path.endswith(".txt") and not path.startswith(("/", "~", "\\")) and ".." not in path and ":" not in path
    if not (path.startswith("pkg://") or harmless or path == "???"):
        raise ConfigError(
            f"{PROMPT_FILE}={path}: a config file may name a relative .txt file; give another on the command line, "
            f"{PROMPT_FILE}=FILE"
        )


def check_values(config: dict[str, Any]) -> None:
    """Refuses code and resolvers in the application's part of a config."""
    for key, value in _leaves(config).items():
        name = key.rpartition(".")[2]
        if name.startswith("_") and name.endswith("_"):
            raise ConfigError(f"{key}: configs hold no code; select something registered by its name")
        if isinstance(value, str) and "${" in PLAIN.sub("", value):
            raise ConfigError(f"{key}={value}: only plain interpolations such as ${{cache.start}} are allowed")


def _leaves(node: Any, key: str = "") -> dict[str, Any]:
    """Dotted key -> value, empty containers included."""
    return dict(_walk(node, key))


def _walk(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if items is None or not node:
        yield key, node
        return
    for name, value in items:
        yield from _walk(value, f"{key}.{name}" if key else str(name))
