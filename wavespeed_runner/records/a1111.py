"""Says of an image what users of A1111's web UI, ComfyUI and sites for images look for: the text `parameters`.

It is the form that the web UI writes, and no promise that its workflow gives this image: noise, kernels and caches are
ours. What makes the image again is our own text beside it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .. import __version__
from ..config.lossy import lossy_names
from ..config.schema import Config, Guidance, to_data
from ..errors import hide_controls
from ..registry import find_implementation
from ..rules.graph import list_unused_values
from ..samplers import resolve_sampler
from .names import model_name

A1111_KEY = "parameters"
NAMES = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "lms": "LMS",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm2_ancestral": "DPM2 a",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "ddim": "DDIM",
    "pndm": "PLMS",
    "unipc": "UniPC",
    "lcm": "LCM",
}
"""A sampler's name here -> there; others keep ours."""
NEGATIVE = "Negative prompt:"


def describe_as_a1111(config: Config, prompt: str, seed: int) -> str:
    """Prompt, negative prompt, and one line of settings, as `Steps: 28, Sampler: Euler, CFG scale: 3.5, ...`.

    A setting with a comma or a colon in it is in quotes, as JSON. The form has no such way for prompts, so a line of
    one that begins with `Negative prompt:` gets a space before the colon.

    Args:
        config: of the run.
        prompt: of the image.
        seed: of the image.
    """
    lines = [_write_text(prompt)]
    lines += [f"{NEGATIVE} {text}"] if (text := _write_text(config.negative_prompt or "")) else []
    settings = {key: value for key, value in _list_settings(config, seed).items() if value is not None}
    return "\n".join([*lines, ", ".join(f"{key}: {_quote(str(value))}" for key, value in settings.items())])


def _list_settings(config: Config, seed: int) -> dict[str, Any]:
    family = find_implementation("model", config.model)
    sampler = resolve_sampler(family, config.model, config.sampler)
    spacing = getattr(sampler, "sigmas", None)
    embedded, none = (config.model.guidance is kind for kind in (Guidance.embedded, Guidance.none))
    scale = None if config.guidance_scale is None else f"{config.guidance_scale:g}"
    own_scale = getattr(config.model, "true_cfg_scale", None) if embedded else None
    skipped = getattr(config.model, "clip_skip", None)
    return {
        "Steps": config.steps,
        "Sampler": NAMES.get(sampler.name, sampler.name),
        "Schedule type": None if spacing is None else spacing.value.title(),
        "CFG scale": f"{own_scale or 1:g}" if embedded or none else scale,
        "Distilled CFG Scale": scale if embedded else None,
        "Seed": seed,
        "Size": f"{config.width}x{config.height}",
        "Model": model_name(to_data(config.model)),
        "Denoising strength": None if "strength" in list_unused_values(config, family) else config.strength,
        "Clip skip": None if skipped is None else skipped + 1,  # 1 is none there
        "Acceleration": " + ".join(lossy_names(to_data(config))) or None,
        "Version": f"wavespeed_runner {__version__}",
    }


def _write_text(text: str) -> str:
    lines = (" ".join(line.split()) for line in hide_controls(text).split("\n"))
    return "\n".join(re.sub(f"^{NEGATIVE}", f"{NEGATIVE[:-1]} :", line) for line in lines).strip()


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n]", text) else text
