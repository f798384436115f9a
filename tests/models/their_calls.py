"""How a user calls diffusers' own pipelines; tests compare our stages with these calls.

Written from diffusers' documentation, on purpose not from our code: a prompt goes in, pixels come out. One entry per
family name (`model.name`): (config, task) -> keyword arguments of the call, except prompt, steps, size, generator and
images, which all calls have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus

from wavespeed_runner.config.schema import Guidance

NEGATIVE = "dark"


def flux(config: Any, task: str) -> dict[str, Any]:
    call: dict[str, Any] = {"max_sequence_length": config.max_sequence_length}
    if config.guidance is Guidance.embedded:
        return call | {"guidance_scale": config.guidance_scale}
    if config.guidance is Guidance.true_cfg and config.guidance_scale > 1:
        return call | {"true_cfg_scale": config.guidance_scale, "negative_prompt": NEGATIVE}
    return call


def flux_kontext(config: Any, task: str) -> dict[str, Any]:
    # Without these the pipeline makes images of a million pixels, and reads them so; tests make 128 x 128.
    return {"guidance_scale": 2.5, "max_area": 128 * 128, "_auto_resize": False}


def flux_fill(config: Any, task: str) -> dict[str, Any]:
    return {"guidance_scale": 30.0}


def flux2(config: Any, task: str) -> dict[str, Any]:
    return {"guidance_scale": 4.0, "max_sequence_length": 512}


def flux2_klein(config: Any, task: str) -> dict[str, Any]:
    if "base" in config.repo:
        return {"guidance_scale": 4.0, "negative_prompt": NEGATIVE}
    return {}


def qwen_image(config: Any, task: str) -> dict[str, Any]:
    return {"true_cfg_scale": 4.0, "negative_prompt": NEGATIVE}


def qwen_image_edit(config: Any, task: str) -> dict[str, Any]:
    return {"true_cfg_scale": 4.0, "negative_prompt": NEGATIVE}


def z_image(config: Any, task: str) -> dict[str, Any]:
    if "Turbo" in config.repo:
        return {"guidance_scale": 0.0}
    return {"guidance_scale": 4.0, "negative_prompt": NEGATIVE}


def stable_diffusion(config: Any, task: str) -> dict[str, Any]:
    return {"guidance_scale": config.guidance_scale, "negative_prompt": NEGATIVE}


def ltx_video(config: Any, task: str) -> dict[str, Any]:
    call = {"guidance_scale": 3.0, "negative_prompt": NEGATIVE, "frame_rate": 25}
    if "0.9.5" in config.repo:
        return call | {"decode_timestep": 0.05, "decode_noise_scale": 0.025, "max_sequence_length": 256}
    return call


def sd3(config: Any, task: str) -> dict[str, Any]:
    return {"guidance_scale": 4.5 if "medium" in config.repo else 3.5, "negative_prompt": NEGATIVE}


def chroma(config: Any, task: str) -> dict[str, Any]:
    return {"guidance_scale": 3.0, "negative_prompt": NEGATIVE, "max_sequence_length": 512}  # inpaint's default is 256


def hidream(config: Any, task: str) -> dict[str, Any]:
    if config.repo.endswith("Full"):
        return {"guidance_scale": 5.0, "negative_prompt": NEGATIVE}
    # Their scheduler draws noise, and the pipeline gives it no generator: all of it from the process's own, then.
    return {"guidance_scale": 0.0, "generator": None}


def wan(config: Any, task: str) -> dict[str, Any]:
    call = {"guidance_scale": 5.0, "negative_prompt": NEGATIVE, "max_sequence_length": 512}
    if "1.3B" in config.repo:
        return call | {"guidance_scale": 6.0}
    if "Wan2.2-T2V-A14B" in config.repo:
        return call | {"guidance_scale": 4.0, "guidance_scale_2": 3.0}
    if "Wan2.2-I2V-A14B" in config.repo:
        return call | {"guidance_scale": 3.5}
    return call


def cogvideox(config: Any, task: str) -> dict[str, Any]:
    return {"guidance_scale": 6.0, "negative_prompt": NEGATIVE, "use_dynamic_cfg": "2b" not in config.repo}


def hunyuan_video(config: Any, task: str) -> dict[str, Any]:
    return {"guidance_scale": 6.0}


def ltx2(config: Any, task: str) -> dict[str, Any]:
    own = {"spatio_temporal_guidance_blocks": [1]}  # what is given here is the pipeline's default but for this block
    return own | {"negative_prompt": NEGATIVE, "frame_rate": 24.0, "use_cross_timestep": "2.3" in config.repo}


def hunyuan_video15(config: Any, task: str) -> dict[str, Any]:
    return {"negative_prompt": NEGATIVE}  # the scale is the pipeline's own


def lumina2(config: Any, task: str) -> dict[str, Any]:
    return {"guidance_scale": 4.0, "negative_prompt": NEGATIVE, "cfg_trunc_ratio": 0.25, "cfg_normalization": True}


def pixart_sigma(config: Any, task: str) -> dict[str, Any]:
    return {"guidance_scale": 4.5, "negative_prompt": NEGATIVE, "use_resolution_binning": False, "clean_caption": False}


def sana(config: Any, task: str) -> dict[str, Any]:
    return {"guidance_scale": 4.5, "negative_prompt": NEGATIVE, "use_resolution_binning": False}


CALLS: dict[str, Callable[[Any, str], dict[str, Any]]] = {
    "chroma": chroma,
    **dict.fromkeys(("cogvideox", "cogvideox_i2v"), cogvideox),
    "flux": flux,
    "flux_fill": flux_fill,
    "flux_kontext": flux_kontext,
    "flux2": flux2,
    "flux2_klein": flux2_klein,
    "hunyuan_video": hunyuan_video,
    "hunyuan_video_i2v": hunyuan_video,
    "hunyuan_video15": hunyuan_video15,
    "hunyuan_video15_i2v": hunyuan_video15,
    "ltx2": ltx2,
    "ltx_video": ltx_video,
    "hidream": hidream,
    "lumina2": lumina2,
    "pixart_sigma": pixart_sigma,
    "qwen_image": qwen_image,
    **dict.fromkeys(("qwen_image_edit", "qwen_image_edit_plus"), qwen_image_edit),
    "sana": sana,
    "sd3": sd3,
    "sd": stable_diffusion,
    "sdxl": stable_diffusion,
    **dict.fromkeys(("wan", "wan_i2v", "wan22", "wan22_i2v", "wan22_5b"), wan),
    "z_image": z_image,
}


@contextmanager
def small_images() -> Iterator[None]:
    """Images are read at 128 x 128 instead of 1024 x 1024, which is written in diffusers' code: for speed."""
    modules: list[Any] = [pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus]
    originals = [module.calculate_dimensions for module in modules]
    for module, original in zip(modules, originals, strict=True):
        module.calculate_dimensions = lambda area, ratio, original=original: original(area / 64, ratio)
    try:
        yield
    finally:
        for module, original in zip(modules, originals, strict=True):
            module.calculate_dimensions = original


AROUND: dict[str, Callable[[], AbstractContextManager[None]]] = {
    **dict.fromkeys(("qwen_image_edit", "qwen_image_edit_plus"), small_images),
}
"""Family -> what surrounds a call of its pipelines."""


def sd3_inpainted(pipe: Any, latents: Any) -> Any:
    """diffusers 0.42.1 leaves the VAE's shift out after inpainting, and only there: decoded as for text to image."""
    with torch.inference_mode():
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor).sample
    return pipe.image_processor.postprocess(decoded, output_type="np")


DECODED_BY_HAND: dict[tuple[str, str], Callable[[Any, Any], Any]] = {("sd3", "inpaint"): sd3_inpainted}
"""(family, task) -> (pipe, latents) -> pixels, where the pipeline's own decoding is wrong."""
