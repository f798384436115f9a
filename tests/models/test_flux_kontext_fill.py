"""FLUX.1-Kontext, which reads an image beside noise, and FLUX.1-Fill, which reads an image and a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.models import original_transformers
from tests.models.shared_files import assert_same, load_file
from tests.models.staged import denoise_latents, encode_prompt, run_stages
from tests.models.test_every_model import SAMPLE, call_diffusers, config_of, image, start_of, tiny
from tests.models.tiny_families import composed
from tests.models.tiny_families import config_of as compose
from wavespeed_runner.caching import attach_strategy
from wavespeed_runner.caching.calibration.data import build_key
from wavespeed_runner.caching.calibration.resolve import resolve_cache_numbers
from wavespeed_runner.caching.criteria.published import find_ratios
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.families import flux, flux_fill, flux_kontext
from wavespeed_runner.models.family import CallInputs
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.rules.check import apply_rules
from wavespeed_runner.stages.attached import build_generation_info

SIZE = 128


def latents_of(name: str, **inputs: Any) -> torch.Tensor:
    family, config, pipe = tiny(name)
    embeddings = encode_prompt(family, pipe, config, SAMPLE, config.guidance_scale)
    size = {"width": SIZE, "height": SIZE, "steps": 2}
    return denoise_latents(family, pipe, config, embeddings, **{**size, **inputs})["latents"]


def speaking(*overrides: str) -> dict[str, str]:
    """Rule -> its way out, for every rule that refuses."""
    return {word.rule: word.fix for word in apply_rules(compose(*overrides)) if word.verdict == "bad"}


@pytest.mark.parametrize("name", ["flux_kontext", "flux_fill"])
def test_full_size_is_the_published_one(name: str) -> None:
    config = replace(config_of(name), init=Init.random)
    pipe = tiny(name)[0].build(config, torch.bfloat16, "meta")
    for part, billions in {"transformer": 11.9, "text_encoder": 0.123, "text_encoder_2": 4.76, "vae": 0.0838}.items():
        count = sum(weight.numel() for weight in getattr(pipe, part).parameters())
        assert count == pytest.approx(billions * 1e9, rel=0.01), part


def test_kontext_reads_the_image_and_makes_one_of_the_prompt_alone() -> None:
    first, second = (latents_of("flux_kontext", image=image(SIZE, seed)) for seed in (0, 1))
    alone = latents_of("flux_kontext", task="text_to_image")
    assert first.shape == second.shape == alone.shape
    assert not torch.allclose(first, second, atol=1e-3) and not torch.allclose(first, alone, atol=1e-3)


def test_fill_reads_the_image_outside_of_the_mask_alone() -> None:
    start = start_of("inpaint", SIZE)
    inside = np.asarray(start["image"]).copy()
    inside[: SIZE // 2] = 0  # where the mask is white
    outside = np.asarray(start["image"]).copy()
    outside[SIZE // 2 :] = 0
    plain, same, other = (
        latents_of("flux_fill", **{**start, "image": Image.fromarray(each)})
        for each in (np.asarray(start["image"]), inside, outside)
    )
    assert torch.equal(plain, same) and not torch.allclose(plain, other, atol=1e-3)
    more = latents_of("flux_fill", **{**start, "mask": Image.new("L", (SIZE, SIZE), 255)})
    assert not torch.allclose(plain, more, atol=1e-3)


def test_trained_sizes_are_those_of_diffusers() -> None:
    assert set(flux_kontext.TRAINED_SIZES) == set(PREFERRED_KONTEXT_RESOLUTIONS)


@given(width=st.integers(1, 5000), height=st.integers(1, 5000))
def test_the_size_of_an_image_is_chosen_as_diffusers_does(width: int, height: int) -> None:
    _, *expected = min((abs(width / height - w / h), w, h) for w, h in PREFERRED_KONTEXT_RESOLUTIONS)
    config = replace(config_of("flux_kontext"), init=Init.pretrained)
    assert flux_kontext.choose_size(config, (width, height)) == tuple(expected)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), (1328, 800)),
        (("model.trained_sizes=false",), (1280, 800)),
        (("model.init=tiny",), (160, 96)),
        (("width=512",), (512, 320)),
        (("width=512", "height=512"), (512, 512)),
    ],
)
def test_a_run_follows_the_shape_of_its_image(
    overrides: tuple[str, ...], expected: tuple[int, int], tmp_path: Path
) -> None:
    file = tmp_path / "wide.png"
    Image.new("RGB", (1600, 1000)).save(file)
    data = composed("model=flux_kontext", f"image={file}", "device=cpu", "prompt=x", *overrides)
    config = build_plan(data).config
    assert (config.width, config.height) == expected


def test_an_image_is_read_at_a_size_of_training_whatever_the_size_of_the_result() -> None:
    family, config, pipe = tiny("flux_kontext")
    config = replace(config, trained_sizes=True)
    given = {"width": SIZE, "height": SIZE, "image": image(SIZE)}
    ours = run_stages(family, pipe, config, SAMPLE, task="image_to_image", steps=1, **given)
    call = {"guidance_scale": 2.5, "max_area": SIZE**2, "output_type": "np", "num_inference_steps": 1}
    generator = torch.Generator().manual_seed(SAMPLE.seed)
    theirs = np.asarray(pipe(prompt=SAMPLE.prompt, generator=generator, **given, **call).images)
    assert np.array_equal(ours, (theirs * 255).round().astype("uint8"))
    assert not np.array_equal(ours, call_diffusers(family, config, pipe, "image_to_image", given, SAMPLE.prompt, 3, 1))


def test_no_strength_acts_on_an_edit() -> None:
    kontext = ("model=flux_kontext", "device=cpu")
    assert speaking(*kontext, "strength=0.5") == {"strength-unused": "graph=inpaint, or leave strength out"}
    assert speaking(*kontext, "model.strength=0.5") == {"strength-unused": "graph=inpaint, or leave strength out"}
    assert "strength-unused" in speaking(*kontext, "graph=hires_fix")
    assert not speaking(*kontext, "graph=inpaint", "strength=0.5") and not speaking(*kontext)
    assert not speaking("model=flux_fill", "device=cpu", "strength=0.5")
    fix = "graph=image_to_image, or leave strength out"
    assert speaking("model=flux", "device=cpu", "strength=0.5") == {"strength-unused": fix}


def test_a_calibration_of_an_edit_is_for_all_steps() -> None:
    assert "strength" not in build_key(compose("model=flux_kontext"))
    assert build_key(compose("model=flux_kontext", "graph=inpaint"))["strength"] == 1.0


def test_published_ratios_are_those_of_an_edit() -> None:
    config, _ = resolve_cache_numbers(compose("model=flux_kontext", "cache=magcache"), tiny("flux_kontext")[0])
    assert config.cache.criterion.ratios == list(find_ratios("black-forest-labs/FLUX.1-Kontext-dev", 30).ratios)


def test_the_cache_sees_the_tokens_of_the_image_that_is_made() -> None:
    family, _, pipe = tiny("flux_kontext")
    cache = compose("model=flux_kontext", "cache=easycache", "cache.threshold=0").cache
    wanted = CallInputs(
        task="image_to_image", steps=2, guidance_scale=2.5, width=SIZE, height=SIZE, generator=None, image=image(SIZE)
    )
    info = build_generation_info(pipe, family, wanted, 1)
    assert info.own_tokens == 64
    seen: list[torch.Size] = []
    observer = SimpleNamespace(
        record_blocks=lambda branch, call, residual: seen.append(call.latents.shape),
        record_output=lambda branch, output: seen.append(output.shape),
    )
    with attach_strategy([pipe.transformer], family.blocks, cache, info, observer=observer):
        latents_of("flux_kontext", image=image(SIZE))
    assert seen == [torch.Size((1, 64, 64))] * 4


def test_fill_refuses_a_denoiser_without_a_mask() -> None:
    family, config, _ = tiny("flux_fill")
    other = flux.build_random(config_of("flux"), torch.float32, "cpu", "FluxFillPipeline", flux.TINY)
    with pytest.raises(RunError, match=r"takes 64 channels, and FLUX\.1-Fill-dev 384; use model=flux"):
        family.check(config, other)


def test_a_single_file_of_fill(tmp_path: Path, folders: Callable[[str], Path], narrow_flux: None) -> None:
    transformer = tiny("flux_fill")[2].transformer
    loaded = load_file("flux_fill", folders("flux_fill"), original_transformers.flux(transformer))
    assert_same(loaded.transformer, transformer)
    assert loaded.transformer.config.in_channels == flux_fill.CHANNELS["in_channels"]
