"""How one calls diffusers' own pipelines by hand: what our three steps are held against.

Written from diffusers' documentation, on purpose not from our code: a prompt goes in, pixels come out. One entry a
family name (`model.name`): (config, task) -> keyword arguments of the call beside prompt, steps, size, generator and
pictures, which are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wavespeed_runner.config import Guidance

NEGATIVE = "dark"


def flux(config: Any, task: str) -> dict[str, Any]:
    call: dict[str, Any] = {"max_sequence_length": config.max_sequence_length}
    if config.guidance is Guidance.embedded:
        return call | {"guidance_scale": config.guidance_scale}
    if config.guidance is Guidance.true_cfg and config.guidance_scale > 1:
        return call | {"true_cfg_scale": config.guidance_scale, "negative_prompt": NEGATIVE}
    return call


CALLS: dict[str, Callable[[Any, str], dict[str, Any]]] = {"flux": flux}
