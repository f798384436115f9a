"""LTX-Video, LTX-2 and HunyuanVideo: what `test_every_model.py` does not cover."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.shipped import config_of
from tests.models.staged import denoise_latents, encode_prompt, run_stages
from tests.models.test_every_model import SAMPLE, image
from wavespeed_runner.artifacts import Latents
from wavespeed_runner.config.schema import Guidance, Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.families import ltx2, ltx_video
from wavespeed_runner.models.families.hunyuan_video15 import prepare
from wavespeed_runner.models.pipeline_call import get_task_pipeline
from wavespeed_runner.models.text.llama import build_template_tokenizer
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.models.weights.rng_state import read_generator_states
from wavespeed_runner.registry import find_implementation


@cache
def tiny(name: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    """(family, config, pipe, size)."""
    config = config_of(name)
    family = find_implementation("model", config)
    size = {"width": family.tiny_size, "height": family.tiny_size, "num_frames": family.tiny_frames}
    return family, config, load(family, config, "cpu"), size


def call_diffusers(pipe: Any, **call: Any) -> Any:
    generator = torch.Generator().manual_seed(SAMPLE.seed)
    output = pipe(prompt=SAMPLE.prompt, num_inference_steps=2, generator=generator, output_type="np", **call)
    return (output.frames * 255).round().astype("uint8")


PUBLISHED = {
    # Parameters in units of 1e9, as their authors state them.
    "ltx_video": {"transformer": 1.923385472, "text_encoder": 4.76},
    "ltx2": {"transformer": 18.9, "text_encoder": 12.187325040},
    "ltx23": {"transformer": 18.99, "connectors": 3.17},  # 22 together
    "hunyuan_video": {"transformer": 12.821012544, "text_encoder": 7.505, "text_encoder_2": 0.123060480},
    "hunyuan_video15": {"transformer": 8.33, "text_encoder": 7.07},
    "hunyuan_video_i2v": {"transformer": 12.821012544, "text_encoder": 8.36},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size_is_the_published_one(name: str) -> None:
    config = replace(config_of(name), init=type(config_of(name).init).random)
    pipe = find_implementation("model", config).build(config, torch.bfloat16, "meta")
    for part, billions in PUBLISHED[name].items():
        count = sum(weight.numel() for weight in getattr(pipe, part).parameters())
        assert count == pytest.approx(billions * 1e9, rel=0.01), part


@pytest.mark.parametrize("name", ["ltx_video", "ltx2", "hunyuan_video", "hunyuan_video15", "hunyuan_video_i2v"])
def test_another_prompt_is_another_video(name: str) -> None:
    family, config, pipe, _ = tiny(name)
    start = {"image": image(64)} if "image_to_video" in next(iter(family.tasks)) else {}
    encoded = []
    for prompt in ("a red circle", "two green squares"):
        embeddings = encode_prompt(family, pipe, config, replace(SAMPLE, prompt=prompt), config.guidance_scale, **start)
        encoded.append(embeddings["prompt_embeds"].float())
    assert encoded[0].shape != encoded[1].shape or not torch.equal(*encoded)


def test_ltx_decodes_the_same_from_the_store_and_after_other_draws() -> None:
    """The decoder's noise comes from the generator as denoising left it, stored with the latents."""
    family, config, pipe, size = tiny("ltx_video_095")
    embeddings = encode_prompt(family, pipe, config, SAMPLE, config.guidance_scale)
    outputs = denoise_latents(family, pipe, config, embeddings, steps=2, **size)
    read = Latents.from_bytes(Latents(tensors=outputs).to_bytes()).tensors
    torch.rand(1)
    with torch.inference_mode():
        videos = [family.decode(pipe, tensors, **size) for tensors in (outputs, read)]
        read["generator_state"] = read_generator_states(torch.Generator().manual_seed(9))
        other = family.decode(pipe, read, **size)
    assert np.array_equal(*videos) and not np.array_equal(videos[0], other)


