"""The rules: each speaks where it should, keeps silent where it should not, and its bad word stops the run."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import Config
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.families.flux import BLOCKS
from wavespeed_runner.models.family import UNetBlocks
from wavespeed_runner.rules import RULES, Rule
from wavespeed_runner.rules import basics as value_rules
from wavespeed_runner.rules.check import Finding, apply_rules, refuse_bad

Composed = Callable[..., dict[str, Any]]
Values = dict[str, Any]

FBCACHE = {"cache": "fbcache"}
TEACACHE = {"cache": "teacache"}
NOTHING = {"name": "none"}
EMBEDDED = {"model.guidance": "embedded"}
LORA = {"adapters": "lora", "adapters.path": "owner/name"}
TOKEN = {"adapters": "textual_inversion", "adapters.path": "owner/name", "adapters.token": "<new>"}
NO_GUIDANCE = {"model.guidance": "none", "model.guidance_scale": None, "guidance_scale": None}

DISTILLED = {"family.is_distilled": lambda model: True, "model.steps": 4}
OWN = {
    name: {"family.own_sampler": lambda model, name=name: name} for name in ("lcm", "euler", "pndm", "cogvideox_dpm")
}

VIDEO = {
    "family.kind": "video",
    "family.frame_multiple": 4,
    "family.tasks": {"text_to_video": "X", "image_to_video": "Y"},
}
"""As if the tiny model made videos."""


def reading(pipe: Any, model: Any, sample: Any, guidance_scale: float | None, image: Any) -> Any:
    """The signature of an encoder that reads the prompt beside an image."""


GROUPS = ("adapters", "cache", "sampler", "memory", "graph", "measure")
"""Keys of a case that choose a config option; the others set values."""

CASES: dict[str, tuple[list[Values], list[Values]]] = {
    "steps-positive": ([{"steps": 0}, {"steps": -3}], [{"steps": 1}]),
    "steps-least": (
        [{"family.min_steps": 2, "steps": 1}],
        [{"steps": 1}, {"family.min_steps": 2, "steps": 2}, {"family.min_steps": 2, "steps": 0}],
    ),
    "size": ([{"width": 40}, {"height": 0}, {"height": -16}], [{"width": 16, "height": 1024}]),
    "too-much": ([{"steps": 1001}, {"width": 16400}, {"height": 10**8}], [{"steps": 1000, "width": 16384}]),
    "seed": ([{"seed": -1}, {"seed": 2**63}], [{"seed": 0}, {"seed": 2**63 - 1}]),
    "repeats": ([{"measure.repeats": 0}, {"measure.warmup": -1}], [{"measure.repeats": 1, "measure.warmup": 0}]),
    "reference-steps-unused": (
        [{"measure.reference_steps": 28, "measure": "none"}],
        [{"measure.reference_steps": 28, "measure": "default"}, {"measure": "none"}],
    ),
    "reference-steps-range": (
        [
            {"measure": "default", "steps": 4, "measure.reference_steps": 3},
            {"measure": "default", "measure.reference_steps": 0},
            {"measure": "default", "measure.reference_steps": 1001},
            {"measure": "default", "sampler": "lcm", "family.schedule": "diffusion", "measure.reference_steps": 51},
        ],
        [{"measure": "default", "steps": 4, "measure.reference_steps": n} for n in (None, 4, 1000)],
    ),
    "reference-steps-own": (
        [
            {"measure": "default", "measure.reference_steps": 28, "graph": "hires_fix", **given}
            for given in (
                {"graph.stages.denoise.options": {"steps": 4}},
                {"graph.stages.denoise_large.options": {"steps": 4, "strength": 0.5}},
            )
        ],
        [
            {"measure": "default", "measure.reference_steps": 28, "graph": "hires_fix"},
            {"measure": "default", "graph": "hires_fix", "graph.stages.denoise.options": {"steps": 4}},
        ],
    ),
    "reference-steps-nobody": (
        [{"measure": "default", "measure.reference_steps": 28, "graph.stages": {}}],
        [{"measure": "default", "measure.reference_steps": 28}, {"measure": "default", "graph.stages": {}}],
    ),
    "in-turn-unused": (
        [{"measure.in_turn": True, "measure": "none"}],
        [{"measure.in_turn": True, "measure": "default"}, {"measure": "none"}],
    ),
    "noise-floor-unused": (
        [{"measure.noise_floor": "repeat", "measure": "none"}, {"measure": "full", "measure.reference": False}],
        [{"measure": "full"}, {"measure": "none"}, {"measure": "default", "measure.noise_floor": "repeat"}],
    ),
    "size-limit": ([{"family.max_pixels": 500, "width": 32, "height": 32}], [{"family.max_pixels": 1024}, {}]),
    "whole": ([{"family.single_call": True}], [{}]),
    "strength-steps": (
        [
            {"family.schedule": "diffusion", "graph": "image_to_image", "strength": 0.03},
            {"family.schedule": "diffusion", "graph": "hires_fix", "strength": 0.03},
        ],
        [
            {"graph": "image_to_image", "strength": 0.03},
            {"family.schedule": "diffusion", "graph": "image_to_image", "strength": 0.04},
            {"family.schedule": "diffusion"},
        ],
    ),
    "fps": (
        [{"model.fps": 8}, {"family.kind": "video", "model.fps": 0}, {"family.kind": "video", "model.fps": 241}],
        [{}, {"family.kind": "video", "model.fps": 8}],
    ),
    "components": (
        [
            {"model.components": "a/b", "model.repo": "c/d", "model.init": "pretrained"},
            {"model.components": "a/b", "model.repo": "x.safetensors"},
        ],
        [{"model.components": "a/b", "model.repo": "x.safetensors", "model.init": "pretrained"}, {}],
    ),
    "batch": (
        [{"batch_size": 0}, {"num_images_per_prompt": 0}],
        [{"batch_size": 4, "num_images_per_prompt": 4}],
    ),
    "batch-fits": (
        [{"family.supports_batches": False, "batch_size": 2}],
        [{"family.supports_batches": False}, {"batch_size": 2}],
    ),
    "offload-on-cpu": (
        [{"memory": "model_offload"}, {"memory": "group_offload"}],
        [{}, {"memory": "model_offload", "device": "cuda"}, {"memory": "vae_tiling"}],
    ),
    "group-keys": (
        [
            {"memory.use_stream": True},
            {"memory": "model_offload", "memory.blocks_per_group": 2},
            {"memory.group_type": "leaf_level"},
        ],
        [{"memory": "group_offload", "memory.blocks_per_group": 2, "memory.use_stream": True}],
    ),
    "group-blocks": (
        [
            {"memory": "group_offload", "memory.blocks_per_group": 0},
            {"memory": "group_offload", "memory.blocks_per_group": 2, "memory.group_type": "leaf_level"},
        ],
        [{"memory": "group_offload", "memory.group_type": "leaf_level"}],
    ),
    "group-stream": (
        [{"memory": "group_offload", "memory.use_stream": True}],
        [{"memory": "group_offload", "memory.use_stream": True, "device": "cuda:1"}, {"memory": "group_offload"}],
    ),
    "attention-whole": (
        [{"cache": "pab", "model": {"name": "generic", "repo": "a/b", "steps": 28, "width": 64, "height": 64}}],
        [{"cache": "pab"}, {"cache": "fbcache"}],
    ),
    "attention-branches": (
        [{"cache": "pab", "guidance_scale": 4.0}, {"cache": "fastercache", "guidance_scale": 4.0}],
        [{"cache": "pab", "guidance_scale": 1.0}, FBCACHE | {"guidance_scale": 4.0}],
    ),
    "fastercache-family": (
        [{"cache": "fastercache", "model.name": "z_image"}],
        [{"cache": "pab", "model.name": "z_image"}, {"cache": "fastercache"}],
    ),
    "fastercache-guidance": (
        [{"cache": "fastercache", "model.name": "sd3", "guidance_scale": 4.0}],
        [
            {"cache": "fastercache", "model.name": "sd3", "guidance_scale": 1.0},
            {"cache": "pab", "model.name": "sd3", "guidance_scale": 4.0},
        ],
    ),
    "group-unet-cache": (
        [FBCACHE | {"memory": "group_offload", "memory.group_type": "block_level", "family.blocks": UNetBlocks()}],
        [
            FBCACHE | {"memory": "group_offload", "memory.group_type": "leaf_level", "family.blocks": UNetBlocks()},
            FBCACHE | {"memory": "group_offload", "memory.group_type": "block_level"},
        ],
    ),
    "group-modulated": (
        [TEACACHE | {"memory": "group_offload"}],
        [
            TEACACHE | {"memory": "group_offload", "memory.group_type": "leaf_level"},
            FBCACHE | {"memory": "group_offload"},
        ],
    ),
    "group-tail": (
        [FBCACHE | {"memory": "group_offload", "memory.blocks_per_group": 2, "cache.tail_blocks": 1}],
        [
            FBCACHE | {"memory": "group_offload", "cache.tail_blocks": 1},
            FBCACHE | {"memory": "group_offload", "memory.blocks_per_group": 2},
        ],
    ),
    "group-stream-cache": (
        [FBCACHE | {"memory": "group_offload", "memory.use_stream": True}],
        [FBCACHE | {"memory": "group_offload"}, {"memory": "group_offload", "memory.use_stream": True}],
    ),
    "casting-reference": (
        [{"memory": "layerwise_casting", "measure": "default"}],
        [{"memory": "layerwise_casting"}, {"measure": "default"}],
    ),
    "slicing-alone": ([{"memory": "vae_slicing"}], [{"memory": "vae_tiling"}, {}]),
    "adapters-fit": (
        [LORA | {"family.adapters": ()}, TOKEN | {"family.adapters": ("lora",)}],
        [LORA, TOKEN, {"family.adapters": ()}],
    ),
    "adapters-path": ([{"adapters.path": "x.safetensors"}, {"adapters.path": ["a/b"]}], [{}, LORA]),
    "adapters-component": (
        [
            LORA | {"adapters.component": "transformer_2"},
            LORA | {"adapters.component": "vae", "family.denoiser_2": "transformer_2"},
        ],
        [LORA, LORA | {"adapters.component": "transformer_2", "family.denoiser_2": "transformer_2"}, {}],
    ),
    "adapters-half": (
        [
            LORA | {"family.denoiser_2": "transformer_2"},
            LORA | {"family.denoiser_2": "transformer_2", "adapters.component": "transformer_2"},
        ],
        [
            LORA,
            TOKEN | {"family.denoiser_2": "transformer_2"},
            LORA
            | {"family.denoiser_2": "transformer_2", "adapters.path": ["a/b", "c/d"]}
            | {"adapters.component": [None, "transformer_2"]},
        ],
    ),
    "adapters-fused": (
        [LORA | {"adapters.fuse": True, "memory": "layerwise_casting"}],
        [LORA | {"memory": "layerwise_casting"}, LORA | {"adapters.fuse": True}, {"memory": "layerwise_casting"}],
    ),
    "difference-gain": ([{"measure.difference_gain": 0.0}, {"measure.difference_gain": -1.0}], [{}]),
    "device": (
        [{"device": "gpu"}, {"device": "cuda:x"}, {"device": ""}, {"device": "CPU"}],
        [{"device": device} for device in ("auto", "cpu", "cuda", "cuda:1", "mps")],
    ),
    "device-present": ([{"device": "cuda"}, {"device": "cuda:1"}], [{"device": "cpu"}, {"device": "auto"}]),
    "device-mps": ([{"device": "mps"}], [{"device": "cpu"}]),
    "size-fixed": (
        [
            {"family.fixed_size": (64, 64), "model.init": "tiny", "width": 64, "height": 64, "family.tiny_size": 32},
            {"family.fixed_size": (720, 480)},
        ],
        [{}, {"family.fixed_size": (96, 64), "model.init": "pretrained", "width": 96, "height": 64}],
    ),
    "num-frames": ([{"num_frames": 5}], [{"num_frames": None}]),
    "num-frames-fit": (
        [VIDEO | {"num_frames": frames} for frames in (None, 0, -3, 4, 6)],
        [VIDEO | {"num_frames": 1}, VIDEO | {"num_frames": 5}, {"num_frames": 6}],
    ),
    "graph-fits": (
        [
            {"graph": "inpaint", "family.tasks": {"text_to_image": "x", "image_to_image": "y"}},
            {"graph": "hires_fix", "family.tasks": {"text_to_image": "x"}},
            {"graph": "text_to_video", "family.kind": "video"},
        ],
        [{"graph": "inpaint"}, {"graph": "text_to_video"} | VIDEO],
    ),
    "decode-fits": (
        [{"graph": "text_to_video"}, {"graph": "text_to_image"} | VIDEO],
        [{"graph": "text_to_video"} | VIDEO, {"graph": "hires_fix"}],
    ),
    "latents-fit": (
        [{"graph": "hires_fix_latents", "family.unpack_latents": None}, {"graph": "hires_fix_latents"} | VIDEO],
        [{"graph": "hires_fix_latents"}, {"graph": "hires_fix", "family.unpack_latents": None}],
    ),
    "encode-needs-image": (
        [{"graph": "image_to_image", "family.encode": reading}],
        [{"graph": "image_to_image"}, {"graph": "image_to_video_seen", "family.encode": reading}],
    ),
    "encode-takes-no-image": (
        [{"graph": "image_to_video_seen"}],
        [{"graph": "image_to_video"}, {"graph": "image_to_video_seen", "family.encode": reading}],
    ),
    "strength": ([{"strength": 0.0}, {"strength": -0.5}, {"strength": 1.01}], [{"strength": 1.0}, {"strength": 0.01}]),
    "strength-unused": (
        [
            {"strength": 0.5},
            {"graph": "image_to_video", "strength": 0.5} | VIDEO,
            {"graph": "image_to_image", "strength": 0.5, "graph.stages.denoise.options": {"strength": 0.5}},
        ],
        [
            {},
            *(
                {"graph": name, "strength": 0.5}
                for name in ("image_to_image", "inpaint", "hires_fix_latents", "detail")
            ),
            {"graph": "hires_fix", "strength": 0.5, "graph.stages.denoise_large.options": {"steps": 5}},
            {"graph": "hires_fix"},
        ],
    ),
    "strength-of-stage": (
        [{"graph": "hires_fix", "graph.stages.denoise.options": {"strength": 0.5}}],
        [{"graph": "hires_fix", "graph.stages.denoise_large.options": {"strength": 0.5}}],
    ),
    "image-unused": (
        [
            {"image": "photo.png"},
            {"graph": "image_to_image", "image": "photo.png", "graph.stages.image.options": {"path": "other.png"}},
        ],
        [{"graph": "image_to_image", "image": "photo.png"}, {"image": Config.image}],
    ),
    "mask-unused": (
        [{"mask": "white.png"}, {"graph": "image_to_image", "mask": "white.png"}],
        [{"graph": "inpaint", "mask": "white.png"}, {}],
    ),
    "guidance-negative": ([{"guidance_scale": -0.5}], [{"guidance_scale": 0.0}, NO_GUIDANCE]),
    "guidance-below-one": (
        [{"guidance_scale": 0.5}, {"guidance_scale": 0.0}],
        [{"guidance_scale": 1.0}, EMBEDDED | {"guidance_scale": 0.5}],
    ),
    "guidance-none": ([NO_GUIDANCE | {"guidance_scale": 3.5}], [NO_GUIDANCE, EMBEDDED | {"guidance_scale": 3.5}]),
    "negative-prompt": (
        [{"negative_prompt": "x"}, {"negative_prompt": "x", "guidance_scale": 3.5} | EMBEDDED],
        [{"negative_prompt": "x", "guidance_scale": 3.5}, {"negative_prompt": ""}],
    ),
    "sampler-fits": (
        [
            {"sampler": "pndm"},
            {"sampler": "unipc", "family.schedule": "cogvideox"},
            {"sampler": "euler", "family.unsupported_samplers": {"euler": "it was tried"}},
        ],
        [{}, {"sampler": "euler_karras"}, {"sampler": "pndm", "family.schedule": "diffusion"}],
    ),
    "sampler-task": (
        [{"sampler": "heun", "graph": "image_to_image"}],
        [
            {"sampler": "heun"},
            {"sampler": "dpmpp_2m", "graph": "image_to_image"},
            {"sampler": "heun", "graph": "image_to_image", "family.schedule": "diffusion"},
        ],
    ),
    "sampler-option": (
        [
            {"sampler": "euler", "sampler.shift": 2.0, "family.schedule": "diffusion"},
            {"sampler": "euler_stochastic", "family.schedule": "diffusion"},
            {"sampler": "lcm", "sampler.sigmas": "karras", "family.schedule": "diffusion"},
            {"sampler": "ddim", "sampler.eta": 0.5, "family.schedule": "cogvideox"},
        ],
        [
            {"sampler": "euler", "sampler.shift": 2.0},
            {"sampler": "ddim", "sampler.eta": 0.5, "family.schedule": "diffusion"},
            {"sampler": "ddim", "family.schedule": "cogvideox"},
            {"sampler": "pndm"},
        ],
    ),
    "sampler-steps": (
        [{"sampler": name, "steps": 51, "family.schedule": "diffusion"} for name in ("lcm", "tcd")],
        [
            *({"sampler": name, "steps": 50, "family.schedule": "diffusion"} for name in ("lcm", "tcd")),
            {"sampler": "lcm", "steps": 51},
            {"sampler": "ddim", "steps": 1001, "family.schedule": "diffusion"},
            {"steps": 1001},
        ],
    ),
    "few-step-model": (
        [
            DISTILLED | {"sampler": "dpmpp_2m"},
            DISTILLED | {"sampler": "euler_karras"},
            DISTILLED | OWN["lcm"] | {"sampler": "euler"},
        ],
        [
            DISTILLED,
            DISTILLED | {"sampler": "euler"},
            DISTILLED | OWN["lcm"],
            DISTILLED | OWN["lcm"] | {"sampler": "lcm"},
            {"model.steps": 4, "sampler": "dpmpp_2m"},
        ],
    ),
    "distilled-sampler": (
        [{"sampler": "lcm"}, {"sampler": "tcd", "family.schedule": "diffusion"}],
        [DISTILLED | OWN["lcm"] | {"sampler": "lcm", "model.steps": 28}, {"sampler": "euler"}],
    ),
    "multi-call-sampler-cache": (
        [FBCACHE | {"sampler": "heun"}, FBCACHE | {"sampler": "dpm2", "family.schedule": "diffusion"}],
        [{"sampler": "heun"}, FBCACHE | {"sampler": "pndm", "family.schedule": "diffusion"}, FBCACHE],
    ),
    "stochastic-sampler-cache": (
        [
            *(FBCACHE | {"sampler": name} for name in ("euler_stochastic", "dpmpp_2m_sde", "euler_ancestral")),
            FBCACHE | OWN["lcm"],
            FBCACHE | OWN["cogvideox_dpm"] | {"family.schedule": "cogvideox"},
        ],
        [
            FBCACHE | {"sampler": "euler"},
            {"sampler": "euler_stochastic"},
            FBCACHE,
            OWN["lcm"],
            FBCACHE | OWN["lcm"] | {"sampler": "euler"},
        ],
    ),
    "cache-off": (
        [{"cache.start": 0.1}, {"cache.max_consecutive_cache_hits": 3}],
        [{}, FBCACHE | {"cache.start": 0.1}],
    ),
    "cache-attaches": ([FBCACHE | {"family.blocks": None}], [FBCACHE, {"family.blocks": None}]),
    "cache-parts": ([FBCACHE | {"cache.signal": None}], [FBCACHE, {"cache.signal": None}]),
    "cache-head": ([FBCACHE | {"cache.signal.blocks": 0}], [FBCACHE | {"cache.signal.blocks": 2}]),
    "cache-tail": ([FBCACHE | {"cache.tail_blocks": -1}], [FBCACHE | {"cache.tail_blocks": 1}]),
    "tail-family": (
        [
            FBCACHE | {"cache.tail_blocks": 1, "family.blocks": UNetBlocks()},
            FBCACHE | {"cache.tail_blocks": 1, "family.blocks": replace(BLOCKS, supports_tail_blocks=False)},
        ],
        [FBCACHE | {"cache.tail_blocks": 1}, FBCACHE | {"family.blocks": UNetBlocks()}],
    ),
    "depth-family": (
        [{"cache": "deepcache"}, FBCACHE | {"cache.depth": 1}],
        [{"cache": "deepcache", "family.blocks": UNetBlocks()}, FBCACHE],
    ),
    "depth-value": (
        [
            {"cache": "deepcache", "family.blocks": UNetBlocks(), "cache.depth": -1},
            FBCACHE | {"family.blocks": UNetBlocks(), "cache.depth": 2},
        ],
        [{"cache": "deepcache", "family.blocks": UNetBlocks(), "cache.depth": 4}, FBCACHE],
    ),
    "modulated-family": (
        [
            TEACACHE | {"family.blocks": replace(BLOCKS, modulated_input=None)},
            TEACACHE | {"family.blocks": UNetBlocks()},
        ],
        [TEACACHE, FBCACHE | {"family.blocks": UNetBlocks()}],
    ),
    "signal-criterion": (
        [
            FBCACHE | {"cache.signal": NOTHING},
            TEACACHE | {"cache.signal": NOTHING},
            {"cache": "easycache", "cache.signal": {"name": "first_block_residual"}},
        ],
        [FBCACHE, {"cache": "easycache"}, {"cache": "taylorseer"}],
    ),
    "gamma-signal": (
        [{"cache": "taylorseer", "cache.predictor": {"name": "gamma"}}],
        [{"cache": "dicache"}, {"cache": "taylorseer"}, {"cache": "dicache", "cache.signal": None}],
    ),
    "variant-family": (
        [TEACACHE | {"cache.variant": "ret_steps", "cache.signal.variant": "ret_steps"}],
        [
            TEACACHE,
            TEACACHE
            | {"cache.signal.variant": "x", "family.blocks": replace(BLOCKS, variants={"x": BLOCKS.modulated_input})},
        ],
    ),
    "interval-start": (
        [{"cache": "taylorseer", "cache.criterion.start": 0.5}],
        [{"cache": "taylorseer"}, {"cache": "taylorseer", "cache.criterion.start": 0.5, "cache.start": 0.5}],
    ),
    "schedule-fits": (
        [{"cache": "step_mask"}, {"cache": "step_mask", "cache.criterion.mask": "101"}],
        [
            {"cache": "step_mask", "steps": 28},
            {"cache": "taylorseer"},
            FBCACHE,
            # Of 30 steps an image that is started from runs 18.
            {"graph": "image_to_image", "cache": "step_mask", "cache.criterion.mask": "110101" * 3, "strength": 0.6},
        ],
    ),
    "cache-one": ([FBCACHE], [{}, FBCACHE | {"family.blocks": None}]),
    "threshold": ([FBCACHE | {"cache.criterion.threshold": -0.1}], [FBCACHE | {"cache.criterion.threshold": 0.0}]),
    "threshold-twice": ([FBCACHE | {"cache.criterion.threshold": 0.5}], [FBCACHE, {}]),
    "key-twice": (
        [{"cache": "taylorseer", "cache.criterion.interval": 3}],
        [{"cache": "taylorseer"}, {"cache": "taylorseer", "cache.interval": 3, "cache.criterion.interval": 3}],
    ),
    "computes-all": (
        [
            {"cache": "taylorseer", "cache.interval": 1, "cache.criterion.interval": 1},
            {"cache": "custom", "cache.criterion": {"name": "budget", "share": 1.0}},
        ],
        [{"cache": "taylorseer"}, {"cache": "custom", "cache.criterion": {"name": "never"}}, FBCACHE | {"steps": 1}],
    ),
    "computes-more": (
        [{"cache": "custom", "cache.criterion": {"name": "budget", "share": None, "computed": 8}, "cache.end": 0.5}],
        [{"cache": "custom", "cache.criterion": {"name": "budget", "share": None, "computed": 8}}, FBCACHE],
    ),
    "polynomial-signal": (
        [{"cache": "custom", "cache.criterion": {"name": "accumulated_polynomial"}}],
        [
            TEACACHE,
            {"cache": "custom", "cache.criterion": {"name": "accumulated_polynomial", "coefficients": [1.0, 0.0]}},
        ],
    ),
    "threshold-zero": ([FBCACHE | {"cache.criterion.threshold": 0.0}], [FBCACHE]),
    "window-order": (
        [
            FBCACHE | {"cache.start": start, "cache.end": end}
            for start, end in ((0.8, 0.2), (0.5, 0.5), (-0.1, 1), (0, 2))
        ],
        [FBCACHE, {"cache.start": 0.8, "cache.end": 0.2}],
    ),
    "window-empty": (
        [
            *(FBCACHE | {"cache.start": 0.99}, FBCACHE | {"cache.end": 0.01}, FBCACHE | {"steps": 1}),
            *(
                FBCACHE | {"cache.warmup_steps": 30},
                FBCACHE | {"cache.warmup_steps": 29, "cache.force_last_step": True},
            ),
            FBCACHE | OWN["pndm"] | {"steps": 2, "cache.start": 0.4, "cache.end": 0.6},
        ],
        [
            FBCACHE | {"steps": 2, "cache.start": 0.4, "cache.end": 0.6},
            *(FBCACHE, FBCACHE | {"cache.start": 0.8, "cache.end": 0.2}, FBCACHE | {"steps": 0}),
        ],
    ),
    "hit-limit": (
        [FBCACHE | {"cache.max_consecutive_cache_hits": limit} for limit in (0, -2)],
        [FBCACHE | {"cache.max_consecutive_cache_hits": limit} for limit in (-1, 1)],
    ),
    "total-limit": (
        [FBCACHE | {"cache.max_cache_hits": limit} for limit in (0, -2)],
        [FBCACHE | {"cache.max_cache_hits": limit} for limit in (-1, 1)],
    ),
    "warmup": ([FBCACHE | {"cache.warmup_steps": -1}], [FBCACHE | {"cache.warmup_steps": 3}]),
    "few-steps": ([FBCACHE | {"steps": 8}], [FBCACHE | {"steps": 9}, {"steps": 8}]),
    "half-on-cpu": ([{"model.dtype": "bfloat16"}], [{"model.dtype": "float32"}]),
    "tiny-quality": ([{"model.init": "tiny"}, {"model.init": "random"}], [{"model.init": "pretrained"}]),
}
"""Rule -> configurations of which it speaks, and others of which it does not."""


@pytest.fixture
def judged(composed: Composed, own_registry: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Values], list[Finding]]:
    """What is said of the tiny model with these values, on a Linux machine without a GPU."""
    monkeypatch.setattr(value_rules, "has_cuda", lambda: False)
    monkeypatch.setattr(value_rules, "platform", "linux")
    monkeypatch.setattr(value_rules, "resolve_device", lambda device: "cpu" if device == "auto" else device)

    entry = own_registry["model", "flux"]

    def said(values: Values) -> list[Finding]:
        data = composed(*(f"{group}={values[group]}" for group in GROUPS if group in values))
        data["steps"] = 30
        family = {key.partition(".")[2]: value for key, value in values.items() if key.startswith("family.")}
        own_registry["model", "flux"] = replace(entry, implementation=replace(entry.implementation, **family))
        for key, value in values.items():
            if key not in GROUPS and not key.startswith("family."):
                put(data, key, value)
        return apply_rules(resolve_config(data))

    return said


def put(data: Values, key: str, value: Any) -> None:
    *above, last = key.split(".")
    for name in above:
        data = data[name]
    data[last] = value


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_speaks_where_it_should_and_only_there(judged: Callable[[Values], list[Finding]], rule: Rule) -> None:
    assert rule.id in CASES, f"give the rule {rule.id} a case"
    speaks, silent = CASES[rule.id]
    for values in speaks:
        words = [word for word in judged(values) if word.rule == rule.id]
        assert len(words) == 1, values
        assert words[0].verdict == rule.verdict and "{" not in words[0].message + words[0].fix
    for values in silent:
        assert rule.id not in [word.rule for word in judged(values)], values


def test_every_case_is_of_a_rule() -> None:
    assert set(CASES) == {rule.id for rule in RULES} and len(RULES) == len(CASES)


def test_every_bad_rule_gives_a_way_out() -> None:
    assert [rule.id for rule in RULES if rule.verdict != "good" and not rule.fix] == []


def test_a_bad_word_stops_with_its_fix(judged: Callable[[Values], list[Finding]]) -> None:
    with pytest.raises(ConfigError, match="steps=0: at least 1 is needed; steps=28 is the model's own"):
        refuse_bad(judged({"steps": 0, "model.steps": 28}))


def test_good_and_unverified_words_do_not_stop(judged: Callable[[Values], list[Finding]]) -> None:
    spoken = judged(FBCACHE | {"steps": 8})
    assert {word.verdict for word in spoken} == {"good", "unverified"}
    refuse_bad(spoken)


def test_the_models_own_sampler_is_what_is_spoken_of(composed: Composed) -> None:
    def said(*overrides: str) -> dict[str, Finding]:
        return {word.rule: word for word in apply_rules(resolve_config(composed("model.repo=a/b", *overrides)))}

    noisy = said("model=cogvideox", "cache=fbcache")["stochastic-sampler-cache"]
    assert noisy.message.startswith("this model's own sampler, cogvideox_dpm, adds fresh noise")
    assert noisy.fix == "a deterministic sampler (sampler=ddim), or a higher threshold"
    assert "stochastic-sampler-cache" not in said("model=cogvideox_2b", "cache=fbcache")
    assert "stochastic-sampler-cache" not in said("model=cogvideox", "cache=fbcache", "sampler=ddim")
    own = said("model=cogvideox_2b", "cache=fbcache", "sampler=cogvideox_dpm")["stochastic-sampler-cache"]
    assert own.fix == "a deterministic sampler (sampler=default), or a higher threshold"
    assert {"few-step-model", "distilled-sampler"}.isdisjoint(said("model=hidream_dev", "sampler=lcm"))
    assert said("model=hidream_dev", "sampler=euler")["few-step-model"].fix == "sampler=default"
    assert said("model=hidream", "sampler=lcm")["distilled-sampler"]
    assert said("model=flux_schnell", "cache=fbcache")["few-steps"].fix == "cache=none"
    assert said("model=flux", "steps=4", "cache=fbcache")["few-steps"].fix.startswith("12 steps")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "key", ["cache.criterion.threshold", "cache.start", "guidance_scale", "measure.difference_gain"]
)
def test_no_number_may_be_infinite_or_none(judged: Callable[[Values], list[Finding]], key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{key}=.*: a finite number is needed"):
        judged(FBCACHE | {key: value})


@pytest.fixture(scope="module")
def plain(composed: Composed) -> Config:
    return resolve_config(composed("cache=fbcache"))


@given(st.integers(-10, 100), st.integers(-32, 200), st.floats(), st.floats(), st.floats(), st.integers(-3, 50))
def test_judging_never_fails(
    plain: Config, steps: int, width: int, start: float, end: float, threshold: float, limit: int
) -> None:
    config = deepcopy(plain)
    config.steps, config.width = steps, width
    config.cache.start, config.cache.end, config.cache.max_consecutive_cache_hits = start, end, limit
    config.cache.criterion.threshold = threshold  # type: ignore[union-attr]
    config.cache.residual_diff_threshold = threshold  # type: ignore[attr-defined]
    try:
        spoken = apply_rules(config)
        refuse_bad(spoken)
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    assert steps >= 1 and width % 16 == 0 and 0 <= start < end <= 1 and threshold >= 0
