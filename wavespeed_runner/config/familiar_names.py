"""Names that people bring from ComfyUI, A1111 and diffusers, and what they are called here.

For messages alone: a familiar name is never taken for ours, because its value may mean something else here.
"""

from __future__ import annotations

import re
from collections.abc import Callable

KEYS = {
    "denoise": "strength",
    "denoising_strength": "strength",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "guidance": "guidance_scale",
    "num_inference_steps": "steps",
    "num_steps": "steps",
    "sampling_steps": "steps",
    "sample_steps": "steps",
    "infer_steps": "steps",
    "sampler_name": "sampler",
    "sampling_method": "sampler",
    "negative": "negative_prompt",
    "neg_prompt": "negative_prompt",
    "n_prompt": "negative_prompt",
    "noise_seed": "seed",
    "generator": "seed",
    "batch_count": "num_images_per_prompt",
    "n_iter": "num_images_per_prompt",
    "num_images": "num_images_per_prompt",
    "num_videos_per_prompt": "num_images_per_prompt",
    "frames": "num_frames",
    "video_length": "num_frames",
    "init_image": "image",
    "input_image": "image",
    "image_path": "image",
    "mask_image": "mask",
    "output": "outputs",
    "output_dir": "outputs",
    "output_path": "outputs",
    "save_path": "outputs",
    "prompt_file": "prompts=file prompts.path",
    "ckpt": "model=NAME model.repo",
    "ckpt_name": "model=NAME model.repo",
    "checkpoint": "model=NAME model.repo",
    "model_path": "model=NAME model.repo",
    "model_id": "model=NAME model.repo",
    "pretrained_model_name_or_path": "model=NAME model.repo",
    "dtype": "model.dtype",
    "torch_dtype": "model.dtype",
    "precision": "model.dtype",
    "variant": "model.weights",
    "fps": "model.fps",
    "frame_rate": "model.fps",
    "lora": "adapters=lora adapters.path",
    "loras": "adapters=lora adapters.path",
    "lora_name": "adapters=lora adapters.path",
    "lora_path": "adapters=lora adapters.path",
    "lora_weight": "adapters=lora adapters.weight",
    "lora_scale": "adapters=lora adapters.weight",
    "embedding": "adapters=textual_inversion adapters.path",
    "textual_inversion": "adapters=textual_inversion adapters.path",
    "rdt": "cache=fbcache cache.residual_diff_threshold",
    "max_sequence_length": "model.max_sequence_length",
    "attention_backend": "attention",
    "attn_implementation": "attention",
    "quantization": "quant",
    "quantize": "quant",
    "torch_compile": "compile",
    "use_karras_sigmas": "sampler=NAME sampler.sigmas",
    "offload": "memory=model_offload",
    "cpu_offload": "memory=model_offload",
    "enable_model_cpu_offload": "memory=model_offload",
    "enable_sequential_cpu_offload": "memory=group_offload",
    "tiling": "memory=vae_tiling",
    "enable_vae_tiling": "memory=vae_tiling",
    "enable_vae_slicing": "memory=vae_slicing",
}
"""A top-level key as people type it -> how it is written here: a key, an option and its key, or an option alone."""

CACHE_KEYS = {
    "rdt": "residual_diff_threshold",
    "fn_compute_blocks": "signal.blocks",
    "bn_compute_blocks": "tail_blocks",
    "max_warmup_steps": "warmup_steps",
    "max_continuous_cached_steps": "max_consecutive_cache_hits",
    "max_skip_steps": "max_consecutive_cache_hits",
    "retention_ratio": "start",
    "ret_ratio": "start",
    "cache_interval": "interval",
}
"""A key of `cache` as cache-dit, MagCache, DiCache and DeepCache call it -> ours."""

SPACINGS = ("karras", "exponential", "beta")
"""What ComfyUI and A1111 call a scheduler, and diffusers a spacing of the noise levels."""

