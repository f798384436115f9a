"""Options of the launcher `slurm`: from the command line (`hydra.launcher.KEY=VALUE`), else from the site's own file.

The file belongs to one machine or one person and is not shared. An experiment file cannot set any of these options
(`config/trust.py`): partition and account are private.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from ....errors import ConfigError, did_you_mean, format_error
from ....inputs.files import InputError
from ....inputs.yaml_documents import read_yaml_as_text

LOCAL = "slurm.local.yaml"
"""File of the site's own values, in the folder where the command runs."""
VARIABLE = "WAVESPEED_SLURM"
"""Environment variable that names another file instead."""
KEY = "hydra.launcher"

OURS = ("array", "chdir", "error", "job-name", "no-requeue", "open-mode", "output", "signal", "wrap")
"""Options of sbatch that the runner sets itself, because it follows the jobs by them."""
TYPED_ONLY = (
    "bcast", "epilog", "export", "export-file", "get-user-env", "gid", "prolog", "task-epilog", "task-prolog", "uid",
)  # fmt: skip
"""Options that run other programs, or run as somebody else, or choose what the jobs' environment holds: only a person
may ask for them, on the command line."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked of Slurm. None: Slurm is not told, and the cluster's default holds."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: int = 60
    """Time limit of one job, in minutes. A job that reaches it goes on from the store when it runs again."""
    gpus: str | None = None
    """GPUs of one job, on each of its nodes: a number, or TYPE:NUMBER."""
    cpus: int | None = None
    """Cores of one job, on each of its nodes."""
    memory: str | None = None
    """Memory of one job on each of its nodes, with its unit: 500M, 32G; 0: all of the node's."""
    nodes: int | None = None
    """Nodes of a job with several ranks, which are divided among them; None: one."""
    array_parallelism: int | None = None
    """How many jobs run at once."""
    poll: float = 10.0
    """Seconds between two looks at the queue and the records."""
    extra: dict[str, str | bool] = field(default_factory=dict)
    """Other options of sbatch: {constraint: a100, exclusive: true}."""


def resolve_options(typed: Mapping[str, Any]) -> Options:
    """The options: as typed, else from the site's file.

    Args:
        typed: the composed `hydra.launcher` node; its nulls were not typed.

    Raises:
        ConfigError: a key is unknown, or its value is not allowed.
    """
    file, local = read_local()
    known = {f.name for f in fields(Options)}
    values: dict[str, Any] = {}
    for where, given in ((f"{file}: ", local), (f"{KEY}.", typed)):
        for key, value in given.items():
            if key not in known:
                raise ConfigError(f"{where}{key}: no such key{did_you_mean(str(key), known)}")
            if value is None or value in ("", "null", "~"):
                continue
            option = PARSERS[key](f"{where}{key}", value)
            if local is given and key == "extra":
                _refuse_risky(where, option)
            values[key] = {**values.get(key, {}), **option} if isinstance(option, dict) else option
    return Options(**values)


def _refuse_risky(where: str, extra: Mapping[str, Any]) -> None:
    for name in sorted(extra):
        if meant := _find_meant(name, TYPED_ONLY):
            typed = meant.replace("-", "_")
            raise ConfigError(f"{where}extra.{name}: only on the command line, +{KEY}.extra.{typed}=VALUE")


def _find_meant(name: str, options: Iterable[str]) -> str | None:
    """The option that sbatch takes a name for: it also accepts the first letters of one (`expor` for `export`)."""
    return next((option for option in sorted(options) if option.startswith(name)), None)


