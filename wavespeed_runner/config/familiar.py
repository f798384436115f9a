"""Finds what a name of ComfyUI, A1111 or diffusers is called here, by the tables of `familiar_names.py`."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..errors import did_you_mean
from .familiar_names import KEYS, OPTIONS, REWRITTEN, SAMPLERS, SIZES, SPACINGS

MOST_MEANT = 6
"""Most options that a message names."""


def find_familiar_option(group: str, typed: str, options: list[str]) -> str:
    """The option of a group that somebody means by another tool's name for it; empty if none is known.

    Args:
        group: config group.
        typed: what was given for it.
        options: those that there are; nothing else is returned.
    """
    name = typed.strip().lower()
    found = rename_sampler(name) if group == "sampler" else OPTIONS.get(group, {}).get(name, name)
    plain = {_strip(option): option for option in options}  # `sd1.5`, `max-autotune`, `tea_cache`
    return found if found in options else plain.get(_strip(found), "")


def list_meant(group: str, typed: str, options: list[str]) -> list[str]:
    """The options that somebody may mean: by another tool's name, or by its beginning, as `sd3.5` or `fp8`."""
    if familiar := find_familiar_option(group, typed, options):
        return [familiar]
    return [o for o in options if len(typed) > 1 and _strip(o).startswith(_strip(typed.lower()) or o)]


def suggest_options(group: str, typed: str, options: list[str]) -> str:
    """` (did you mean 'x'?)` for what somebody typed as an option: one that is meant, or the nearest in spelling."""
    if meant := list_meant(group, typed, options):
        more = ", ..." if len(meant) > MOST_MEANT else ""
        return f" (did you mean {' or '.join(map(repr, meant[:MOST_MEANT]))}{more}?)"
    return did_you_mean(typed, options)


def _strip(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name)


def rename_sampler(name: str) -> str:
    """Another tool's name of a sampler, in small letters, rewritten as ours would be."""
    for spacing in ("", *SPACINGS):  # dpmsolver++ with Karras levels, too
        stem = name.removesuffix(spacing).rstrip("_ ") if spacing else name
        if stem in SAMPLERS:
            return "_".join(filter(None, [SAMPLERS[stem], spacing]))
    for pattern, ours in REWRITTEN:
        name = re.sub(pattern, ours, name)
    return SAMPLERS.get(name, name)


def describe_familiar_key(key: str, value: str, list_options: Callable[[str], list[str]]) -> str:
    """How a top-level key of another tool is written here: `strength=0.6`; empty if the key is not known.

    Args:
        key: as typed.
        value: as typed, or `VALUE`.
        list_options: the options of a config group.
    """
    if key in SIZES and (sides := re.fullmatch(r"(\d+)(?:\s*[x*,]\s*(\d+))?", value, re.IGNORECASE)):
        return f"width={sides[1]} height={sides[2] or sides[1]}"
    if key in (*SIZES, "aspect_ratio"):
        return "width=PIXELS height=PIXELS"
    if key == "scheduler":  # diffusers' word for a sampler, ComfyUI's for the spacing of its noise levels
        key = "use_karras_sigmas" if value in SPACINGS else "sampler_name"
    elif key == "use_karras_sigmas":
        value = "karras"
    ours = KEYS.get(key)
    if ours is None or "=" in ours.rpartition(" ")[2]:  # an option alone, or a key with its value
        return ours or ""
    return f"{ours}={find_familiar_option(ours, value, list_options(ours)) or value}"