def test_ltx_decoding_of_several_is_that_of_each() -> None:
    family, config, pipe, size = tiny("ltx_video_095")
    embeddings = encode_prompt(family, pipe, config, SAMPLE, config.guidance_scale)
    outputs = [denoise_latents(family, pipe, config, embeddings, seed=seed, steps=2, **size) for seed in (1, 2)]
    together = {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}
    with torch.inference_mode():
        several = family.decode(pipe, together, **size).astype(int)
        each = np.concatenate([family.decode(pipe, output, **size) for output in outputs]).astype(int)
    assert np.abs(several - each).max() <= 1, "up to the rounding of a batch"
    assert np.abs(each[0] - each[1]).max() > 1


def test_ltx_refuses_decoders_that_do_not_fit() -> None:
    _, plain, pipe, _ = tiny("ltx_video")
    _, noisy, noisy_pipe, _ = tiny("ltx_video_095")
    for config, other in ((plain, noisy_pipe), (noisy, pipe)):
        with pytest.raises(RunError, match=r"model\.decode_timestep=.* needs (null|a number)"):
            ltx_video.check(config, other)
    early = SimpleNamespace(vae=SimpleNamespace(config=SimpleNamespace(decoder_inject_noise=[False, True])))
    with pytest.raises(RunError, match=r"0\.9\.1.*global random state"):
        ltx_video.check(noisy, early)
    with pytest.raises(ConfigError, match=r"model\.decode_noise_scale=0\.5: has no effect"):
        replace(plain, decode_noise_scale=0.5)
    with pytest.raises(ConfigError, match=r"model\.decode_timestep=2"):
        replace(plain, decode_timestep=2.0)


def test_ltx2_stores_the_prompts_own_tokens_and_the_audio() -> None:
    family, config, pipe, size = tiny("ltx2")
    embeddings = encode_prompt(family, pipe, config, SAMPLE, config.guidance_scale)
    assert embeddings["prompt_embeds"].shape[1] == len(pipe.tokenizer(SAMPLE.prompt).input_ids) < 100
    audio = denoise_latents(family, pipe, config, embeddings, steps=2, **size)["audio_latents"]
    generator = torch.Generator().manual_seed(SAMPLE.seed)
    call = {"spatio_temporal_guidance_blocks": [1], "use_cross_timestep": False, "negative_prompt": "dark"}
    output = pipe(SAMPLE.prompt, num_inference_steps=2, generator=generator, output_type="latent", **call, **size)
    assert torch.equal(audio, output.audio)


def test_ltx2_takes_every_kind_of_guidance() -> None:
    family, config, pipe, size = tiny("ltx2")
    kinds = {"stg_scale": 2.0, "modality_scale": 2.0, "guidance_rescale": 0.5}
    changed = replace(config, audio_guidance_scale=5.0, stg_blocks=[2], use_cross_timestep=True, **kinds)
    call = kinds | {f"audio_{name}": value for name, value in kinds.items()}
    call |= {"guidance_scale": 1.0, "audio_guidance_scale": 5.0, "spatio_temporal_guidance_blocks": [2]}
    expected = call_diffusers(pipe, negative_prompt="dark", use_cross_timestep=True, **call, **size)
    assert np.array_equal(run_stages(family, pipe, changed, SAMPLE, steps=2, guidance_scale=1.0, **size), expected)


def test_ltx2_refuses_blocks_that_it_does_not_have_and_knows_those_of_its_makers() -> None:
    _, config, pipe, _ = tiny("ltx2")
    for blocks in ([3], [-1], []):
        with pytest.raises(RunError, match=r"model\.stg_blocks=.*has the blocks 0 to 2"):
            ltx2.check(replace(config, stg_blocks=blocks), pipe)
    ltx2.check(replace(config, stg_blocks=[3], stg_scale=0.0), pipe)
    full = replace(config, init=Init.random)
    assert [ltx2.list_stg_blocks(full), ltx2.list_stg_blocks(replace(full, use_cross_timestep=True))] == [[29], [28]]


def test_ltx23_is_another_architecture_and_is_told_from_ltx2() -> None:
    _, old, old_pipe, _ = tiny("ltx2")
    _, new, new_pipe, _ = tiny("ltx23")
    ltx2.check(new, new_pipe)
    with pytest.raises(RunError, match=r"model\.use_cross_timestep=true: .*; use model=ltx2$"):
        ltx2.check(new, old_pipe)
    with pytest.raises(RunError, match=r"model\.use_cross_timestep=false: .*; use model=ltx23$"):
        ltx2.check(old, new_pipe)


