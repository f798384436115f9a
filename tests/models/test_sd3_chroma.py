"""Stable Diffusion 3.5 and Chroma (with HiDream where they share a test): what `test_every_model.py` does not cover."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.staged import denoise_latents, run_stages
from tests.models.tiny_families import SAMPLE, SIZE, config_of, tiny
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.families import sd3
from wavespeed_runner.models.families.sd3 import Variant
from wavespeed_runner.models.weights import random_init
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

PUBLISHED = {
    # Weights of the transformer as the published safetensors have them, Stable Diffusion's without the position table.
    "sd35_large": {"transformer": 8_056_627_520, "text_encoder_2": 694_659_840, "text_encoder_3": 4_762_310_656},
    "sd35_medium": {"transformer": 2_243_171_520, "text_encoder": 123_650_304, "vae": 83_819_683},
    "chroma": {"transformer": 8_899_983_424, "text_encoder": 4_762_310_656, "vae": 83_819_683},
    "hidream": {"transformer": 17_105_733_184, "text_encoder_4": 8_030_261_248, "vae": 83_819_683},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size_is_the_published_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"pos_embed_max_size": 64}  # computed for real also on the meta device, which takes seconds at full size
    monkeypatch.setattr(sd3, "FULL", random_init.override_configs(sd3.FULL, transformer=table))
    monkeypatch.setattr(sd3, "MEDIUM", sd3.MEDIUM | table)
    config = config_of(f"model={name}", "model.init=random").model
    pipe = find_implementation("model", config).build(config, torch.bfloat16, "meta")
    counts = {part: sum(weight.numel() for weight in getattr(pipe, part).parameters()) for part in PUBLISHED[name]}
    assert counts == PUBLISHED[name]


@pytest.mark.parametrize("name", ["sd35_large", "chroma", "hidream"])
def test_guidance_of_one_is_off_and_needs_no_negative_prompt(name: str) -> None:
    family, config, pipe = tiny(name)
    assert not [key for key in family.encode(pipe, config, SAMPLE, 1.0) if "negative" in key]
    assert [key for key in family.encode(pipe, config, SAMPLE, 2.0) if "negative" in key]
    images = [
        run_stages(
            family, pipe, config, replace(SAMPLE, negative_prompt=negative), steps=2, guidance_scale=scale, **SIZE
        )
        for negative, scale in (("dark", 1.0), ("bright", 1.0), ("dark", 4.0), ("bright", 4.0))
    ]
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2]) and not np.array_equal(images[2], images[3])


@pytest.mark.parametrize("name", ["sd35_large", "chroma", "hidream_dev"])
def test_prompt_and_seed_matter(name: str) -> None:
    family, config, pipe = tiny(name)
    samples = (SAMPLE, replace(SAMPLE, prompt="two green squares"), replace(SAMPLE, seed=4))
    reference, other_prompt, other_seed = (
        run_stages(family, pipe, config, sample, steps=2, **SIZE) for sample in samples
    )
    assert not np.array_equal(reference, other_prompt) and not np.array_equal(reference, other_seed)
    assert np.array_equal(reference, run_stages(family, pipe, config, SAMPLE, steps=2, **SIZE))


@pytest.mark.parametrize(("name", "limit"), [("sd35_large", 256), ("chroma", 512), ("hidream", 128)])
def test_a_prompt_that_would_be_cut_is_refused(name: str, limit: int) -> None:
    family, config, pipe = tiny(name)
    real = replace(config, init=Init.pretrained)
    family.encode(pipe, real, SAMPLE, 2.0)
    for words in ({"prompt": "x" * limit}, {"negative_prompt": "x" * limit}):
        with pytest.raises(RunError, match=f"tokens, and only model.max_sequence_length={limit} of them would be read"):
            family.encode(pipe, real, replace(SAMPLE, **words), 2.0)


def test_sd3_without_t5_reads_what_clip_reads() -> None:
    family, config, _ = tiny("sd35_large")
    pipe = load(family, config, "cpu")
    pipe.text_encoder_3 = pipe.tokenizer_3 = None
    real = replace(config, init=Init.pretrained)
    family.encode(pipe, real, replace(SAMPLE, prompt="x" * 75), 1.0)
    with pytest.raises(RunError, match=r"has 78 tokens, and only tokenizer\.model_max_length=77 of them would be read"):
        family.encode(pipe, real, replace(SAMPLE, prompt="x" * 76), 1.0)


def test_sd3_must_be_the_variant_that_is_named() -> None:
    for name, other in (("sd35_large", Variant.medium), ("sd35_medium", Variant.large)):
        family, config, pipe = tiny(name)
        family.check(config, pipe)
        with pytest.raises(RunError, match=f"variant={other.value}.*use model={name}"):
            family.check(replace(config, variant=other), pipe)


@pytest.mark.parametrize("name", ["sd35_large", "sd35_medium", "chroma", "hidream"])
def test_values_that_the_pipeline_lacks_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.guidance=embedded: allowed: true_cfg, none"):
        config_of(f"model={name}", "model.guidance=embedded")
    with pytest.raises(ConfigError, match=r"model\.max_sequence_length=513: allowed: 1 to"):
        config_of(f"model={name}", "model.max_sequence_length=513")


@pytest.mark.parametrize("name", ["sd35_large", "chroma"])
def test_unpacked_latents_are_where_image_to_image_takes_them(name: str) -> None:
    family, config, pipe = tiny(name)
    grid = torch.randn(1, 16, 8, 12, generator=torch.Generator().manual_seed(1))
    embeddings = family.encode(pipe, config, SAMPLE, None)
    start = {"task": "image_to_image", "image": grid, "strength": 0.01, "width": 96, "height": 64}
    barely = denoise_latents(family, pipe, config, embeddings, steps=100, guidance_scale=None, **start)["latents"]
    # One step at noise level 0.03: what comes out is what went in, and not an image that was resized.
    torch.testing.assert_close(family.unpack_latents(pipe, barely, width=96, height=64), grid, rtol=0, atol=0.3)
