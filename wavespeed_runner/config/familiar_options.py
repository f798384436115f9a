"""Names of samplers and other options that people bring from ComfyUI, A1111 and diffusers. For messages alone."""

from __future__ import annotations

OFF = ("false", "no", "off", "none", "null", "0")
"""Values that switch something off."""

SAMPLERS = {
    "dpm_2": "dpm2",
    "dpm_2_ancestral": "dpm2_ancestral",
    "ddim_uniform": "ddim",
    "uni_pc": "unipc",
    "uni_pc_bh2": "unipc",
    "plms": "pndm",
    "sa_solver": "sasolver",
    **dict.fromkeys(("dpmsolver++", "dpm++"), "dpmpp_2m"),  # the second in Wan's script, whose order is 2
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
        "sdp": "native",
        "flash_attention_2": "flash",
        "flash_attention_3": "flash3",
        "sageattention": "sage",
    },
    "cache": {
        "first_block_cache": "fbcache",
        "para_attention": "fbcache",
        "cache_dit": "dbcache",
        "scm": "step_mask",
        "pyramid_attention_broadcast": "pab",
    },
    "graph": {
        "txt2img": "text_to_image",
        "img2img": "image_to_image",
        "t2i": "text_to_image",
        **dict.fromkeys(("i2i", "edit", "image_edit", "image_editing"), "image_to_image"),
        "t2v": "text_to_video",
        "i2v": "image_to_video",
        **dict.fromkeys(("inpainting", "outpaint", "outpainting", "fill"), "inpaint"),
        "upscale": "hires_fix",
    },
    "model": {
        "flux1": "flux",
        "flux-dev": "flux",
        "flux.1-dev": "flux",
        "flux.1-schnell": "flux_schnell",
        **dict.fromkeys(("kontext", "flux-kontext", "flux.1-kontext-dev"), "flux_kontext"),
        **dict.fromkeys(("qwen_edit", "qwen-image-edit"), "qwen_image_edit"),
        **dict.fromkeys(("fill", "flux-fill", "flux.1-fill-dev"), "flux_fill"),
        "schnell": "flux_schnell",
    },
    "memory": {
        "cpu_offload": "model_offload",
        "sequential_cpu_offload": "group_offload",
        "medvram": "model_offload",
        "lowvram": "group_offload",
        "tiling": "vae_tiling",
    },
}
"""Group -> familiar name -> option."""
