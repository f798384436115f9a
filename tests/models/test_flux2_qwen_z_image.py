"""FLUX.2, Qwen-Image and Z-Image: what `test_every_model.py` does not cover."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from tests.caching.generate import ALWAYS, fbcache
from tests.models.staged import denoise_latents, run_stages
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.caching import GenerationInfo, attach_strategy
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import Guidance, Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.families.qwen_image import QWEN_IMAGE
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.rules.check import apply_rules

MODELS = ("flux2", "flux2_klein", "flux2_klein_base", "flux2_klein_9b", "qwen_image", "z_image", "z_image_turbo")
SAMPLE = Sample(prompt="a red circle", negative_prompt="dark", seed=3)
SIZE = {"width": 64, "height": 64}


def config_of(*overrides: str) -> Any:
    with composer(None):
        return resolve_config(compose_job(list(overrides), list(overrides)))


@cache
def tiny(name: str) -> tuple[Any, Any, Any]:
    """(family, config, pipe)."""
    config = config_of(f"model={name}", "model.init=tiny", "model.dtype=float32").model
    family = find_implementation("model", config)
    return family, config, load(family, config, "cpu")


PUBLISHED = {
    # Transformer, text encoder: parameters in units of 1e9, as their authors state them, and of the autoencoder 1e6.
    "flux2": {"transformer": 32.2, "text_encoder": 24.0, "vae": 84.0},
    "flux2_klein": {"transformer": 3.9, "text_encoder": 4.02, "vae": 84.0},
    "flux2_klein_9b": {"transformer": 9.08, "text_encoder": 8.19, "vae": 84.0},
    "qwen_image": {"transformer": 20.4, "text_encoder": 8.29, "vae": 126.9},
    "z_image": {"transformer": 6.15, "text_encoder": 4.02, "vae": 83.8},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size_is_the_published_one(name: str) -> None:
    config = config_of(f"model={name}", "model.init=random").model
    pipe = find_implementation("model", config).build(config, torch.bfloat16, "meta")
    for part, billions in PUBLISHED[name].items():
        count = sum(weight.numel() for weight in getattr(pipe, part).parameters())
        assert count == pytest.approx(billions * (1e6 if part == "vae" else 1e9), rel=0.01), part


@pytest.mark.parametrize("name", MODELS)
def test_another_prompt_is_another_image(name: str) -> None:
    family, config, pipe = tiny(name)
    images = [
        run_stages(family, pipe, config, replace(SAMPLE, prompt=prompt), steps=2, **SIZE)
        for prompt in ("a red circle", "two green squares")
    ]
    assert not np.array_equal(*images)


def test_flux2_undoes_the_statistics_of_its_latents() -> None:
    """Those of random weights are 0 and 1, which would hide a step that is left out."""
    family, config, _ = tiny("flux2")
    pipe = load(family, config, "cpu")
    generator = torch.Generator().manual_seed(1)
    pipe.vae.bn.running_mean.normal_(0, 0.5, generator=generator)
    pipe.vae.bn.running_var.uniform_(0.5, 2, generator=generator)
    call = {"num_inference_steps": 2, "guidance_scale": 4.0, "generator": torch.Generator().manual_seed(3)}
    expected = pipe(prompt=SAMPLE.prompt, output_type="np", **SIZE, **call).images
    ours = run_stages(family, pipe, config, SAMPLE, steps=2, **SIZE)
    assert np.array_equal(ours, (expected * 255).round().astype("uint8"))


@pytest.mark.parametrize(
    ("name", "guidance"), [("flux2_klein", Guidance.true_cfg), ("flux2_klein_base", Guidance.none)]
)
def test_klein_must_be_what_guidance_says(name: str, guidance: Guidance) -> None:
    family, config, pipe = tiny(name)
    family.check(config, pipe)
    with pytest.raises(RunError, match=f"guidance={guidance.value}.*use {config.guidance.value}"):
        family.check(replace(config, guidance=guidance), pipe)


@pytest.mark.parametrize(("name", "guidance"), [("flux2", "none"), ("qwen_image", "embedded"), ("z_image", "embedded")])
def test_guidance_that_the_pipeline_lacks_is_refused(name: str, guidance: str) -> None:
    with pytest.raises(ConfigError, match=f"model.guidance={guidance}: allowed"):
        config_of(f"model={name}", f"model.guidance={guidance}")


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_z_image_is_guided_by_any_scale_above_zero(scale: float) -> None:
    family, config, pipe = tiny("z_image")
    generator = torch.Generator().manual_seed(SAMPLE.seed)
    call = {"prompt": SAMPLE.prompt, "negative_prompt": "dark", "guidance_scale": scale, "num_inference_steps": 2}
    expected = pipe(output_type="np", generator=generator, **SIZE, **call).images
    ours = run_stages(family, pipe, config, SAMPLE, steps=2, guidance_scale=scale, **SIZE)
    assert np.array_equal(ours, (expected * 255).round().astype("uint8"))
    assert not np.array_equal(ours, run_stages(family, pipe, config, SAMPLE, steps=2, guidance_scale=0.0, **SIZE))


@pytest.mark.parametrize("name", ["flux2_klein_base", "qwen_image", "z_image"])
def test_the_negative_prompt_is_encoded_only_where_it_acts(name: str) -> None:
    family, config, pipe = tiny(name)
    off = family.unguided_scale
    assert not [key for key in family.encode(pipe, config, SAMPLE, off) if key.startswith("negative")]
    assert [key for key in family.encode(pipe, config, SAMPLE, off + 0.5) if key.startswith("negative")]


def refusals(*overrides: str) -> set[str]:
    """Rules on guidance that refuse it."""
    bad = {spoken.rule for spoken in apply_rules(config_of(*overrides)) if spoken.verdict == "bad"}
    return {rule for rule in bad if rule.startswith(("guidance", "negative"))}


def test_rules_know_where_guidance_begins() -> None:
    assert refusals("model=z_image", "guidance_scale=0.5", "negative_prompt=dark") == set()
    assert refusals("model=z_image", "guidance_scale=0", "negative_prompt=dark") == {"negative-prompt"}
    assert refusals("model=qwen_image", "guidance_scale=0.5") == {"guidance-below-one"}
    assert refusals("model=z_image_turbo", "guidance_scale=1") == {"guidance-none"}


@pytest.mark.parametrize("name", ["flux2", "flux2_klein", "qwen_image", "z_image"])
def test_a_prompt_that_would_be_cut_is_refused(name: str) -> None:
    family, config, pipe = tiny(name)
    real = replace(config, init=Init.pretrained)
    family.encode(pipe, real, SAMPLE, None)
    with pytest.raises(RunError, match=r"tokens, and only model\.max_sequence_length=512 of them would be read"):
        family.encode(pipe, real, replace(SAMPLE, prompt="x" * 512), None)


def test_unpacked_qwen_latents_are_where_image_to_image_takes_them() -> None:
    family, config, pipe = tiny("qwen_image")
    grid = torch.randn(2, 16, 8, 12, generator=torch.Generator().manual_seed(1))
    packed = pipe._pack_latents(grid[:, None], 2, 16, 8, 12)
    assert torch.equal(family.unpack_latents(pipe, packed, width=96, height=64), grid)
    embeddings = family.encode(pipe, config, SAMPLE, None)
    start = {"task": "image_to_image", "image": grid[:1], "width": 96, "height": 64}
    barely = denoise_latents(family, pipe, config, embeddings, steps=50, guidance_scale=None, strength=0.02, **start)
    # One step at noise level 0.02: what comes out is what went in, and not an image that was resized.
    torch.testing.assert_close(
        family.unpack_latents(pipe, barely["latents"], width=96, height=64), grid[:1], rtol=0, atol=0.2
    )


def test_qwen_takes_a_block_cache() -> None:
    """Were a stream or an index wrong, a hit on the same input would differ; and a strategy that never hits must
    change no bit."""
    family, config, pipe = tiny("qwen_image")
    embeddings = family.encode(pipe, config, SAMPLE, None)
    call = {
        "hidden_states": torch.randn(1, 16, 64, generator=torch.Generator().manual_seed(1)),
        "encoder_hidden_states": embeddings["prompt_embeds"],
        "timestep": torch.tensor([0.5]),
        "img_shapes": [[(1, 4, 4)]],
        "return_dict": False,
    }
    with (
        torch.no_grad(),
        attach_strategy(
            [pipe.transformer], QWEN_IMAGE.blocks, fbcache(ALWAYS), GenerationInfo(steps=lambda: 2)
        ) as trace,
    ):
        computed = pipe.transformer(**call)[0]
        trace.end_step()
        skipped = pipe.transformer(**call)[0]
    assert [decision.computed for decision in trace.decisions] == [True, False]
    torch.testing.assert_close(skipped, computed, rtol=0, atol=5e-6)

    plain = denoise_latents(family, pipe, config, embeddings, steps=3, guidance_scale=None, **SIZE)["latents"]
    with attach_strategy([pipe.transformer], QWEN_IMAGE.blocks, fbcache(0.0), GenerationInfo(steps=lambda: 3)) as trace:
        cached = denoise_latents(
            family, pipe, config, embeddings, steps=3, guidance_scale=None, on_step=trace.end_step, **SIZE
        )["latents"]
    assert len(trace.decisions) == 3 and torch.equal(cached, plain)


def test_qwen_image_needs_the_steps_that_it_says() -> None:
    family, config, pipe = tiny("qwen_image")
    embeddings = family.encode(pipe, config, SAMPLE, 1.0)
    assert family.min_steps == 2
    with pytest.raises(RunError, match="its timesteps are not finite"):
        denoise_latents(family, pipe, config, embeddings, steps=1, guidance_scale=1.0, **SIZE)
    result = denoise_latents(family, pipe, config, embeddings, steps=2, guidance_scale=1.0, **SIZE)["latents"]
    assert bool(torch.isfinite(result).all())
