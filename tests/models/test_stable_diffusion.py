"""Stable Diffusion 1.5, 2.1 and XL: sizes, prompts, guidance and unusual weights."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.staged import denoise_latents, run_stages
from tests.models.test_every_model import SAMPLE, config_of, image, mask
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.schema import Dtype, Guidance, Init
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.families import sd, sdxl
from wavespeed_runner.models.pipeline_call import get_task_pipeline
from wavespeed_runner.models.weights import byte_tokenizer, random_init
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

MODELS = ("sd15", "sd21", "sdxl")
SIZE: dict[str, Any] = {"width": 64, "height": 64, "steps": 2}


@lru_cache(maxsize=3)
def tiny(name: str) -> tuple[Any, Any, Any]:
    """(family, config, pipe) in float32."""
    config = replace(config_of(name), dtype=Dtype.float32)
    family = find_implementation("model", config)
    return family, config, load(family, config, "cpu")


def call_diffusers(pipe: Any, family: Any, task: str = "text_to_image", **call: Any) -> Any:
    """uint8 images by one call of diffusers' pipeline."""
    given = {"prompt": SAMPLE.prompt, "num_inference_steps": 2, "generator": torch.Generator().manual_seed(SAMPLE.seed)}
    images = get_task_pipeline(pipe, family, task)(**{**given, "output_type": "np", **call}).images
    return (images * 255).round().astype("uint8")


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("sd15", {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}),
        ("sd21", {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840}),
        (
            "sdxl",
            {
                "unet": 2_567_463_684,
                "vae": 83_653_863,
                "text_encoder": 123_060_480,
                "text_encoder_2": 694_659_840,
            },
        ),
    ],
)
def test_full_size_has_the_published_parameter_counts(name: str, counts: dict[str, int]) -> None:
    config = replace(config_of(name), init=Init.random)
    pipe = find_implementation("model", config).build(config, torch.float16, "meta")
    assert {part: sum(p.numel() for p in getattr(pipe, part).parameters()) for part in counts} == counts
    assert pipe.vae_scale_factor == 8
    own = pipe.unet.config.sample_size * pipe.vae_scale_factor
    assert (own, own) == (config.width, config.height)


@pytest.mark.parametrize("name", MODELS)
def test_a_size_that_the_levels_do_not_halve_evenly(name: str) -> None:
    family, config, pipe = tiny(name)
    ours = run_stages(family, pipe, config, SAMPLE, width=72, height=88, steps=2)
    negative = SAMPLE.negative_prompt
    call = {"width": 72, "height": 88, "guidance_scale": config.guidance_scale, "negative_prompt": negative}
    assert ours.shape == (1, 88, 72, 3) and np.array_equal(ours, call_diffusers(pipe, family, **call))


@pytest.mark.parametrize("name", MODELS)
def test_without_guidance_nothing_negative_is_encoded(name: str) -> None:
    family, config, pipe = tiny(name)
    assert not [key for key in family.encode(pipe, config, SAMPLE, 1.0) if "negative" in key]
    ours = run_stages(family, pipe, config, SAMPLE, guidance_scale=1.0, **SIZE)
    assert np.array_equal(ours, call_diffusers(pipe, family, width=64, height=64, guidance_scale=1.0))
    unguided = replace(config, guidance=Guidance.none, guidance_scale=None)
    assert np.array_equal(ours, run_stages(family, pipe, unguided, SAMPLE, **SIZE))
    assert not np.array_equal(ours, run_stages(family, pipe, config, SAMPLE, **SIZE))


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_an_empty_negative_prompt_is_what_the_pipeline_does_without_one(name: str) -> None:
    family, config, pipe = tiny(name)
    ours = run_stages(family, pipe, config, Sample(prompt=SAMPLE.prompt, seed=SAMPLE.seed), **SIZE)
    assert np.array_equal(ours, call_diffusers(pipe, family, width=64, height=64, guidance_scale=config.guidance_scale))
    empty = family.encode(pipe, config, Sample(prompt="a"), 5.0)["negative_prompt_embeds"]
    assert bool((empty == 0).all()) is (name == "sdxl")


@pytest.mark.parametrize("name", MODELS)
def test_a_prompt_that_would_be_cut_is_refused(name: str) -> None:
    family, config, pipe = tiny(name)
    read = replace(config, init=Init.pretrained)  # tokens are bytes here, and two more begin and end
    family.encode(pipe, read, Sample(prompt="x" * 75, negative_prompt="y" * 75), 5.0)
    family.encode(pipe, read, Sample(prompt="x", negative_prompt="y" * 76), 1.0)
    for sample in (Sample(prompt="x" * 76), Sample(prompt="x", negative_prompt="y" * 76)):
        with pytest.raises(RunError, match=r"has 78 tokens, and only tokenizer\.model_max_length=77"):
            family.encode(pipe, read, sample, 5.0)


@pytest.mark.parametrize("name", MODELS)
def test_latents_can_be_started_from(name: str) -> None:
    family, config, pipe = tiny(name)
    embeddings = family.encode(pipe, config, SAMPLE, 5.0)
    first = denoise_latents(family, pipe, config, embeddings, guidance_scale=5.0, **SIZE)["latents"]
    start = family.unpack_latents(pipe, first, width=64, height=64)
    again: dict[str, Any] = {"strength": 0.6, "guidance_scale": 5.0}
    task = "image_to_image"
    ours = run_stages(family, pipe, config, SAMPLE, task=task, image=start, **again, **SIZE)
    call = {"image": first, "negative_prompt": SAMPLE.negative_prompt, **again}
    assert np.array_equal(ours, call_diffusers(pipe, family, task, **call))
    with pytest.raises(RunError, match="latents with 4 channels, these have 16"):
        family.unpack_latents(pipe, first.repeat(1, 4, 1, 1), width=64, height=64)


