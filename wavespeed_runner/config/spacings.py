"""Explains the even spacings of ComfyUI's and A1111's schedulers, for which the right key depends on the model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .familiar_names import EVEN
from .suggestions import choose_accepted

NOTES = {
    "beta": (
        " (not ComfyUI's beta: diffusers takes the quantiles of the noise levels, ComfyUI of the training times, so "
        "the steps are others)"
    ),
    "normal": (
        " (ComfyUI's simple; its normal, whose last step begins at the smallest noise level, cannot be had on a flow "
        "model)"
    ),
}
"""Where the nearest spacing here has other noise levels than the one of the same name there."""


def note_difference(name: str) -> str:
    """What is different in a spacing of the same name; empty where nothing is known of it."""
    return NOTES["beta"] if name.strip().lower() == "beta" else ""


def find_even_spacing(name: str) -> tuple[str, str]:
    """The rest of a name and the spacing that it ends in: ("euler", "sgm_uniform"); empty without any.

    name: of a sampler or a scheduler, as typed: `euler_sgm_uniform`, `SGM Uniform`, `simple`.
    """
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    for spacing in EVEN:
        if plain == spacing or plain.endswith(f"_{spacing}"):
            return plain.removesuffix(spacing).rstrip("_"), spacing
    return "", ""


def find_spacing(name: str) -> str:
    """The spacing that a whole name is; empty for others."""
    before, spacing = find_even_spacing(name)
    return "" if before else spacing


def explain_even_spacing(spacing: str, typed: str, samplers: Sequence[str]) -> str:
    """How a spacing is written here for this model, or why it is refused.

    Args:
        spacing: one of `EVEN`.
        typed: the override as typed, in whose place the ways are tried; empty for one in a file.
        samplers: those it is tried with, the best first; empty for the one that is chosen.
    """
    timesteps, levels = EVEN[spacing]
    keys = [f"sampler.timestep_spacing={timesteps}", *([f"sampler.sigmas={levels}"] if levels else [])]
    ways = [[*([f"sampler={sampler}"] if sampler else []), key] for sampler in samplers for key in keys]
    way, refusal = choose_accepted(typed, ways)
    if refusal:  # the chosen sampler may lack the key, and the last one has it
        way, refusal = choose_accepted(typed, ways[-1:])
    if not refusal:
        note = NOTES.get(spacing, "") if way[-1].startswith("sampler.sigmas=") else ""
        return f"here it is {' '.join(way)}{note}"
    return f"here it is {' '.join(way)}, which is refused: {refusal}; without it: sampler={samplers[-1]}"
