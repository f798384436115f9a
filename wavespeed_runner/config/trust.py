"""Checks that a config from a stranger is only data, before Hydra acts on it.

Hydra instantiates what its own node names (callbacks, launchers, log handlers) and writes where that node says,
whatever the application does; see https://github.com/hydra-ecosystem/hydra/issues/3258. So only the command line may
change anything under `hydra`, or where results go. The one exception is `hydra.sweeper.params`, which only holds
overrides, and those are checked like the rest. Nor may a value call a resolver, or be assembled into such a call:
`${oc.env:TOKEN}` would copy a secret into the record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..inputs.documents import refuse_interpolations
from ..inputs.files import (
    ADAPTER,
    CALIBRATION,
    HUB_ID,
    IMAGE,
    PROMPTS,
    WEIGHTS,
    InputError,
    Kind,
    check_named_by_config,
)
from .code_keys import refuse_code
from .interpolations import PLAIN, refuse_expansion

LET_THROUGH = (
    "sweeper.params",  # overrides of our own keys, checked one by one
    "overrides",  # as typed; see `check`
    "job.override_dirname",
    "runtime.choices",  # which options were chosen
)
"""Parts of Hydra's node that may differ for legitimate reasons."""

COMMAND_LINE_KEYS = ("outputs", "dry_run", "rerun", "limits")
"""Top-level keys that only the command line may set."""

PLACES = re.compile(r"(graph\.stages\.[^.]+\.options\.)?(.+\.)?cache_dir|graph\.stages\.[^.]+\.options\.(.+\.)?outputs")
"""Keys of options and of single stages that say where something is written; only the command line may set them too."""

PROMPT_FILE = "prompts.path"
"""Names a file whose text people will share with records and images."""

FILES = (
    (re.compile(r"prompts\.path"), PROMPTS),
    (re.compile(r"image|mask"), IMAGE),
    (re.compile(r"graph\.stages\.[^.]+\.options\.(.+\.)?([^.]+_)?(path|file|image|mask)"), IMAGE),
    (re.compile(r"graph\.stages\.[^.]+\.options\.(.+\.)?([^.]+_)?(path|file|image|mask)s?\..+"), IMAGE),
    (re.compile(r"(.+\.)?(cache|sampler)\.calibration"), CALIBRATION),
    (re.compile(r"adapters\.path(\.\d+)?"), ADAPTER),
    (re.compile(r"metrics\.(.+\.)?([^.]+_)?weights"), WEIGHTS),
    (re.compile(r"metrics\.(.+\.)?([^.]+_)?(path|file|image|mask)(s?\..+)?"), IMAGE),
)
"""Keys that name a file, and what a config may name there: results show it, so it must not be private."""

OPTION = re.compile(r"[\w.+-]+(/[\w.+-]+)*")
"""The name of an option of a config group."""

STAGE_NODE = re.compile(
    r"graph(\.stages(\.[^.]+(\.options(\.(compile|attention))?)?)?)?|prompts|adapters|cache|compile|attention|metrics(\.[^.]+)?"
)
"""Nodes that hold such a path, a place, or what runs code, and could be replaced as a whole by an interpolation."""


def is_reserved(override: str) -> bool:
    """True if an override sets what only the command line may: Hydra's node, where results go, the prompt file."""
    key = re.split(r"[=@]", override.lstrip("+~"), maxsplit=1)[0].strip()
    return key == PROMPT_FILE or is_place(key) or re.split(r"[./]", key, maxsplit=1)[0] in ("hydra", *COMMAND_LINE_KEYS)


def is_place(key: str) -> bool:
    """True if a key of an option, or of a single stage, says where something is written."""
    return PLACES.fullmatch(key) is not None


def remove_places(config: dict[str, Any]) -> dict[str, Any]:
    """A copy of a config without the places where something is written: they are of the machine that it ran on."""
    return {key: _without_places(value, key) for key, value in config.items()}


def _without_places(node: Any, key: str) -> Any:
    if isinstance(node, list):
        return [_without_places(item, f"{key}.{index}") for index, item in enumerate(node)]
    if not isinstance(node, dict):
        return None if is_place(key) else node
    kept = {name: _without_places(value, f"{key}.{name}") for name, value in node.items()}
    # A stage's `outputs` has no null: left out, it follows the top-level one.
    return {name: value for name, value in kept.items() if name != "outputs" or not is_place(f"{key}.{name}")}


