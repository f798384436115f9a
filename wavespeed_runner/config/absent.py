"""What people bring from other tools that is not here at all, and what is nearest. For messages alone."""

from __future__ import annotations

import re
from dataclasses import fields

from ..registry import list_names, lookup
from .familiar import list_meant, rename_sampler
from .familiar_names import SPACINGS
from .spacings import explain_even_spacing, find_even_spacing
from .suggestions import choose_accepted

_CONTROL = (
    "images that guide the layout (ControlNet, T2I-Adapter) are not supported; nearest is graph=image_to_image "
    "image=FILE strength=0.6"
)
_IMAGE_PROMPT = "image prompts (IP-Adapter) are not supported; nearest is graph=image_to_image image=FILE strength=0.6"
_FACES = "restoring faces is not supported; nearest is graph=detail, which draws regions again"

ABSENT_KEYS = {
    **dict.fromkeys(("controlnet", "control_net", "control_image", "t2i_adapter"), _CONTROL),
    **dict.fromkeys(("ip_adapter", "ipadapter", "ip_adapter_image", "image_prompt"), _IMAGE_PROMPT),
    **dict.fromkeys(("face_restore", "restore_faces", "gfpgan", "codeformer"), _FACES),
    "refiner": "a second model after the first is not supported; nearest is graph=hires_fix",
    "hypernetwork": "hypernetworks are not supported; nearest is adapters=lora adapters.path=FILE",
    "freeu": "FreeU is not supported",
    "tome": "token merging is not supported; caches skip work otherwise: cache=fbcache",
    "pag": "perturbed-attention guidance is not supported; nearest is guidance_scale",
    "sag": "self-attention guidance is not supported; nearest is guidance_scale",
    "safety_checker": "no safety checker is loaded, so there is none to switch off",
    "upscaler": "models that enlarge images are not supported; nearest is graph=hires_fix",
    "control_after_generate": "seeds are swept: -m seed=0,1,2 makes an image of each, and seed=-1 draws one",
    "style": "there are no styles; write it into prompt=...",
    **dict.fromkeys(
        ("max_shift", "base_shift"),
        "the model's own scheduler says how its shift grows with the size; sampler.shift=NUMBER fixes it for all sizes",
    ),
    "threads": "the environment variable OMP_NUM_THREADS sets the threads of a CPU",
}
"""A top-level key -> why there is none like it."""

SAMPLERS = {
    "dpmpp_sde": ("needs the package torchsde and draws noise that no seed controls", "dpmpp_2m_sde"),
    "dpmpp_2s_ancestral": ("has no scheduler in diffusers", "dpmpp_2s"),
    "dpm_fast": ("has no scheduler in diffusers", "dpmpp_2s"),
    "dpm_adaptive": ("has no scheduler in diffusers", "dpmpp_2s"),
    "ipndm": ("has times of its own in diffusers, between 0 and 1", "pndm"),
    "ipndm_v": ("has no scheduler in diffusers", "pndm"),
    "res_multistep": ("has no scheduler in diffusers", "dpmpp_2m"),
    "heunpp2": ("has no scheduler in diffusers", "heun"),
    "restart": ("has no scheduler in diffusers", "heun"),
    "er_sde": ("has no scheduler in diffusers", "dpmpp_3m_sde"),
}
"""A sampler of ComfyUI or A1111 -> why there is none like it, and the nearest. Reasons: `samplers/table`."""

_OPTIONS = {
    ("graph", "controlnet"): (_CONTROL, ""),
    **{("quant", name): ("bitsandbytes is not used", "int4_wo") for name in ("nf4", "bnb", "bitsandbytes")},
    **{
        ("model", name): ("it has no option of its own", f"{like} model.repo={repo} steps=4 guidance_scale=1")
        for name, like, repo in (
            ("sdxl_turbo", "sdxl", "stabilityai/sdxl-turbo"),
            ("sd_turbo", "sd21", "stabilityai/sd-turbo"),
        )
    },
    ("quant", "gguf"): ("a GGUF file brings its own quantization: model=FAMILY model.repo=FILE.gguf", ""),
}
"""Group and what was given for it -> why there is none like it, and the nearest."""

