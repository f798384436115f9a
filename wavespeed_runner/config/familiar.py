"""Finds what a name of ComfyUI, A1111 or diffusers is called here, by the tables of `familiar_names` and `_options`."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..errors import did_you_mean
from .familiar_names import DTYPES, KEYS, SIZES, SPACINGS, WEIGHTS
from .familiar_options import OFF, OPTIONS, REWRITTEN, SAMPLERS

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
    beginning = _strip(typed.lower())
    return [option for option in options if len(beginning) > 1 and _strip(option).startswith(beginning)]


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


def is_switched_off(key: str, value: str) -> bool:
    """Whether a top-level key of another tool asks for something that is off here anyway: `fp16=false`, `hires=0`."""
    ours = KEYS.get(key, "")
    return value.lower() in OFF and (" " in ours or "=" in ours) and "dtype" not in ours


def translate_key(key: str, value: str, list_options: Callable[[str], list[str]]) -> list[str]:
    """How a top-level key of another tool is written here: `["strength=0.6"]`; empty if the key is not known.

    Args:
        key: as typed.
        value: as typed, or `VALUE`.
        list_options: the options of a config group.
    """
    if key in SIZES and (sides := re.fullmatch(r"(\d+)(?:\s*[x*,]\s*(\d+))?", value, re.IGNORECASE)):
        return [f"width={sides[1]}", f"height={sides[2] or sides[1]}"]
    if key in (*SIZES, "aspect_ratio"):
        return ["width=PIXELS", "height=PIXELS"]
    if key in ("scheduler", "schedule_type"):  # a sampler, as in diffusers; spacings: `familiar_schedules`
        key = "sampler_name"
    elif key == "weight_dtype" and value.lower() in WEIGHTS:  # ComfyUI's, of a file that is loaded
        return [WEIGHTS[value.lower()]]
    elif key == "clip_stop_at_last_layers" and value.isdecimal():  # A1111 counts one more
        value = str(int(value) - 1 or "null")
    if key not in KEYS:
        return []
    *options, ours = KEYS[key].split(" ")
    if "=" in ours:  # an option alone, or a key with its value
        return [*options, "model.dtype=float32" if "dtype" in ours and value.lower() in OFF else ours]
    if value.lower() == "true" and options:  # switched on, without the number that the key needs
        return options
    return [*options, f"{ours}={_translate_value(ours, value, list_options(ours))}"]


def _translate_value(key: str, value: str, options: list[str]) -> str:
    if key == "device" and value.isdigit():
        return f"cuda:{value}"
    if key == "model.dtype":
        return DTYPES.get(value.lower().removeprefix("torch."), value)
    return find_familiar_option(key, value, options) or value
