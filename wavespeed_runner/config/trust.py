"""Checks that a config from a stranger is only data, before Hydra acts on it.

Hydra instantiates what its own node names (callbacks, launchers, log handlers) and writes where that node says,
whatever the application does; see https://github.com/hydra-ecosystem/hydra/issues/3258. So only the command line may
change anything under `hydra`, or where results go. The one exception is `hydra.sweeper.params`, which only holds
overrides, and those are checked like the rest. Nor may a value call a resolver, or be assembled into such a call:
`${oc.env:TOKEN}` would copy a secret into the record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import ConfigError

LET_THROUGH = (
    "sweeper.params",  # overrides of our own keys, checked one by one
    "overrides",  # as typed; see `check`
    "job.override_dirname",
    "runtime.choices",  # which options were chosen
)
"""Parts of Hydra's node that may differ for legitimate reasons."""

COMMAND_LINE_KEYS = ("outputs", "dry_run", "rerun")
"""Top-level keys that only the command line may set."""

PROMPT_FILE = "prompts.path"
"""Names a file whose text people will share with records and images: a config may name a packaged or relative .txt."""

IMAGES = (".png", ".jpg", ".jpeg", ".webp")
"""Kinds of files that a config may name as an input image. Results show them, so they must not be private."""

STAGE_PATH = re.compile(r"graph\.stages\.[^.]+\.options\.path")
STAGE_NODE = re.compile(r"graph(\.stages(\.[^.]+(\.options)?)?)?")
"""Nodes that hold such a path and could be replaced as a whole by an interpolation."""

PLAIN = re.compile(r"\$\{\.*[\w.\[\]]+\}")
"""An interpolation that only names another key."""


def is_reserved(override: str) -> bool:
    """True if an override sets what only the command line may: Hydra's node, where results go, the prompt file."""
    key = re.split(r"[=@]", override.lstrip("+~"), maxsplit=1)[0].strip()
    return key == PROMPT_FILE or re.split(r"[./]", key, maxsplit=1)[0] in ("hydra", *COMMAND_LINE_KEYS)


def check(composed: dict[str, Any], baseline: dict[str, Any], overrides: list[str]) -> None:
    """Refuses a composed config in which a file set what only the command line may set.

    Args:
        composed: the whole composed config with Hydra's node, unresolved.
        baseline: the shipped config, composed only with the reserved overrides of the command line.
        overrides: those that `composed` was composed with.

    Raises:
        ConfigError: names the key that a config file set.
    """
    listed = composed["hydra"]["overrides"]
    if sorted([*listed["hydra"], *listed["task"]]) != sorted(overrides):
        raise ConfigError("hydra.overrides: a config file sets it, and a sweep would apply it to its jobs")
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
    if composed["prompts"] != baseline["prompts"]:
        check_prompt_file(composed)
    for override, value in (composed["hydra"].get("sweeper", {}).get("params") or {}).items():
        if is_reserved(str(override)):
            raise ConfigError(f"hydra.sweeper.params.{override}: a config file may not sweep over it")
        # Hydra's sweeper would resolve it before making overrides of it: the jobs would not be those planned.
        if "${" in str(value):
            raise ConfigError(f"hydra.sweeper.params.{override}={value}: no interpolation here")
    check_values({key: value for key, value in composed.items() if key != "hydra"})


def check_prompt_file(config: dict[str, Any]) -> None:
    """Refuses a prompt file, named by a config, that might be private."""
    prompts = config.get("prompts")
    path = str(prompts.get("path", "???") if isinstance(prompts, dict) else "???")
    if path != "???" and not (_is_relative(path) and path.endswith(".txt")):
        raise ConfigError(
            f"{PROMPT_FILE}={path}: a config file may name a relative .txt file, or one in a package; give another on "
            f"the command line, {PROMPT_FILE}=FILE"
        )


def check_images(config: dict[str, Any], typed: Iterable[str] = ()) -> None:
    """Refuses an image or calibration file, named by a config, that might be private.

    Args:
        config: the application's part, unresolved.
        typed: overrides from the command line, which may name any file.
    """
    keys = {override.lstrip("+").partition("=")[0].strip() for override in typed}
    _refuse_dots(config)
    for key, value in _leaves(config).items():
        if STAGE_NODE.fullmatch(key) and "${" in str(value):
            raise ConfigError(f"{key}={value}: no interpolation here; write it out")
        if key.endswith("cache.calibration") and key not in keys and value is not None:
            if not (_is_relative(str(value)) and str(value).lower().endswith((".yaml", ".yml"))):
                raise ConfigError(
                    f"{key}={value}: a config file may name a relative .yaml file; give another on the command line, "
                    f"{key}=FILE"
                )
            continue
        named = key in ("image", "mask") or STAGE_PATH.fullmatch(key)
        # Left as it is, or following those two.
        if not named or key in keys or value is None or value in ("${image}", "${mask}"):
            continue
        if not (_is_relative(str(value)) and str(value).lower().endswith(IMAGES)):
            raise ConfigError(
                f"{key}={value}: a config file may name a relative {', '.join(IMAGES)} file, or one in a package; "
                f"give another on the command line, {key}=FILE"
            )


def _refuse_dots(node: Any) -> None:
    """Refuses a key that contains a dot: it would look like two keys and pass for another one."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if "." in str(name):
            raise ConfigError(f"{name}: no dots in the names of keys and stages; choose another name")
        _refuse_dots(value)


def _is_relative(path: str) -> bool:
    """True if a file lies below the current folder, or in a package."""
    inside = path.removeprefix("pkg://")
    return not inside.startswith(("/", "~", "\\")) and not any(part in inside for part in ("..", ":", "$"))


def check_values(config: dict[str, Any]) -> None:
    """Refuses code and resolver calls in the application's part of a config."""
    for key, value in _leaves(config).items():
        if any(name.startswith("_") and name.endswith("_") for name in key.split(".")):
            raise ConfigError(f"{key}: configs hold no code; select something registered by its name")
        if isinstance(value, str) and "${" in PLAIN.sub("", value):
            raise ConfigError(f"{key}={value}: only plain interpolations such as ${{cache.start}} are allowed")


def check_resolved(config: dict[str, Any]) -> None:
    """Refuses an interpolation that others have assembled: whoever reads the config next would resolve it."""
    for key, value in _leaves(config).items():
        if isinstance(value, str) and "${" in value:
            raise ConfigError(f"{key}={value}: interpolations may not be put together from others")


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