_FILES = {
    "adapters": (r"\.safetensors$", "adapters=lora adapters.path={}"),
    "prompts": (r"\.(txt|ya?ml|csv)$", "prompts=file prompts.path={}"),
    "sampler": (r"\.ya?ml$", "sampler=NAME, where NAME.yaml lies in DIR/sampler, and --config-dir DIR"),
}
"""Group -> how a file looks that is typed as its option, and what to type instead."""


NEXT = {"sampler": ("dpmpp_2m", "euler"), "quant": ("int8_wo",)}
"""Group -> what is offered where the nearest is refused."""


def explain_absent_option(group: str, option: str, typed: str) -> str:
    """Why a group has no option like this one, and what is nearest; empty where nothing is known of it.

    Args:
        group: config group.
        option: what was given for it.
        typed: the override as typed, in whose place the nearest is tried; empty for one in a file.
    """
    pattern, instead = _FILES.get(group, ("$^", ""))
    if re.search(pattern, option, re.IGNORECASE):
        return f"an option is a name; here it is {instead.format(option)}"
    if group == "sampler":
        if even := _explain_even(option, typed):
            return even
        name = rename_sampler(option.strip().lower())
        stem = re.sub(rf"_({'|'.join(SPACINGS)})$", "", name)
        if stem in SAMPLERS:
            why, nearest = SAMPLERS[stem]
            return f"{stem} {why}; {_offer_nearest(group, nearest, typed)}"
        if stem != name and stem in list_names("sampler"):
            return explain_joined_spacing(stem, name.removeprefix(f"{stem}_"), typed)
    why, nearest = _OPTIONS.get((group, option.strip().lower()), ("", ""))
    return f"{why}; {_offer_nearest(group, nearest, typed)}" if nearest else why


def names_schedule(value: str, samplers: list[str]) -> bool:
    """Whether what was typed for `scheduler` is a spacing of noise levels, or somebody's name of some sampler."""
    name = rename_sampler(value.strip().lower())
    stem = re.sub(rf"_({'|'.join(SPACINGS)})$", "", name)
    known = {*SPACINGS, *SAMPLERS, *samplers}
    return bool({name, stem} & known) or bool(list_meant("sampler", value, samplers)) or "sde" in name


def _explain_even(option: str, typed: str) -> str:
    """How a sampler is written whose name is, or ends in, one of ComfyUI's even spacings; empty for others."""
    before, spacing = find_even_spacing(option)
    sampler = rename_sampler(before) if before else "euler"
    is_sampler = spacing == "ddim_uniform" and not before  # what people call ddim
    if not spacing or is_sampler or sampler not in list_names("sampler"):
        return ""
    return explain_even_spacing(spacing, typed, [sampler])


def explain_joined_spacing(sampler: str, spacing: str, typed: str) -> str:
    """How a sampler has a spacing that no shipped option joins to it, or that it cannot have it on this model."""
    refusal = f"sampler={sampler} has no such choice"
    if any(field.name == "sigmas" for field in fields(lookup("sampler", sampler).options)):
        way, refusal = choose_accepted(typed, [[f"sampler={sampler}", f"sampler.sigmas={spacing}"]])
        if not refusal:
            return f"here it is {' '.join(way)}"
    return f"no {spacing} noise levels here ({refusal}); without them it is sampler={sampler}"


def _offer_nearest(group: str, nearest: str, typed: str) -> str:
    """The nearest option that is not refused, or why it is."""
    ways = [f"{group}={option}".split(" ") for option in (nearest, *NEXT.get(group, ()))]
    way, refusal = choose_accepted(typed, ways)
    return f"nearest is {' '.join(way)}" + (f", which is refused: {refusal}" if refusal else "")