def check(
    composed: dict[str, Any], baseline: dict[str, Any], overrides: list[str], has_group: Callable[[str], bool]
) -> None:
    """Refuses a composed config in which a file set what only the command line may set.

    Args:
        composed: the whole composed config with Hydra's node, unresolved.
        baseline: the shipped config, composed only with the reserved overrides of the command line.
        overrides: those that `composed` was composed with.
        has_group: whether there is a config group of this name.

    Raises:
        ConfigError: names the key that a config file set.
    """
    listed = composed["hydra"]["overrides"]
    if sorted([*listed["hydra"], *listed["task"]]) != sorted(overrides):
        raise ConfigError("hydra.overrides: a config file sets it, and a sweep would apply it to its jobs")
    _check_choices(composed["hydra"]["runtime"]["choices"], has_group)
    leaves, expected = _leaves(composed["hydra"]), _leaves(baseline["hydra"])
    for key in sorted(leaves.keys() | expected.keys()):
        same = (key in leaves, leaves.get(key)) == (key in expected, expected.get(key))
        if not same and not key.startswith(LET_THROUGH):
            raise ConfigError(
                f"hydra.{key}: a config file sets it, and only the command line may; "
                "a config may set our groups, run values and hydra.sweeper.params"
            )
    for key in COMMAND_LINE_KEYS:
        if composed.get(key) != baseline.get(key):
            raise ConfigError(f"{key}={composed.get(key)}: a config file sets it, and only the command line may")
    for override, value in (composed["hydra"].get("sweeper", {}).get("params") or {}).items():
        if is_reserved(str(override)):
            raise ConfigError(f"hydra.sweeper.params.{override}: a config file may not sweep over it")
        # Hydra's sweeper would resolve it before making overrides of it: the jobs would not be those planned.
        if "${" in str(value):
            raise ConfigError(f"hydra.sweeper.params.{override}={value}: no interpolation here")
    check_values({key: value for key, value in composed.items() if key != "hydra"})


def find_kind(key: str) -> Kind | None:
    """The kind of file that a key names; None for a key that names none."""
    return next((kind for pattern, kind in FILES if pattern.fullmatch(key)), None)


def check_code(config: dict[str, Any]) -> None:
    """Refuses what a config chooses that may run code, as nobody has typed it. Raises ConfigError."""
    refuse_code(_leaves(config), {})


def _check_choices(choices: Any, has_group: Callable[[str], bool]) -> None:
    """Refuses anything but chosen options: a file that is composed into this node would be copied into `.hydra/`."""
    for group, option in choices.items() if isinstance(choices, dict) else [("", choices)]:
        options = option if isinstance(option, list) else [option]
        names_options = all(o is None or (isinstance(o, str) and OPTION.fullmatch(o)) for o in options)
        if option is not None and not (names_options and has_group(str(group).partition("@")[0].lstrip("/"))):
            raise ConfigError(f"hydra.runtime.choices.{group}: a config file sets it, and only Hydra may")


def check_files(
    config: dict[str, Any], typed: Mapping[str, Any] | None = None, folders: Iterable[Path | str] = ()
) -> dict[str, str]:
    """Refuses what a config names of private files, places that it has something written to, and code to run.

    Args:
        config: the application's part, unresolved.
        typed: dotted key -> value that the command line set, which may name any file, any place and any code.
        folders: that the command line gave, besides the one where the command runs.

    Returns:
        Key -> the path to open, for the files that are in one of `folders` and not where the command runs.
    """
    keys, folders = typed or {}, list(folders)
    found: dict[str, str] = {}
    leaves = _leaves(config)
    refuse_code(leaves, keys)
    _refuse_dots(config)
    for key, value in leaves.items():
        if STAGE_NODE.fullmatch(key) and "${" in str(value):
            raise ConfigError(f"{key}={value}: no interpolation here; write it out")
        if is_place(key) and value not in (None, "${outputs}") and key not in keys:
            raise ConfigError(f"{key}={value}: a config file sets it, and only the command line may")
        kind = find_kind(key)
        is_typed = key in keys or (kind is ADAPTER and "adapters.path" in keys)
        if kind is None or is_typed or value in (None, "???", [], {}):
            continue
        # Left as it is, or following those two; a number is no file.
        if kind is IMAGE and (value in ("${image}", "${mask}") or isinstance(value, int | float)):
            continue
        if kind is ADAPTER and HUB_ID.fullmatch(str(value)) and not str(value).endswith(".safetensors"):
            continue
        place = check_named_by_config(key, str(value), kind, folders)
        if place != str(value):
            found[key] = place
    return found


def _refuse_dots(node: Any) -> None:
    """Refuses a key that contains a dot: it would look like two keys and pass for another one."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if "." in str(name):
            raise ConfigError(f"{name}: no dots in the names of keys and stages; choose another name")
        _refuse_dots(value)


def check_values(config: dict[str, Any]) -> None:
    """Refuses code, resolver calls and too many interpolations in the application's part of a config."""
    for key, value in _leaves(config).items():
        if any(name.startswith("_") and name.endswith("_") for name in key.split(".")):
            raise ConfigError(f"{key}: configs hold no code; select something registered by its name")
        if isinstance(value, str) and "${" in value:
            _check_interpolations(key, value)
    refuse_expansion(config)


def _check_interpolations(key: str, value: str) -> None:
    try:
        refuse_interpolations(value)
    except InputError as error:
        raise ConfigError(f"{key}: {error}") from None
    if "${" in PLAIN.sub("", value):
        raise ConfigError(f"{key}={value}: only plain interpolations such as ${{cache.start}} are allowed")


def check_resolved(config: dict[str, Any]) -> None:
    """Refuses an interpolation that others have assembled: whoever reads the config next would resolve it."""
    for key, value in _leaves(config).items():
        if isinstance(value, str) and "${" in value:
            raise ConfigError(f"{key}={value}: interpolations may not be put together from others")


def list_values(key: str, value: Any) -> dict[str, Any]:
    """What is set by giving `key` this value: keys below it too, if it is a mapping or a list."""
    return {key: value, **_leaves(value, key)}


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
