"""What varies in a sweep, what to call each of its jobs in a plot, and the command that makes them."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod

from ..errors import make_printable
from .listing import Listing
from .override_yaml import is_group

LONGEST = 28
"""Most characters of a value in a label."""
NAMES = {"num_images_per_prompt": "images", "guidance_scale": "guidance"}
"""Keys whose last word says something else."""
ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")
"""As Hydra's sweeper writes what it has parsed: `a\\ red\\ circle`."""
SPECIAL = frozenset(",()[]{}:=\\'\"")
"""Characters that would have to be quoted in a list of values."""
NOT_SWEPT = ("outputs", "rerun", "dry_run")


def by_key(overrides: Sequence[str]) -> dict[str, str]:
    """Overrides as typed, key -> value; those that decide nothing of the result left out."""
    found = {}
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key not in NOT_SWEPT and not key.startswith("hydra"):
            found[key] = value if value[:1] in ("'", '"') else ESCAPED.sub(r"\1", value)
    return found


def varying(jobs: Sequence[Mapping[str, str]]) -> list[str]:
    """Keys whose values are not the same in all jobs, as they first appear."""
    seen: dict[str, set[str]] = {}
    for job in jobs:
        for key, value in job.items():
            seen.setdefault(key, set()).add(value)
    counted = Counter(key for job in jobs for key in job)
    return [key for key, values in seen.items() if len(values) > 1 or counted[key] < len(jobs)]


def telling(jobs: Sequence[Mapping[str, str]], rivals: Sequence[bool]) -> list[str]:
    """The axes that say what a setting is, those first that its rivals do not vary in too.

    Where there are none of these, all that vary: by `seed` alone nobody knows a setting from fewer steps.

    Args:
        jobs: axis -> value, "" where a job leaves it as it is.
        rivals: whether a job only has fewer steps.
    """
    # A measured choice (how often, against what) is no setting.
    given = [{key: value for key, value in job.items() if value and not key.startswith("measure.")} for job in jobs]
    own = varying([job for job, rival in zip(given, rivals, strict=True) if not rival])
    theirs = varying([job for job, rival in zip(given, rivals, strict=True) if rival])
    first = [key for key in own if key not in theirs]
    if first or not any(rivals):
        return first + [key for key in own if key in theirs]
    among = varying(given)
    return [key for key in jobs[0] if key in among]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last words of each key, as many as tell the keys apart: `cache.residual_diff_threshold` -> `threshold`."""
    words = {key: NAMES.get(key, key).replace("/", ".").replace(".", "_").split("_") for key in keys}

    def ending(key: str, count: int) -> str:
        return " ".join(words[key][-count:])

    found = {}
    for key in words:
        count = 1
        while count < len(words[key]) and sum(ending(other, count) == ending(key, count) for other in words) > 1:
            count += 1
        found[key] = ending(key, count)
    return found


def column_names(axes: list[str]) -> list[str]:
    """The last part of each key, or as many parts as tell it from the others."""
    names = []
    for key in axes:
        parts = key.split(".")
        alike = [other for other in axes if other != key]
        tail = next(
            (n for n in range(1, len(parts)) if not any(o.split(".")[-n:] == parts[-n:] for o in alike)), len(parts)
        )
        names.append(".".join(parts[-tail:]))
    return names


def labels(
    jobs: Sequence[Mapping[str, str]], names: Sequence[str], *, rivals: Sequence[int | None], settings: Sequence[str]
) -> list[str]:
    """A short name for each job, no two the same.

    Args:
        jobs: axis -> value, "" where a job leaves it as it is.
        names: of the folders: told where nothing else tells two jobs apart.
        rivals: the steps of jobs that only have fewer steps, None for the others: `14 steps`.
        settings: what to call a job in which no axis is set.
    """
    used = [_telling(job, rival) for job, rival in zip(jobs, rivals, strict=True)]
    told = telling(jobs, [steps is not None for steps in rivals])
    fewer = [
        {key: value for key, value in job.items() if not key.startswith("measure.")}
        for job, steps in zip(used, rivals, strict=True)
        if steps is not None
    ]
    told += [key for key in varying(fewer) if key not in told]
    values = [key for key in told if not is_group(key)]
    short = short_names(values) if len(values) > 1 else dict.fromkeys(values, "")
    made = []
    for job, steps, setting in zip(used, rivals, settings, strict=True):
        parts = [f"{short.get(key, '')} {_said(key, job[key])}".strip() for key in told if job.get(key)]
        made.append(", ".join([f"{steps} steps"] * (steps is not None) + parts) or setting)
    counted = Counter(made)
    return [f"{label} ({name})" if counted[label] > 1 else label for label, name in zip(made, names, strict=True)]


def _telling(job: Mapping[str, str], rival: int | None) -> dict[str, str]:
    """The axes of a job that its label may name; `14 steps` has said what makes a rival."""
    said = ("steps", "cache") if rival is not None else ()
    return {key: value for key, value in job.items() if value and key not in said}


def _said(key: str, value: str) -> str:
    """A value as a label has it: `cache=none` is "no cache"."""
    return f"no {key}" if value == "none" and is_group(key) else _cut(value)


def _cut(value: str) -> str:
    """A value without quotes, control characters and what would be too long for a plot."""
    text = make_printable(value)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"


def command(found: Listing, typed: Sequence[dict[str, str]], axes: Sequence[str]) -> str:
    """As typed; without a word of that, what gives the same jobs; empty where no single command would."""
    start = "python -m wavespeed_runner"
    if found.command:
        words = found.command
        own = words[1:] if "=" not in words[0] and not words[0].startswith("-") else words
        return f"{start} {shlex.join(_shared(own))}"
    if len(typed) == 1:
        return f"{start} {shlex.join(_shared(found.jobs[0].overrides))}"
    values = {key: list(dict.fromkeys(own[key] for own in typed if key in own)) for key in axes}
    wanted = {tuple(own.get(key) for key in axes) for own in typed}
    full = all(None not in one for one in wanted) and len(wanted) == len(typed) == prod(map(len, values.values()))
    if not full or any(SPECIAL & set(value) for own in values.values() for value in own):
        return ""
    common = {override for job in found.jobs for override in _shared(job.overrides) if _key(override) not in axes}
    if any(not common <= set(job.overrides) for job in found.jobs):
        return ""
    first = [
        f"{override.partition('=')[0]}={','.join(values[key])}" if (key := _key(override)) in axes else override
        for override in _shared(found.jobs[0].overrides)
    ]
    return f"{start} -m {shlex.join(first)}"


def _shared(words: Sequence[str]) -> list[str]:
    """Without what is of one machine and decides nothing: where results are written."""
    return [word for word in words if "=" not in word or _key(word) not in NOT_SWEPT]


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]
