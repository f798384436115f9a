"""Options beside `guidance_scale`: each gives the bits of diffusers' own argument, or is refused where it has none."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.shipped import TINY
from tests.models.staged import run_stages
from tests.models.test_every_model import SAMPLE, config_of
from wavespeed_runner.cli.plan_text import plan_text
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.schema import Dtype, Guidance
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.pipeline_call import get_task_pipeline
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.registry import find_implementation

STEPS = 2
NEGATIVE = SAMPLE.negative_prompt


@lru_cache(maxsize=6)
def tiny(name: str) -> tuple[Any, Any, Any]:
    """(family, config, pipe) in float32."""
    config = replace(config_of(name), dtype=Dtype.float32)
    family = find_implementation("model", config)
    return family, config, load(family, config, "cpu")


def smallest(name: str) -> dict[str, Any]:
    """Width and height, of videos also the frames."""
    family = tiny(name)[0]
    size = {"width": family.tiny_size, "height": family.tiny_size}
    return size | ({"num_frames": family.tiny_frames} if family.kind == "video" else {})


def call_diffusers(name: str, **call: Any) -> Any:
    """uint8 pixels by one call of diffusers' pipeline for the first task."""
    family, config, pipe = tiny(name)
    given: dict[str, Any] = {"num_inference_steps": STEPS, "generator": torch.Generator().manual_seed(SAMPLE.seed)}
    given |= smallest(name) | {"guidance_scale": config.guidance_scale}
    pipe = get_task_pipeline(pipe, family, next(iter(family.tasks)))
    output = pipe(prompt=SAMPLE.prompt, output_type="np", **{**given, **call})
    return ((output.images if hasattr(output, "images") else output.frames) * 255).round().astype("uint8")


def run_ours(name: str, **options: Any) -> Any:
    family, config, pipe = tiny(name)
    return run_stages(family, pipe, replace(config, **options), SAMPLE, steps=STEPS, **smallest(name))


@pytest.mark.parametrize(
    ("name", "options", "call"),
    [
        ("sdxl", {"clip_skip": 1}, {"clip_skip": 1, "negative_prompt": NEGATIVE}),
        ("sd35_medium", {"clip_skip": 1}, {"clip_skip": 1, "negative_prompt": NEGATIVE}),
        ("sd21", {"guidance_rescale": 0.7}, {"guidance_rescale": 0.7, "negative_prompt": NEGATIVE}),
        ("sdxl", {"guidance_rescale": 0.7}, {"guidance_rescale": 0.7, "negative_prompt": NEGATIVE}),
        (
            "ltx_video",
            {"guidance_rescale": 0.7},
            {"guidance_rescale": 0.7, "negative_prompt": NEGATIVE, "frame_rate": 25},
        ),
        ("flux", {"true_cfg_scale": 4.0}, {"true_cfg_scale": 4.0, "negative_prompt": NEGATIVE}),
        ("hunyuan_video", {"true_cfg_scale": 4.0}, {"true_cfg_scale": 4.0, "negative_prompt": NEGATIVE}),
    ],
)
def test_each_is_diffusers_own_argument(name: str, options: dict[str, Any], call: dict[str, Any]) -> None:
    ours = run_ours(name, **options)
    assert np.array_equal(ours, call_diffusers(name, **call))
    assert not np.array_equal(ours, run_ours(name))


@pytest.mark.parametrize("skipped", [1, 2])
def test_stable_diffusion_without_the_last_layers(skipped: int) -> None:
    """diffusers' own argument fails with transformers 5; the layers are taken off the text encoder here."""
    pipe = tiny("sd15")[2]
    cut = deepcopy(pipe.text_encoder)
    inner = getattr(cut, "text_model", cut)
    inner.encoder.layers = inner.encoder.layers[: len(inner.encoder.layers) - skipped]
    whole = pipe.text_encoder
    pipe.text_encoder = cut
    try:
        expected = call_diffusers("sd15", negative_prompt=NEGATIVE)
    finally:
        pipe.text_encoder = whole
    ours = run_ours("sd15", clip_skip=skipped)
    assert np.array_equal(ours, expected) and not np.array_equal(ours, run_ours("sd15"))


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd35_medium"])
def test_more_layers_than_a_text_encoder_has(name: str) -> None:
    family, config, pipe = tiny(name)
    layers = pipe.text_encoder.config.num_hidden_layers
    most = layers - (1 if name == "sd15" else 2)
    family.check(replace(config, clip_skip=max(most, 0) or None), pipe)
    with pytest.raises(RunError, match=rf"model\.clip_skip={most + 1}: the text encoder has {layers} layers"):
        family.check(replace(config, clip_skip=most + 1), pipe)


def plan(*overrides: str) -> Any:
    with composer(None):
        given = [*TINY, "prompt=x", *overrides]
        return build_plan(compose_job(given, given))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model=sd15", "model.clip_skip=0"), r"model\.clip_skip=0: at least 1 layer, or null"),
        (("model=sdxl", "model.guidance_rescale=1.5"), r"model\.guidance_rescale=1\.5: allowed: 0 \(off\) to 1"),
        (("model=sdxl", "model.guidance_rescale=0.7", "guidance_scale=1"), "no guidance to rescale"),
        (("model=ltx2", "model.guidance_rescale=2"), r"model\.guidance_rescale=2: allowed"),
        (
            ("model=sd15", "model.guidance_rescale=0.7", "graph=image_to_image"),
            r"model\.guidance_rescale=0\.7: diffusers has none for image_to_image with this model",
        ),
        (("model=flux", "model.true_cfg_scale=1"), r"model\.true_cfg_scale=1: acts above 1"),
        (("model=flux_schnell", "model.true_cfg_scale=4"), r"has no effect with model\.guidance=none"),
        (("model=flux", "negative_prompt=dark"), r"nothing uses it with model\.guidance=embedded.*true_cfg_scale=4"),
        (("model=sd15", "guidance_scale=1", "negative_prompt=dark"), r"guidance_scale=1.*guidance_scale above 1"),
        (("model=flux2", "negative_prompt=dark"), r"a model with classifier-free guidance, or no negative_prompt"),
    ],
)
def test_what_could_not_take_effect_is_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(*overrides)


def test_sdxl_rescales_guidance_from_an_image_too() -> None:
    plan("model=sdxl", "model.guidance_rescale=0.7", "graph=image_to_image")
    plan("model=flux", "model.true_cfg_scale=4", "negative_prompt=dark")


def test_true_cfg_beside_embedded_guidance_has_two_branches() -> None:
    config = replace(config_of("flux"), true_cfg_scale=4.0)
    assert config.guidance is Guidance.embedded
    family = find_implementation("model", config)
    assert any("negative" in key for key in family.encode(tiny("flux")[2], config, SAMPLE, config.guidance_scale))


def test_the_plan_says_which_own_options_are_on() -> None:
    text = plan_text(
        plan("model=sdxl", "model.clip_skip=1", "sampler=dpmpp_2m_karras", "sampler.timestep_spacing=trailing")
    )
    assert "(clip_skip=1)" in text and "sampler dpmpp_2m (sigmas=karras, timestep_spacing=trailing)" in text
    assert "sampler euler, cache" in plan_text(plan("model=flux", "sampler=euler"))
