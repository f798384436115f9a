"""FLUX: encode, denoise and decode against one call of diffusers' own pipeline; tiny and full-size models."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tests.models.tiny_flux import SAMPLE, SCALES, generate_staged, generate_whole, tiny_config
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.config.schema import Dtype, Guidance, Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.families import flux
from wavespeed_runner.models.families.flux import FLUX, TINY, FluxConfig, encode
from wavespeed_runner.models.weights.pretrained import load

CALLS = {
    Guidance.embedded: {"guidance_scale": 3.5},
    Guidance.true_cfg: {"true_cfg_scale": 2.0, "negative_prompt": SAMPLE.negative_prompt},
    Guidance.none: {},
}


@pytest.mark.parametrize("guidance", list(Guidance))
def test_three_steps_are_the_pipeline_bit_for_bit(tiny_pipes, guidance):
    pipe, config = tiny_pipes[guidance]
    ours = generate_staged(pipe, config)
    assert ours.dtype == np.uint8 and ours.shape == (1, 64, 64, 3) and ours.std() > 5
    assert np.array_equal(ours, generate_whole(pipe, config, **CALLS[guidance]))


def test_guidance_scale_of_one_is_off(tiny_pipes):
    pipe, _ = tiny_pipes[Guidance.true_cfg]
    config = tiny_config(Guidance.true_cfg, guidance_scale=1.0)
    assert set(encode(pipe, config, SAMPLE, 1.0)) == {"prompt_embeds", "pooled_prompt_embeds"}
    assert np.array_equal(generate_staged(pipe, config), generate_whole(pipe, config))
    assert not np.array_equal(generate_staged(pipe, config), generate_staged(*tiny_pipes[Guidance.true_cfg]))


def test_bit_equal_in_bfloat16():
    config = tiny_config(dtype=Dtype.bfloat16)
    pipe = load(FLUX, config, "cpu")
    assert {p.dtype for m in (pipe.transformer, pipe.vae, pipe.text_encoder_2) for p in m.parameters()} == {
        torch.bfloat16
    }
    assert np.array_equal(generate_staged(pipe, config), generate_whole(pipe, config, guidance_scale=3.5))


def test_every_step_is_told(tiny_pipes):
    seen = []
    pipe, config = tiny_pipes[Guidance.embedded]
    generate_staged(pipe, config, on_step=lambda: seen.append(1))
    assert len(seen) == 3


@pytest.fixture(scope="module")
def demo_like(tiny_pipes):
    """The tiny model with the VAE class of the demo, whose factor is 4."""
    from diffusers import AutoencoderTiny, FluxPipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
            latent_channels=16,
            scaling_factor=1.5,
            shift_factor=0.1,
        ).eval()
    pipe, config = tiny_pipes[Guidance.true_cfg]
    return FluxPipeline(**{**pipe.components, "vae": vae, "image_encoder": None, "feature_extractor": None}), config


def test_a_vae_of_the_demo_kind(demo_like):
    pipe, config = demo_like
    assert np.array_equal(generate_staged(pipe, config), generate_whole(pipe, config, **CALLS[Guidance.true_cfg]))


def test_loading_the_demo_kind_warns_about_nothing(demo_like, tmp_path):
    pipe, _ = demo_like
    pipe.save_pretrained(tmp_path)
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("diffusers").addHandler(handler)
    try:
        load(FLUX, tiny_config(Guidance.true_cfg, init=Init.pretrained, repo=str(tmp_path)), "cpu")
    finally:
        logging.getLogger("diffusers").removeHandler(handler)
    assert [record.getMessage() for record in records if record.levelno >= logging.WARNING] == []


def test_tiny_has_the_same_bits_every_time_and_leaves_the_global_state(tiny_pipes):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again = load(FLUX, tiny_config(), "cpu")
    generate_staged(again, tiny_config())
    assert torch.equal(before, torch.get_rng_state())
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        first = getattr(tiny_pipes[Guidance.embedded][0], name).state_dict()
        second = getattr(again, name).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first), name


def test_prompt_and_seed_matter(tiny_pipes):
    pipe, config = tiny_pipes[Guidance.embedded]
    texts = ["a red circle", "a blue circle", "ein grüner Kreis", ""]
    for tokenizer in (pipe.tokenizer, pipe.tokenizer_2):
        assert len({tuple(tokenizer(text).input_ids) for text in texts}) == len(texts)
    samples = [SimpleNamespace(prompt=text, negative_prompt="") for text in texts[:2]]
    one, two = (encode(pipe, config, sample, 3.5) for sample in samples)
    assert all(not torch.equal(one[key], two[key]) for key in one)
    assert not np.array_equal(generate_staged(pipe, config, seed=3), generate_staged(pipe, config, seed=4))


def test_full_size_has_the_published_parameter_counts():
    pipe = FLUX.build(tiny_config(init=Init.random), torch.bfloat16, "meta")
    parts = (pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert counts == [11_901_408_320, 83_819_683, 123_060_480, 4_762_310_656]
    assert all(parameter.is_meta for part in parts for parameter in part.parameters())
    assert pipe.vae_scale_factor == 8 and pipe.tokenizer_max_length == 77


def test_random_takes_the_path_of_tiny(monkeypatch, tiny_pipes):
    monkeypatch.setattr(flux, "FULL", TINY)
    config = tiny_config(init=Init.random)
    assert np.array_equal(
        generate_staged(load(FLUX, config, "cpu"), config), generate_staged(*tiny_pipes[Guidance.embedded])
    )


def test_tiny_keeps_what_sizes_mean(tiny_pipes):
    pipe, _ = tiny_pipes[Guidance.embedded]
    assert pipe.vae_scale_factor == 8 and pipe.transformer.config.in_channels == 64
    assert not tiny_pipes[Guidance.none][0].scheduler.config.use_dynamic_shifting
    for blocks in FLUX.blocks.lists:
        assert len(getattr(pipe.transformer, blocks.name)) >= 2


@pytest.mark.parametrize("name", ["demo", "flux"])
def test_shipped_yaml_fits_the_dataclass(name):
    given = OmegaConf.load(CONF / "model" / f"{name}.yaml")
    assert given.pop("defaults") == ["/schema/model/flux@_here_", "_self_"]
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(FluxConfig), given))
    assert (isinstance(config, FluxConfig) and config.guidance_scale in SCALES.values()) or name == "demo"


def test_values_that_cannot_work_are_refused_when_typed():
    for wrong in ({"max_sequence_length": 513}, {"guidance_scale": None}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            tiny_config(**wrong)
        given = {"repo": "a/b", "steps": 1, "width": 64, "height": 64, "guidance_scale": 3.5, **wrong}
        with pytest.raises(ConfigError):
            OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(FluxConfig), given))


def test_a_prompt_that_would_be_cut_is_refused():
    demo = FluxConfig(
        repo="pkg://wavespeed_runner/weights/demo",
        guidance=Guidance.true_cfg,
        max_sequence_length=20,
        steps=28,
        width=64,
        height=64,
    )
    pipe = load(FLUX, demo, "cpu")
    encode(pipe, demo, Sample(prompt=" ".join(["red"] * 19)), 1.0)
    with pytest.raises(RunError, match=r"has 21 tokens, and only model\.max_sequence_length=20 of them"):
        encode(pipe, demo, Sample(prompt=" ".join(["red"] * 20)), 1.0)