def test_a_vae_with_statistics_of_each_channel() -> None:
    family, config, _ = tiny("sdxl")
    pipe = load(family, config, "cpu")
    plain = run_stages(family, pipe, config, SAMPLE, **SIZE)
    pipe.vae.register_to_config(latents_mean=[0.5, -0.5, 0.25, 0.0], latents_std=[1.5, 0.5, 1.0, 2.0])
    call = {"negative_prompt": SAMPLE.negative_prompt, "guidance_scale": config.guidance_scale}
    ours = run_stages(family, pipe, config, SAMPLE, **SIZE)
    assert np.array_equal(ours, call_diffusers(pipe, family, width=64, height=64, **call)) and not np.array_equal(
        ours, plain
    )


def test_the_vae_of_xl_decodes_in_float32_and_returns_to_float16() -> None:
    family, config, _ = tiny("sdxl")
    half = replace(config, dtype=Dtype.float16)
    pipe = load(family, half, "cpu")
    seen = []
    pipe.vae.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
    run_stages(family, pipe, half, SAMPLE, **SIZE)
    assert seen == [torch.float32] and pipe.vae.dtype == torch.float16

    def fails(module: Any, inputs: Any) -> None:
        raise MemoryError

    pipe.vae.decoder.register_forward_pre_hook(fails)
    with pytest.raises(MemoryError):
        run_stages(family, pipe, half, SAMPLE, **SIZE)
    assert pipe.vae.dtype == torch.float16


def guided_by_input(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stable Diffusion 1.5 distilled to take the guidance scale as an input, as LCM is."""
    distilled = random_init.override_configs(sd.TINY[sd.Variant.sd15], unet={"time_cond_proj_dim": 16})
    monkeypatch.setitem(sd.TINY, sd.Variant.sd15, distilled)
    _, config, _ = tiny("sd15")
    return replace(config, guidance=Guidance.embedded, guidance_scale=8.0)


def test_guidance_as_an_input_of_the_denoiser(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny("sd15")
    config = guided_by_input(monkeypatch)
    pipe = load(sd.SD, config, "cpu")
    ours = run_stages(sd.SD, pipe, config, SAMPLE, **SIZE)
    assert np.array_equal(ours, call_diffusers(pipe, sd.SD, width=64, height=64, guidance_scale=8.0))
    assert not np.array_equal(ours, run_stages(sd.SD, pipe, config, SAMPLE, guidance_scale=2.0, **SIZE))
    with pytest.raises(RunError, match=r"model\.guidance=true_cfg: does not fit .* use embedded"):
        load(sd.SD, replace(config, guidance=Guidance.true_cfg), "cpu")


def test_guidance_that_the_weights_do_not_take() -> None:
    family, config, pipe = tiny("sdxl")
    with pytest.raises(RunError, match=r"model\.guidance=embedded: does not fit .* use true_cfg or none"):
        family.check(replace(config, guidance=Guidance.embedded), pipe)


def test_weights_for_inpainting_alone_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nine = random_init.override_configs(sdxl.TINY, unet={"in_channels": 9})
    monkeypatch.setattr(sdxl, "TINY", nine)
    config = replace(config_of("sdxl"), dtype=Dtype.float32)
    with pytest.raises(RunError, match=r"takes 9 channels, but latents have 4: it can only inpaint"):
        load(sdxl.SDXL, config, "cpu")


def test_a_safety_checker_is_not_loaded(tmp_path: Any) -> None:
    family, config, pipe = tiny("sd15")
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["requires_safety_checker"] = True
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "safety_checker").mkdir()
    read = load(family, replace(config, init=Init.pretrained, repo=str(tmp_path)), "cpu")
    assert read.safety_checker is None and not read.config.requires_safety_checker


@lru_cache(maxsize=1)
def demo_like() -> tuple[Any, Any]:
    """(config, pipe) like the demo U-Net: a VAE of factor 4, 20 tokens, velocity predicted, DPM-Solver++."""
    from diffusers import AutoencoderTiny, DPMSolverMultistepScheduler, StableDiffusionPipeline

    _, config, pipe = tiny("sd15")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
            scaling_factor=0.7,
        ).eval()
    scheduler = DPMSolverMultistepScheduler(**sd.NOISE, prediction_type="v_prediction", timestep_spacing="trailing")
    parts = pipe.components | {"vae": vae, "scheduler": scheduler, "tokenizer": byte_tokenizer.build_clip_tokenizer(20)}
    return config, StableDiffusionPipeline(**parts, requires_safety_checker=False)


@pytest.mark.parametrize("task", list(sd.SD.tasks))
def test_a_model_of_the_demo_kind(task: str, tmp_path: Any) -> None:
    config, pipe = demo_like()
    pipe.save_pretrained(tmp_path)
    read = load(sd.SD, replace(config, init=Init.pretrained, repo=str(tmp_path)), "cpu")
    start: dict[str, Any] = {} if task == "text_to_image" else {"image": image(64), "strength": 0.6}
    start |= {"mask": mask(64)} if task == "inpaint" else {}
    ours = run_stages(sd.SD, read, config, SAMPLE, task=task, **start, **SIZE)
    call = {{"mask": "mask_image"}.get(key, key): value for key, value in start.items()}
    call |= {} if task == "image_to_image" else {"width": 64, "height": 64}
    call |= {"guidance_scale": config.guidance_scale, "negative_prompt": SAMPLE.negative_prompt}
    assert ours.shape == (1, 64, 64, 3) and np.array_equal(ours, call_diffusers(pipe, sd.SD, task, **call))
