"""Qwen-Image-Edit and its later versions, which read an image beside noise, and the prompt together with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit import calculate_dimensions
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.models.staged import denoise_latents, encode_prompt, run_stages
from tests.models.test_every_model import SAMPLE, config_of, image, tiny
from tests.models.their_calls import NEGATIVE
from tests.models.tiny_families import composed
from tests.models.tiny_families import config_of as compose
from wavespeed_runner.caching.calibration.resolve import resolve_cache_numbers
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.families import qwen_image_edit
from wavespeed_runner.models.families.qwen_image_edit import PIXELS, Version
from wavespeed_runner.models.text import vision
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.rules.check import apply_rules

NAMES = ("qwen_image_edit", "qwen_image_edit_2509", "qwen_image_edit_2511")
SIZE = 128


def refusals(*overrides: str) -> dict[str, str]:
    """Rule -> its way out, for every rule that refuses."""
    return {word.rule: word.fix for word in apply_rules(compose(*overrides)) if word.verdict == "bad"}


@pytest.mark.parametrize("name", NAMES)
def test_full_size_is_the_published_one(name: str) -> None:
    config = replace(config_of(name), init=Init.random)
    pipe = tiny(name)[0].build(config, torch.bfloat16, "meta")
    for part, count in {"transformer": 20.4e9, "text_encoder": 8.29e9, "vae": 126.9e6}.items():
        assert sum(weight.numel() for weight in getattr(pipe, part).parameters()) == pytest.approx(count, rel=0.01)
    assert pipe.transformer.config.zero_cond_t == name.endswith("2511")


@pytest.mark.parametrize("name", NAMES)
def test_both_the_text_encoder_and_the_denoiser_read_the_image(name: str) -> None:
    family, config, pipe = tiny(name)
    first, second = (
        encode_prompt(family, pipe, config, SAMPLE, config.guidance_scale, image(SIZE, seed)) for seed in (0, 1)
    )
    assert set(first) == {f"{of}prompt_embeds{mask}" for of in ("", "negative_") for mask in ("", "_mask")}
    assert not torch.allclose(first["prompt_embeds"], second["prompt_embeds"], atol=1e-3)
    size = {"width": SIZE, "height": SIZE, "steps": 2}
    one, other = (
        denoise_latents(family, pipe, config, first, image=image(SIZE, seed), **size)["latents"] for seed in (0, 1)
    )
    assert one.shape == (1, 64, 64) and not torch.allclose(one, other, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_read_at_a_million_pixels_as_diffusers_does(name: str) -> None:
    family, config, pipe = tiny(name)
    config = replace(config, image_pixels=PIXELS)
    given = {"width": SIZE, "height": SIZE, "image": image(SIZE)}
    ours = run_stages(family, pipe, config, SAMPLE, steps=2, **given)
    generator = torch.Generator().manual_seed(SAMPLE.seed)
    call = {"true_cfg_scale": 4.0, "negative_prompt": NEGATIVE, "num_inference_steps": 2, "output_type": "np"}
    theirs = np.asarray(pipe(prompt=SAMPLE.prompt, generator=generator, **given, **call).images)
    assert np.array_equal(ours, (theirs * 255).round().astype("uint8"))


@given(width=st.integers(16, 5000), height=st.integers(16, 5000), pixels=st.integers(32**2, 4096**2))
def test_sizes_are_those_that_diffusers_computes(width: int, height: int, pixels: int) -> None:
    expected = calculate_dimensions(pixels, width / height)[:2]
    assert qwen_image_edit.scale_to(pixels, width, height) == tuple(max(side, 32) for side in expected)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [((), (1184, 896)), (("model.init=tiny",), (144, 112)), (("width=512", "height=512"), (512, 512))],
)
def test_a_run_follows_the_shape_of_its_image(
    overrides: tuple[str, ...], expected: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavespeed_runner.rules.basics.find_spec", lambda name: object())
    file = tmp_path / "photo.png"
    Image.new("RGB", (1600, 1200)).save(file)
    config = build_plan(composed("model=qwen_image_edit", f"image={file}", "device=cpu", "prompt=x", *overrides)).config
    assert (config.width, config.height) == expected


def test_torchvision_is_asked_for_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavespeed_runner.rules.basics.find_spec", lambda name: None)
    assert refusals("model=qwen_image_edit", "device=cpu") == {"model-package": "pip install torchvision"}
    assert not refusals("model=qwen_image_edit", "device=cpu", "model.init=tiny")
    assert not refusals("model=qwen_image", "device=cpu")
    monkeypatch.setattr("wavespeed_runner.rules.basics.find_spec", lambda name: object())
    assert not refusals("model=qwen_image_edit", "device=cpu")


def test_a_graph_without_the_image_is_told_the_one_that_has_it() -> None:
    tiny_edit = ("model=qwen_image_edit", "model.init=tiny", "device=cpu")
    way_out = refusals(*tiny_edit, "graph=image_to_image")["encode-needs-image"]
    assert way_out == "graph=image_to_image_seen, or wire an image to the stage"
    assert refusals(*tiny_edit, "graph=text_to_image")["graph-fits"] == "graph=image_to_image_seen"
    assert refusals("model=qwen_image", "device=cpu", "graph=image_to_image_seen").keys() == {"encode-takes-no-image"}
    assert refusals(*tiny_edit, "strength=0.5") == {"strength-unused": "leave strength out"}


def test_a_long_prompt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    family, config, pipe = tiny("qwen_image_edit")
    monkeypatch.setattr(qwen_image_edit, "MOST_TOKENS", 100)
    with pytest.raises(RunError, match=r"with the image it has \d+ tokens, and this model reads at most 100"):
        encode_prompt(family, pipe, config, SAMPLE, config.guidance_scale, image(SIZE))


def test_weights_of_the_other_version_are_refused() -> None:
    family, config, pipe = tiny("qwen_image_edit_2509")
    family.check(config, pipe)
    with pytest.raises(RunError, match=r"model\.variant=edit_2511: does not fit .*; use edit_2509"):
        family.check(replace(config, variant=Version.edit_2511), pipe)


@pytest.mark.parametrize("pixels", [0, 1023, 4096**2 + 1])
def test_pixels_out_of_bounds_are_refused(pixels: int) -> None:
    with pytest.raises(ConfigError, match=f"model.image_pixels={pixels}: allowed: 1024 to 16777216"):
        replace(config_of("qwen_image_edit"), image_pixels=pixels)


def test_published_ratios_are_those_of_an_edit() -> None:
    config, _ = resolve_cache_numbers(compose("model=qwen_image_edit", "cache=magcache"), tiny("qwen_image_edit")[0])
    assert len(config.cache.criterion.ratios) == len(config.cache.criterion.ratios_uncond) == 50


def test_the_pipeline_is_left_as_it_was() -> None:
    family, config, pipe = tiny("qwen_image_edit")
    embeddings = encode_prompt(family, pipe, config, SAMPLE, config.guidance_scale, image(SIZE))
    import diffusers.pipelines.qwenimage.pipeline_qwenimage_edit as module

    for inputs in ({"width": SIZE, "height": SIZE}, {"width": -1, "height": SIZE}):
        try:
            denoise_latents(family, pipe, config, embeddings, image=image(SIZE), steps=2, **inputs)
        except Exception:
            assert inputs["width"] == -1
        assert module.calculate_dimensions is calculate_dimensions


def test_the_stand_in_reads_images_with_the_code_of_transformers() -> None:
    processor = vision.build_processor(vision.build_tokenizer(4096))
    text = "a<|vision_start|><|image_pad|><|vision_end|>b"
    read = processor(text=[text], images=[Image.new("RGB", (128, 128))], return_tensors="pt")
    assert read["image_grid_thw"].tolist() == [[1, 10, 10]] and read["pixel_values"].shape == (100, 1176)
    image_token = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert (read["input_ids"] == image_token).sum() == 25
