"""What varies in a sweep, what each of its jobs is called in a plot, and the command that makes them."""

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
"""Keys whose last word would mislead."""
ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")
"""As Hydra's sweeper writes what it has parsed: `a\\ red\\ circle`."""
SPECIAL = frozenset(",()[]{}:=\\'\"")
"""Characters that would have to be quoted in a list of values."""
NOT_SWEPT = ("outputs", "rerun", "dry_run")
"""Keys that have no influence on the result."""


def split_overrides(overrides: Sequence[str]) -> dict[str, str]:
    """Splits overrides into key -> value as typed, without those that have no influence on the result."""
    values = {}
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key not in NOT_SWEPT and not key.startswith("hydra"):
            values[key] = value if value[:1] in ("'", '"') else ESCAPED.sub(r"\1", value)
    return values


def find_varying_keys(jobs: Sequence[Mapping[str, str]]) -> list[str]:
    """Returns the keys whose values are not the same in all jobs, in the order in which they first appear."""
    values: dict[str, set[str]] = {}
    for job in jobs:
        for key, value in job.items():
            values.setdefault(key, set()).add(value)
    counted = Counter(key for job in jobs for key in job)
    return [key for key, different in values.items() if len(different) > 1 or counted[key] < len(jobs)]


def find_naming_keys(jobs: Sequence[Mapping[str, str]], rivals: Sequence[bool]) -> list[str]:
    """Returns the axes that name a setting, those first in which its rivals do not vary as well.

    Where there are no such axes, all that vary: `seed` alone does not tell a setting from fewer steps.

    Args:
        jobs: axis -> value, "" where a job leaves it as it is.
        rivals: whether a job only has fewer steps.
    """
    # How often and against what a job is measured does not name it.
    given = [{key: value for key, value in job.items() if value and not key.startswith("measure.")} for job in jobs]
    of_settings = find_varying_keys([job for job, rival in zip(given, rivals, strict=True) if not rival])
    of_rivals = find_varying_keys([job for job, rival in zip(given, rivals, strict=True) if rival])
    only_settings = [key for key in of_settings if key not in of_rivals]
    if only_settings or not any(rivals):
        return only_settings + [key for key in of_settings if key in of_rivals]
    among_all = find_varying_keys(given)
    return [key for key in jobs[0] if key in among_all]


def shorten_to_words(keys: Sequence[str]) -> dict[str, str]:
    """Key -> as few of its last words as tell it from the others, for labels in plots.

    `cache.residual_diff_threshold` -> `threshold`.
    """
    return _shortest_endings({key: re.split(r"[/._]", NAMES.get(key, key)) for key in keys}, " ")


def shorten_to_parts(keys: Sequence[str]) -> dict[str, str]:
    """Key -> as few of its last dotted parts as tell it from the others, for heads of columns, which have more room.

    `cache.residual_diff_threshold` -> `residual_diff_threshold`.
    """
    return _shortest_endings({key: key.split(".") for key in keys}, ".")


def _shortest_endings(parts: Mapping[str, Sequence[str]], joint: str) -> dict[str, str]:
    endings = {}
    for key, own in parts.items():
        count = 1
        while count < len(own) and sum(other[-count:] == own[-count:] for other in parts.values()) > 1:
            count += 1
        endings[key] = joint.join(own[-count:])
    return endings


def label_jobs(
    jobs: Sequence[Mapping[str, str]], names: Sequence[str], *, rivals: Sequence[str | None], settings: Sequence[str]
) -> list[str]:
    """Returns a short label for each job, no two the same.

    Args:
        jobs: axis -> value, "" where a job leaves it as it is.
        names: of the folders; they are added where nothing else tells two jobs apart.
        rivals: `14 steps`: what jobs are called that only have fewer steps or another sampler, None for the others.
        settings: what to call a job in which no axis is set.
    """
    used = [_label_values(job, rival) for job, rival in zip(jobs, rivals, strict=True)]
    keys = find_naming_keys(jobs, [rival is not None for rival in rivals])
    of_rivals = [
        {key: value for key, value in job.items() if not key.startswith("measure.")}
        for job, rival in zip(used, rivals, strict=True)
        if rival is not None
    ]
    keys += [key for key in find_varying_keys(of_rivals) if key not in keys]
    values = [key for key in keys if not is_group(key)]
    short = shorten_to_words(values) if len(values) > 1 else dict.fromkeys(values, "")
    labels = []
    for job, rival, setting in zip(used, rivals, settings, strict=True):
        parts = [f"{short.get(key, '')} {_describe_value(key, job[key])}".strip() for key in keys if job.get(key)]
        labels.append(", ".join(([rival] if rival else []) + parts) or setting)
    counted = Counter(labels)
    return [f"{label} ({name})" if counted[label] > 1 else label for label, name in zip(labels, names, strict=True)]


def _label_values(job: Mapping[str, str], rival: str | None) -> dict[str, str]:
    """The axes of a job that its label may name; of a rival `14 steps` says which cache and how many steps."""
    implied = ("steps", "cache") if rival is not None else ()
    return {key: value for key, value in job.items() if value and key not in implied}


def _describe_value(key: str, value: str) -> str:
    """A value as a label has it: `cache=none` is "no cache"."""
    return f"no {key}" if value == "none" and is_group(key) else shorten_value(value)


def shorten_value(value: str) -> str:
    """A value without quotes and control characters, and not too long for a plot."""
    text = make_printable(value)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"


def build_command(listing: Listing, typed: Sequence[dict[str, str]], axes: Sequence[str]) -> str:
    """Returns the command that makes these jobs: as typed where that is known, "" where no single one would.

    Args:
        listing: the jobs.
        typed: key -> value as typed, for each job.
        axes: swept keys.
    """
    start = "python -m wavespeed_runner"
    if listing.command:
        words = listing.command
        own = words[1:] if "=" not in words[0] and not words[0].startswith("-") else words
        return f"{start} {shlex.join(_drop_local(own))}"
    if len(typed) == 1:
        return f"{start} {shlex.join(_drop_local(listing.jobs[0].overrides))}"
    values = {key: list(dict.fromkeys(own[key] for own in typed if key in own)) for key in axes}
    points = {tuple(own.get(key) for key in axes) for own in typed}
    is_grid = all(None not in point for point in points) and len(points) == len(typed) == prod(
        map(len, values.values())
    )
    if not is_grid or any(SPECIAL & set(value) for own in values.values() for value in own):
        return ""
    common = {word for job in listing.jobs for word in _drop_local(job.overrides) if _key(word) not in axes}
    if any(not common <= set(job.overrides) for job in listing.jobs):
        return ""
    first = [
        f"{override.partition('=')[0]}={','.join(values[key])}" if (key := _key(override)) in axes else override
        for override in _drop_local(listing.jobs[0].overrides)
    ]
    return f"{start} -m {shlex.join(first)}"


def _drop_local(words: Sequence[str]) -> list[str]:
    """Drops what belongs to one machine and has no influence on the result: where results are written."""
    return [word for word in words if "=" not in word or _key(word) not in NOT_SWEPT]


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]