def test_ltx2_guidance_of_the_audio_takes_effect() -> None:
    config = config_of("ltx2")
    for scale in (0.0, -1.0):
        with pytest.raises(ConfigError, match=rf"audio_guidance_scale={scale}: must be above 0"):
            replace(config, audio_guidance_scale=scale)
    with pytest.raises(ConfigError, match=r"audio_guidance_scale=2.0: has no effect with model.guidance=none"):
        replace(config, audio_guidance_scale=2.0, guidance=Guidance.none)


@pytest.mark.parametrize("name", ["ltx_video", "ltx2"])
def test_ltx_needs_the_steps_that_it_says(name: str) -> None:
    family, config, pipe, size = tiny(name)
    embeddings = encode_prompt(family, pipe, config, SAMPLE, 1.0)
    finite = []
    for steps in (1, 2):
        try:
            denoise_latents(family, pipe, config, embeddings, steps=steps, guidance_scale=1.0, **size)
            finite.append(bool(torch.isfinite(pipe.scheduler.sigmas).all()))
        except (IndexError, RunError):  # of a time that is not a number
            finite.append(False)
    assert finite == [False, True] and family.min_steps == 2


def test_hunyuan_takes_true_guidance_beside_the_embedded_one() -> None:
    family, config, pipe, size = tiny("hunyuan_video")
    changed = replace(config, guidance=Guidance.true_cfg, guidance_scale=2.0, embedded_guidance_scale=5.0)
    expected = call_diffusers(pipe, guidance_scale=5.0, true_cfg_scale=2.0, negative_prompt="dark", **size)
    assert np.array_equal(run_stages(family, pipe, changed, SAMPLE, steps=2, **size), expected)
    for wrong in ({"embedded_guidance_scale": 5.0}, {"guidance_scale": None}, {"guidance": Guidance.none}):
        with pytest.raises(ConfigError, match=rf"model\.{next(iter(wrong))}="):
            replace(config, **wrong)


def test_hunyuan_i2v_takes_true_guidance_beside_a_black_image() -> None:
    family, config, pipe, size = tiny("hunyuan_video_i2v")
    changed = replace(config, guidance=Guidance.true_cfg, guidance_scale=2.0)
    call = {"image": image(64), "guidance_scale": 6.0, "true_cfg_scale": 2.0, "negative_prompt": "dark"}
    start = {"task": "image_to_video", "image": image(64)}
    ours = run_stages(family, pipe, changed, SAMPLE, steps=2, **start, **size)
    assert np.array_equal(ours, call_diffusers(pipe, **call, **size))
    with pytest.raises(RunError, match="graph=image_to_video_seen"):
        family.encode(pipe, config, SAMPLE, 6.0)


def test_the_stand_in_tokenizer_keeps_the_templates_length() -> None:
    template = "<|a|>system<|b|>\n\n" + "Describe it. " * 30 + "<|c|>{}<|c|>"
    tokenizer = build_template_tokenizer(template, 60)
    ids = tokenizer(template.format("xy")).input_ids
    assert tokenizer.decode(ids[60:62]) == "xy" and len(ids) == 60 + 2 + 1 + 1


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_hunyuan15_guidance_is_set_for_each_call(scale: float) -> None:
    family, config, pipe, size = tiny("hunyuan_video15")
    guider = pipe.guider
    ours = run_stages(family, pipe, config, SAMPLE, steps=2, guidance_scale=scale, **size)
    pipe.guider = guider.new(guidance_scale=scale)
    assert np.array_equal(ours, call_diffusers(pipe, negative_prompt="dark", **size))
    pipe.guider = guider


def test_hunyuan15_refuses_a_size_that_it_would_not_make() -> None:
    family, _, pipe, _ = tiny("hunyuan_video15_i2v")
    called = get_task_pipeline(pipe, family, "image_to_video")
    wanted = SimpleNamespace(guidance_scale=6.0, image=[image(64)], width=64, height=128)
    with pytest.raises(RunError, match=r"width=64 height=128: .* set width=64 height=64"):
        prepare(called, wanted)  # type: ignore[arg-type]
