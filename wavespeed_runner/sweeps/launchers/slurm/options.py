"""What is asked of Slurm: from the command line (`hydra.launcher.KEY=VALUE`), else from the site's own file.

The file belongs to one machine or one person and is not shared: partition and account are nobody else's business, and
an experiment file cannot set any of it (`trust.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from ....errors import ConfigError, did_you_mean, one_line

LOCAL = "slurm.local.yaml"
"""The site's own values, in the folder where the command runs."""
VARIABLE = "WAVESPEED_SLURM"
"""Environment variable that names another file instead."""
KEY = "hydra.launcher"

OURS = ("array", "chdir", "error", "job-name", "no-requeue", "open-mode", "output", "signal", "wrap")
"""sbatch options that following the jobs depends on."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Null means that Slurm is not told, and the cluster's own default holds."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: int = 60
    """Minutes that one job may take. A job that a time limit ended goes on from the store when it runs again."""
    gpus: str | None = None
    """Of one job: a number, or TYPE:NUMBER."""
    cpus: int | None = None
    """Cores of one job."""
    memory: str | None = None
    """Of one job's node, with its unit: 500M, 32G; 0 is all of it."""
    array_parallelism: int | None = None
    """How many jobs run at once."""
    poll: float = 10.0
    """Seconds between two looks at the queue and the records."""
    extra: dict[str, str | bool] = field(default_factory=dict)
    """Any other options of sbatch: {constraint: a100, exclusive: true}."""


def options_of(typed: Mapping[str, Any]) -> Options:
    """The options, of which each that was not typed is taken from the local file.

    Args:
        typed: the composed `hydra.launcher` node, whose nulls were not typed.

    Raises:
        ConfigError: an unknown key, or a value that is not what the key takes.
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
            read = READERS[key](f"{where}{key}", value)
            values[key] = {**values.get(key, {}), **read} if isinstance(read, dict) else read
    return Options(**values)


def read_local() -> tuple[str, dict[str, Any]]:
    """The site's file, as it is called in messages, and what it holds: text alone, for YAML takes 4:00:00 for 14400."""
    named = os.environ.get(VARIABLE)
    path = Path(named or LOCAL).expanduser()
    if not named and not path.is_file():
        return LOCAL, {}
    try:
        held = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # builds text only
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        source = f"{VARIABLE}={path}" if named else str(path)
        raise ConfigError(f"{source}: cannot be read: {one_line(error)}") from None
    if held in (None, ""):
        return str(path), {}
    if not isinstance(held, dict):
        raise ConfigError(f"{path}: holds no keys; write one KEY: VALUE a line, for example partition: gpu")
    return str(path), held


def minutes(key: str, value: Any) -> int:
    """A time limit in minutes, rounded up, from minutes, [D-]H:MM:SS or D-H."""
    text = str(value).strip()
    if re.fullmatch(r"\d+", text):
        found = int(text)
    elif parts := re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", text):
        days, hours, mins, seconds = (int(part or 0) for part in parts.groups())
        found = (days * 24 + hours) * 60 + mins + (seconds > 0)
    elif parts := re.fullmatch(r"(\d+)-(\d+)", text):
        found = (int(parts[1]) * 24 + int(parts[2])) * 60
    else:
        found = 0
    if not found:
        raise ConfigError(f"{key}={text}: not a time limit; minutes (90), H:MM:SS (1:30:00) or D-HH:MM:SS (1-12:00:00)")
    return found


def _word(key: str, value: Any) -> str:
    text = str(value)
    if isinstance(value, (dict, list)) or not re.fullmatch(r"[\w.,:@+=/-]+", text):
        raise ConfigError(f"{key}={' '.join(text.split())}: not a name")
    return text


def _count(key: str, value: Any) -> int:
    if not re.fullmatch(r"0*[1-9]\d*", str(value)):
        raise ConfigError(f"{key}={value}: not a whole number from 1")
    return int(value)


def _gpus(key: str, value: Any) -> str:
    if not re.fullmatch(r"([\w.-]+:)?\d+", str(value)):
        raise ConfigError(f"{key}={value}: not a number of GPUs; a number (1) or TYPE:NUMBER (a100:2)")
    return str(value)


def _memory(key: str, value: Any) -> str:
    if not re.fullmatch(r"0|[1-9]\d*[KMGT]B?", str(value), re.IGNORECASE):
        raise ConfigError(f"{key}={value}: not an amount of memory; a whole number and its unit (32G), or 0 for all")
    return str(value)


def _seconds(key: str, value: Any) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", str(value)) or float(value) < 0.1:
        raise ConfigError(f"{key}={value}: not a number of seconds from 0.1")
    return float(value)


def _extra(key: str, value: Any) -> dict[str, str | bool]:
    """sbatch options by name; `true` for one that takes no value, `false` takes one back."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}={value}: not a mapping; for example {{constraint: a100}}")
    read: dict[str, str | bool] = {}
    for name, given in value.items():
        option = str(name).replace("_", "-")
        text = str(given)
        if not re.fullmatch(r"[a-z][a-z0-9-]*", option) or isinstance(given, (dict, list)) or not text.isprintable():
            raise ConfigError(f"{key}.{name}={' '.join(text.split())}: not an option of sbatch with its value")
        if option in OURS:
            raise ConfigError(f"{key}.{name}: set by the runner, which finds its jobs by it")
        own = next((o for o in SAME_AS if option in SAME_AS[o]), None)
        if own:
            raise ConfigError(f"{key}.{name}: write {KEY}.{own}")
        read[option] = text.lower() == "true" if text.lower() in ("true", "false") else text
    return read


READERS = {
    "partition": _word,
    "account": _word,
    "qos": _word,
    "time": minutes,
    "gpus": _gpus,
    "cpus": _count,
    "memory": _memory,
    "array_parallelism": _count,
    "poll": _seconds,
    "extra": _extra,
}
SAME_AS = {
    "partition": ("partition",),
    "account": ("account",),
    "qos": ("qos",),
    "time": ("time",),
    "gpus": ("gpus-per-node",),
    "cpus": ("cpus-per-task",),
    "memory": ("mem",),
}
"""Options of ours -> what sbatch calls them."""