def read_local() -> tuple[str, dict[str, Any]]:
    """Name and content of the site's file. All values are read as text: YAML takes 4:00:00 for the number 14400."""
    named = os.environ.get(VARIABLE)
    path = Path(named or LOCAL).expanduser()
    if not named and not path.is_file():
        return LOCAL, {}
    try:
        data = read_yaml_as_text(path)
    except (OSError, InputError, yaml.YAMLError) as error:
        source = f"{VARIABLE}={path}" if named else str(path)
        raise ConfigError(f"{source}: cannot be read: {format_error(error)}") from None
    if data in (None, ""):
        return str(path), {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds no keys; write one KEY: VALUE a line, for example partition: gpu")
    return str(path), data


def parse_minutes(key: str, value: Any) -> int:
    """A time limit in minutes, rounded up, from minutes, [D-]H:MM:SS or D-H.

    Args:
        key: for the error message.
        value: what was given.

    Raises:
        ConfigError: the value is no time limit.
    """
    text = str(value).strip()
    if re.fullmatch(r"\d{1,9}", text):
        total = int(text)
    elif parts := re.fullmatch(r"(?:(\d{1,9})-)?(\d{1,9}):([0-5]\d):([0-5]\d)", text):
        days, hours, mins, seconds = (int(part or 0) for part in parts.groups())
        total = (days * 24 + hours) * 60 + mins + (seconds > 0)
    elif parts := re.fullmatch(r"(\d{1,9})-(\d{1,9})", text):
        total = (int(parts[1]) * 24 + int(parts[2])) * 60
    else:
        total = 0
    if not total:
        raise ConfigError(
            f"{key}={_shorten(text)}: not a time limit; minutes (90), H:MM:SS (1:30:00) or D-HH:MM:SS (1-12:00:00)"
        )
    return total


def _shorten(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _parse_word(key: str, value: Any) -> str:
    text = str(value)
    if isinstance(value, (dict, list)) or not re.fullmatch(r"[\w.,:@+=/-]+", text):
        raise ConfigError(f"{key}={_shorten(text)}: not a name")
    return text


def _parse_count(key: str, value: Any) -> int:
    if not re.fullmatch(r"0*[1-9]\d{0,8}", str(value)):
        raise ConfigError(f"{key}={_shorten(value)}: not a whole number from 1 to 999999999")
    return int(value)


def _parse_gpus(key: str, value: Any) -> str:
    if not re.fullmatch(r"([\w.-]+:)?\d{1,9}", str(value)):
        raise ConfigError(f"{key}={_shorten(value)}: not a number of GPUs; a number (1) or TYPE:NUMBER (a100:2)")
    return str(value)


def _parse_memory(key: str, value: Any) -> str:
    if not re.fullmatch(r"0|[1-9]\d{0,11}[KMGT]B?", str(value), re.IGNORECASE):
        raise ConfigError(
            f"{key}={_shorten(value)}: not an amount of memory; a whole number and its unit (32G), or 0 for all"
        )
    return str(value)


def _parse_seconds(key: str, value: Any) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", str(value)) or float(value) < 0.1:
        raise ConfigError(f"{key}={_shorten(value)}: not a number of seconds from 0.1")
    return float(value)


def _parse_extra(key: str, value: Any) -> dict[str, str | bool]:
    """Options of sbatch by name; `true` for one that takes no value, `false` to leave one out that the file sets."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}={_shorten(value)}: not a mapping; for example {{constraint: a100}}")
    options: dict[str, str | bool] = {}
    for name, given in value.items():
        option = str(name).replace("_", "-")
        text = str(given)
        if not re.fullmatch(r"[a-z][a-z0-9-]*", option) or isinstance(given, (dict, list)) or not text.isprintable():
            raise ConfigError(f"{key}.{name}={_shorten(text)}: not an option of sbatch with its value")
        if _find_meant(option, OURS):
            raise ConfigError(f"{key}.{name}: the runner sets it, and follows its jobs by it")
        if option in OWN_KEYS:
            raise ConfigError(f"{key}.{name}: write {KEY}.{OWN_KEYS[option]}")
        options[option] = text.lower() == "true" if text.lower() in ("true", "false") else text
    return options


PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "partition": _parse_word,
    "account": _parse_word,
    "qos": _parse_word,
    "time": parse_minutes,
    "gpus": _parse_gpus,
    "cpus": _parse_count,
    "memory": _parse_memory,
    "nodes": _parse_count,
    "array_parallelism": _parse_count,
    "poll": _parse_seconds,
    "extra": _parse_extra,
}
OWN_KEYS = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "time": "time",
    "gpus-per-node": "gpus",
    "cpus-per-task": "cpus",
    "mem": "memory",
    "nodes": "nodes",
}
"""Options of sbatch that have a key of their own here."""
