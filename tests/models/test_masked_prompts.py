"""Lumina-Image 2.0, PixArt-Sigma and Sana: what `test_every_model.py` does not cover."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.staged import run_stages
from tests.models.test_flux2_qwen_z_image import config_of
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

PUBLISHED = {
    "lumina2": {"transformer": 2.6e9, "text_encoder": 2.61e9, "vae": 83.8e6},
    "pixart_sigma": {"transformer": 611e6, "text_encoder": 4.76e9, "vae": 83.7e6},
    "sana": {"transformer": 1.604e9, "text_encoder": 2.61e9, "vae": 312e6},
}
"""Parameters."""
SAMPLE = Sample(prompt="a red circle", negative_prompt="dark", seed=3)
SIZE = {"width": 64, "height": 64}


@cache
def tiny(name: str) -> tuple[Any, Any, Any]:
    """(family, config, pipe)."""
    config = config_of(f"model={name}", "model.init=tiny", "model.dtype=float32").model
    family = find_implementation("model", config)
    return family, config, load(family, config, "cpu")


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size_is_the_published_one(name: str) -> None:
    config = config_of(f"model={name}", "model.init=random").model
    pipe = find_implementation("model", config).build(config, torch.bfloat16, "meta")
    for part, published in PUBLISHED[name].items():
        count = sum(weight.numel() for weight in getattr(pipe, part).parameters())
        assert count == pytest.approx(published, rel=0.01), part


@pytest.mark.parametrize("name", PUBLISHED)
def test_prompts_and_guidance_act(name: str) -> None:
    family, config, pipe = tiny(name)
    config = replace(config, **({"cfg_trunc_ratio": 1.0} if name == "lumina2" else {}))
    settings = (("a red circle", "dark", 4.0), ("two squares", "dark", 4.0), ("a red circle", "bright", 4.0))
    settings = (*settings, ("a red circle", "dark", 1.0))
    images = [
        run_stages(
            family,
            pipe,
            config,
            replace(SAMPLE, prompt=prompt, negative_prompt=negative),
            steps=2,
            guidance_scale=scale,
            **SIZE,
        )
        for prompt, negative, scale in settings
    ]
    assert not any(np.array_equal(images[0], other) for other in images[1:])
    assert not [key for key in family.encode(pipe, config, SAMPLE, 1.0) if key.startswith("negative")]


@pytest.mark.parametrize("part", [0.5, 1.0])
def test_lumina_guides_a_part_of_the_steps(part: float) -> None:
    family, config, pipe = tiny("lumina2")
    config = replace(config, cfg_trunc_ratio=part, cfg_normalization=False)
    expected = pipe(
        prompt=SAMPLE.prompt,
        negative_prompt="dark",
        guidance_scale=4.0,
        cfg_trunc_ratio=part,
        cfg_normalization=False,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(SAMPLE.seed),
        output_type="np",
        **SIZE,
    ).images
    assert np.array_equal(
        run_stages(family, pipe, config, SAMPLE, steps=4, **SIZE), (expected * 255).round().astype("uint8")
    )
    with pytest.raises(ConfigError, match=r"cfg_trunc_ratio=2.0: allowed: 0 to 1"):
        replace(config, cfg_trunc_ratio=2.0)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("which", ["prompt", "negative_prompt"])
def test_a_prompt_that_would_be_cut_is_refused(name: str, which: str) -> None:
    family, config, pipe = tiny(name)
    real = replace(config, init=Init.pretrained)
    family.encode(pipe, real, SAMPLE, 4.0)
    with pytest.raises(
        RunError, match=rf"only model.max_sequence_length={config.max_sequence_length} of them would be read"
    ):
        family.encode(pipe, real, replace(SAMPLE, **{which: "x" * 301}), 4.0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_negative_prompt_that_is_not_read_may_be_long(name: str) -> None:
    family, config, pipe = tiny(name)
    real = replace(config, init=Init.pretrained)
    encoded = [family.encode(pipe, real, replace(SAMPLE, negative_prompt=text), 1.0) for text in ("x" * 301, "")]
    assert all(torch.equal(encoded[0][key], encoded[1][key]) for key in encoded[0])


def test_building_random_models_leaves_transformers_intact() -> None:
    """In a separate process: transformers must not keep the functions that replace torch's while a model is built.

    Otherwise buffers of models that are loaded later (Gemma's scale) would have no values.
    """
    program = """
from wavespeed_runner.models.weights.random_init import _build_module, build_random_module
from wavespeed_runner.models.text.gemma import GEMMA2, TINY_GEMMA2
import torch
build = lambda: _build_module(GEMMA2[0], GEMMA2[1] | TINY_GEMMA2)
build_random_module(build, seed=0, dtype=torch.float32, device="cpu")
from transformers import initialization
print(initialization.constant_(torch.zeros(3), 2.0).tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[2.0, 2.0, 2.0]"