SAMPLERS = {
    "dpm_2": "dpm2",
    "dpm_2_ancestral": "dpm2_ancestral",
    "ddim_uniform": "ddim",
    "uni_pc": "unipc",
    "uni_pc_bh2": "unipc",
    "plms": "pndm",
    "sa_solver": "sasolver",
    "dpmsolver++": "dpmpp_2m",
    "eulerdiscretescheduler": "euler",
    "flowmatcheulerdiscretescheduler": "euler",
    "eulerancestraldiscretescheduler": "euler_ancestral",
    "heundiscretescheduler": "heun",
    "flowmatchheundiscretescheduler": "heun",
    "kdpm2discretescheduler": "dpm2",
    "kdpm2ancestraldiscretescheduler": "dpm2_ancestral",
    "lmsdiscretescheduler": "lms",
    "dpmsolvermultistepscheduler": "dpmpp_2m",
    "dpmsolversinglestepscheduler": "dpmpp_2s",
    "deismultistepscheduler": "deis",
    "unipcmultistepscheduler": "unipc",
    "sasolverscheduler": "sasolver",
    "ddimscheduler": "ddim",
    "ddpmscheduler": "ddpm",
    "pndmscheduler": "pndm",
    "lcmscheduler": "lcm",
    "tcdscheduler": "tcd",
    "cogvideoxdpmscheduler": "cogvideox_dpm",
}
"""Names of ComfyUI, A1111 and diffusers that no rewriting below turns into ours."""

REWRITTEN = (
    (r"[\s-]+", "_"),  # "DPM++ 2M Karras"
    (r"^k_|^sample_|_gpu$", ""),  # k-diffusion's functions; where ComfyUI draws the noise
    (r"\+\+_?", "pp_"),  # dpm++2m
    (r"^dpmpp(?=\d)", "dpmpp_"),
    (r"(_|(?<=\d))a(?=_|$)", "_ancestral"),  # euler_a, "DPM2 a"
    (r"_normal$|_simple$|_sgm_uniform$", ""),  # ComfyUI's even spacings
)
"""How the names of samplers become ours: pattern -> replacement, in this order."""

OPTIONS = {
    "attention": {
        "sdpa": "native",
        "flash_attention_2": "flash",
        "flash_attention_3": "flash3",
        "sageattention": "sage",
    },
    "cache": {
        "first_block_cache": "fbcache",
        "para_attention": "fbcache",
        "cache_dit": "dbcache",
        "pyramid_attention_broadcast": "pab",
    },
    "graph": {
        "txt2img": "text_to_image",
        "img2img": "image_to_image",
        "t2i": "text_to_image",
        "i2i": "image_to_image",
        "t2v": "text_to_video",
        "i2v": "image_to_video",
        "inpainting": "inpaint",
    },
    "memory": {
        "cpu_offload": "model_offload",
        "sequential_cpu_offload": "group_offload",
        "tiling": "vae_tiling",
    },
}
"""Group -> familiar name -> option."""


def find_familiar_option(group: str, typed: str, options: list[str]) -> str:
    """The option of a group that somebody means by another tool's name for it; empty if none is known.

    Args:
        group: config group.
        typed: what was given for it.
        options: those that there are; nothing else is returned.
    """
    name = typed.strip().lower()
    found = _rename_sampler(name) if group == "sampler" else OPTIONS.get(group, {}).get(name, name)
    plain = {re.sub(r"[^a-z0-9]", "", option): option for option in options}  # `sd1.5`, `max-autotune`, `tea_cache`
    return found if found in options else plain.get(re.sub(r"[^a-z0-9]", "", found), "")


def _rename_sampler(name: str) -> str:
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
    if key == "scheduler":  # diffusers' word for a sampler, ComfyUI's for the spacing of its noise levels
        key = "use_karras_sigmas" if value in SPACINGS else "sampler_name"
    elif key == "use_karras_sigmas":
        value = "karras"
    ours = KEYS.get(key)
    if ours is None or ours.startswith("memory="):
        return ours or ""
    return f"{ours}={find_familiar_option(ours, value, list_options(ours)) or value}"
