"""Explains what ComfyUI and A1111 call a scheduler: the spacing of the noise levels, keys of the sampler here."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .absent import explain_joined_spacing, names_schedule
from .familiar import rename_sampler
from .familiar_models import find_chosen_model
from .familiar_names import KEYS, SPACINGS
from .spacings import explain_even_spacing, find_spacing, note_difference
from .suggestions import choose_accepted, find_given

SCHEDULERS = ("scheduler", "schedule_type")
SWITCHES = {f"use_{spacing}_sigmas": spacing for spacing in SPACINGS}
"""diffusers' switches -> the spacing."""
LEVELS = (
    "sampler.sigmas=karras, exponential, beta or uniform, or sampler.timestep_spacing=linspace, leading or trailing"
)
BETWEEN_TIMES = ("euler", "heun", "lms", "dpm2", "dpm2_ancestral")
"""Samplers whose classes in diffusers put Karras and exponential levels between those of the first and the last step of
`timestep_spacing`. ComfyUI, and the classes of all others, put them between the highest and the lowest level of the
training, which are those of linspace."""
RANGED = ("karras", "exponential")


def explain_schedule(key: str, value: str, typed: str, samplers: Sequence[str]) -> str:
    """How a word for the spacing of noise levels is written here; empty for any other key, and for a sampler's name.

    Args:
        key: as typed.
        value: as typed, or a word that stands for it.
        typed: the override as typed; empty for a key in a file.
        samplers: the shipped options.
    """
    if key in SWITCHES:
        return _explain_levels(SWITCHES[key], typed, samplers, is_comfy=False)
    return explain_spacing(value, typed, samplers) if key in SCHEDULERS else ""


def explain_spacing(value: str, typed: str, samplers: Sequence[str]) -> str:
    """As `explain_schedule`, of a value alone."""
    value = value.strip("'\"")
    if spacing := find_spacing(value):
        sampler, choose = _find_meant_sampler(samplers)
        return explain_even_spacing(spacing, typed, [sampler] if choose == [True] else ["", "euler"])
    if value.strip().lower() in SPACINGS:
        return _explain_levels(value.strip().lower(), typed, samplers, is_comfy=True)
    if value in ("", "VALUE") or names_schedule(value, list(samplers)):
        return ""
    return f"noise levels are keys of the sampler here, and none is called {value}: {LEVELS}"


def _find_meant_sampler(samplers: Sequence[str]) -> tuple[str, list[bool]]:
    """The sampler that the command line means, and whether each way to try has to choose it, too."""
    given = find_given("sampler").strip("'\"")
    if given in samplers and given != "default":
        return given, [False]
    words = [find_given(word).strip("'\"") for word, ours in KEYS.items() if ours == "sampler"]
    names = [rename_sampler(name.lower()) for name in (given, *words) if name]
    known = next((name for name in names if name in samplers and name != "default"), "")
    return known or "euler", [True] if known else [False, True]


def _explain_levels(spacing: str, typed: str, samplers: Sequence[str], *, is_comfy: bool) -> str:
    """How Karras, exponential or beta levels are written here.

    Args:
        spacing: one of `SPACINGS`.
        typed: as of `explain_schedule`.
        samplers: as of `explain_schedule`.
        is_comfy: they are ComfyUI's or A1111's, and not diffusers'.
    """
    sampler, choices = _find_meant_sampler(samplers)
    stem = re.sub(rf"_({'|'.join(SPACINGS)})$", "", sampler)
    levels = [f"sampler.sigmas={spacing}"]
    whole = is_comfy and spacing in RANGED and stem in BETWEEN_TIMES
    tails = [[*levels, "sampler.timestep_spacing=linspace"], levels] if whole else [levels]
    ways = [[*([f"sampler={stem}"] if choose else []), *tail] for choose in choices for tail in tails]
    way, refusal = choose_accepted(typed, ways)
    if refusal:
        return explain_joined_spacing(stem, spacing, typed)
    return f"here it is {' '.join(way)}{_note(spacing) if is_comfy else ''}"


def _note(spacing: str) -> str:
    """What is different from ComfyUI's spacing of the same name; empty where nothing is."""
    model = find_chosen_model()
    if spacing in RANGED and model is not None and model.is_flow:
        return (
            f" (not ComfyUI's {spacing}, which goes down to the lowest noise level of the training: here, on flow "
            "models, it ends where the last even step begins)"
        )
    return note_difference(spacing)
