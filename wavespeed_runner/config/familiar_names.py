"""Names that people bring from ComfyUI, A1111 and diffusers, and what they are called here.

For messages alone: a familiar name is never taken for ours, because its value may mean something else here.
"""

from __future__ import annotations

from .familiar_caches import CACHE_KEYS

SCALE = "graph.stages.upscale.options.scale"
SIZES = ("size", "resolution", "image_size")
"""Words for both sides of an image."""

KEYS = {
    "denoise": "strength",
    "denoising_strength": "strength",
    "w": "width",
    "h": "height",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "guidance": "guidance_scale",
    "distilled_guidance": "guidance_scale",
    "distilled_cfg_scale": "guidance_scale",
    "true_cfg": "model.true_cfg_scale",
    "cfg_rescale": "model.guidance_rescale",
    "num_inference_steps": "steps",
    "num_steps": "steps",
    "sampling_steps": "steps",
    "sample_steps": "steps",
    "infer_steps": "steps",
    "sample_guide_scale": "guidance_scale",
    "sample_solver": "sampler",
    "frame_num": "num_frames",
    "base_seed": "seed",
    "sampler_name": "sampler",
    "sampler_index": "sampler",
    "sampling_method": "sampler",
    "negative": "negative_prompt",
    "neg": "negative_prompt",
    "neg_prompt": "negative_prompt",
    "text": "prompt",
    "caption": "prompt",
    "n_prompt": "negative_prompt",
    "noise_seed": "seed",
    "generator": "seed",
    "batch_count": "num_images_per_prompt",
    "n_iter": "num_images_per_prompt",
    "n": "num_images_per_prompt",
    "count": "num_images_per_prompt",
    "n_samples": "num_images_per_prompt",
    "num_samples": "num_images_per_prompt",
    "num_images": "num_images_per_prompt",
    "num_videos_per_prompt": "num_images_per_prompt",
    "frames": "num_frames",
    "video_length": "num_frames",
    "init_image": "image",
    "input_image": "image",
    "image_path": "image",
    "mask_image": "mask",
    "out": "outputs",
    "save": "outputs",
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
    "model_name": "model=NAME model.repo",
    "pretrained_model_name_or_path": "model=NAME model.repo",
    "dtype": "model.dtype",
    "torch_dtype": "model.dtype",
    "precision": "model.dtype",
    "weight_dtype": "model.dtype",
    "half": "model.dtype=float16",
    "fp16": "model.dtype=float16",
    "bf16": "model.dtype=bfloat16",
    "fp8": "quant=fp8_dq",
    "gpu": "device",
    "hires": f"graph=hires_fix {SCALE}",
    "hr_scale": f"graph=hires_fix {SCALE}",
    "upscale": f"graph=hires_fix {SCALE}",
    "upscale_factor": f"graph=hires_fix {SCALE}",
    "hires_scale": f"graph=hires_fix {SCALE}",
    "hires_upscale": f"graph=hires_fix {SCALE}",
    "enable_hr": "graph=hires_fix",
    "variant": "model.weights",
    "vae_name": "model.vae",
    "fps": "model.fps",
    "frame_rate": "model.fps",
    "lora": "adapters=lora adapters.path",
    "loras": "adapters=lora adapters.path",
    "lora_name": "adapters=lora adapters.path",
    "lora_path": "adapters=lora adapters.path",
    "lora_weight": "adapters=lora adapters.path=FILE adapters.weight",
    "lora_scale": "adapters=lora adapters.path=FILE adapters.weight",
    "embedding": "adapters=textual_inversion adapters.path",
    "textual_inversion": "adapters=textual_inversion adapters.path",
    "clip_stop_at_last_layers": "model.clip_skip",
    **dict.fromkeys(("tea_cache", "use_teacache", "enable_teacache"), "cache=teacache"),
    "use_fbcache": "cache=fbcache",
    "first_block_cache": "cache=fbcache",
    "teacache_thresh": "cache=teacache cache.rel_l1_thresh",
    "rdt": "cache=fbcache cache.residual_diff_threshold",
    "cache_threshold": "cache=fbcache cache.residual_diff_threshold",
    "max_sequence_length": "model.max_sequence_length",
    "attention_backend": "attention",
    "attn_implementation": "attention",
    "flash_attention": "attention=flash",
    "flash_attn": "attention=flash",
    "sage_attention": "attention=sage",
    "sageattention": "attention=sage",
    "quantization": "quant",
    "quantize": "quant",
    "torch_compile": "compile",
    **dict.fromkeys(("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"), "sampler=NAME sampler.sigmas"),
    "offload": "memory=model_offload",
    "cpu_offload": "memory=model_offload",
    "enable_model_cpu_offload": "memory=model_offload",
    "enable_sequential_cpu_offload": "memory=group_offload",
    "medvram": "memory=model_offload",
    "lowvram": "memory=group_offload",
    "tiling": "memory=vae_tiling",
    "enable_vae_tiling": "memory=vae_tiling",
    "enable_vae_slicing": "memory=vae_slicing",
}
"""A top-level key as people type it -> how it is written here: a key, an option and its key, or an option alone."""

ALTERNATIVES = {"quant=fp8_dq": "quant=fp8_wo"}
"""What a key of `KEYS` becomes -> what it becomes where that is refused, as on a CPU."""

DTYPES = {
    **dict.fromkeys(("fp16", "half", "f16"), "float16"),
    **dict.fromkeys(("bf16",), "bfloat16"),
    **dict.fromkeys(("fp32", "full", "float", "f32"), "float32"),
}
"""A precision in small letters -> ours."""

WEIGHTS = {
    **dict.fromkeys(("fp8_e4m3fn", "fp8_e5m2"), "quant=fp8_wo"),
    "fp8_e4m3fn_fast": "quant=fp8_dq",
}
"""ComfyUI's `weight_dtype` -> what is nearest: weights of 8 bits, and products of such matrices, too (`_fast`)."""

OTHER_NAMES = {"flow_shift": "shift", "sample_shift": "shift", "eta_ddim": "eta", "ddim_eta": "eta"}
"""A key of samplers -> ours; which sampler has it depends on the model."""

NESTED = {"cache": CACHE_KEYS, "sampler": {"scheduler": "sigmas", "schedule": "sigmas", "sigma_schedule": "sigmas"}}
"""Group -> its keys as other tools call them -> ours."""

SPACINGS = ("karras", "exponential", "beta")
"""What ComfyUI and A1111 call a scheduler, and diffusers a spacing of the noise levels."""

EVEN = {
    "sgm_uniform": ("trailing", "uniform"),
    "simple": ("trailing", "uniform"),
    "normal": ("linspace", "uniform"),
    "ddim_uniform": ("leading", ""),
}
"""Their even spacings -> `timestep_spacing` on diffusion models, and `sigmas` on flow models. Of the first two:
https://huggingface.co/docs/diffusers/api/schedulers/overview."""
