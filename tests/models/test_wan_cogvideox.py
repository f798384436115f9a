"""Wan and CogVideoX beyond what `test_every_model.py` covers: sizes, two transformers, inputs, what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from tests.models.shipped import config_of, shipped_config
from tests.models.staged import denoise_latents, run_stages
from tests.models.test_every_model import SAMPLE, image
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.schema import Dtype, Guidance, Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.families.cogvideox import CogVideoXConfig, CogVideoXI2VConfig, CogVideoXVariant
from wavespeed_runner.models.families.wan import (
    Wan22Config,
    Wan22I2VConfig,
    Wan22TI2VConfig,
    WanConfig,
    WanI2VConfig,
    WanVariant,
)
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.models.weights.scheduler_shift import set_shift
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.samplers.build import build_scheduler
from wavespeed_runner.samplers.options import OPTIONS

KINDS = (
    *(WanConfig, WanI2VConfig, Wan22Config, Wan22I2VConfig, Wan22TI2VConfig),
    *(CogVideoXConfig, CogVideoXI2VConfig),
)


def config(kind: Any, **changes: Any) -> Any:
    given = {"repo": "nobody/nothing", "init": Init.tiny, "steps": 2, "width": 64, "height": 64, "num_frames": 9}
    return kind(**{**given, "guidance_scale": 4.0, **changes})


@cache
def tiny(kind: Any) -> tuple[Any, Any, Any]:
    """(family, config, pipe) in float32."""
    model = config(kind)
    family = find_implementation("model", model)
    return family, model, load(family, model, "cpu")


def run(kind: Any, sample: Sample = SAMPLE, task: str | None = None, seed: int = 0, **changes: Any) -> torch.Tensor:
    """Latents. changes: of the configuration, and `image`."""
    family, model, pipe = tiny(kind)
    task = task or next(iter(family.tasks))
    start = {"image": changes.pop("image", image(64))} if task == "image_to_video" else {}
    model = replace(model, **changes)
    with torch.inference_mode():
        embeddings = family.encode(pipe, model, sample, model.guidance_scale)
    result: torch.Tensor = denoise_latents(family, pipe, model, embeddings, task=task, seed=seed, **start)["latents"]
    return result


UMT5, T5, VAE_21, VAE_COG = 5_680_910_336, 4_762_310_656, 126_892_531, 215_583_907


@pytest.mark.parametrize(
    ("kind", "variant", "counts"),
    [
        (WanConfig, WanVariant.t2v_1_3b, {"transformer": 1_418_996_800, "text_encoder": UMT5, "vae": VAE_21}),
        (WanConfig, WanVariant.t2v_14b, {"transformer": 14_288_491_584, "text_encoder": UMT5, "vae": VAE_21}),
        (WanI2VConfig, WanVariant.i2v_720p, {"transformer": 16.4e9, "vae": VAE_21, "image_encoder": 630_766_080}),
        (Wan22Config, WanVariant.t2v_a14b, {"transformer": 14_288_491_584, "transformer_2": 14_288_491_584}),
        (Wan22I2VConfig, WanVariant.i2v_a14b, {"transformer": 14.3e9, "transformer_2": 14.3e9, "vae": VAE_21}),
        (Wan22TI2VConfig, WanVariant.ti2v_5b, {"transformer": 5.0e9, "vae": 0.705e9}),
        (CogVideoXConfig, CogVideoXVariant.t2v_2b, {"transformer": 1.69e9, "text_encoder": T5, "vae": VAE_COG}),
        (CogVideoXConfig, CogVideoXVariant.t2v_5b, {"transformer": 5.57e9, "text_encoder": T5, "vae": VAE_COG}),
        (CogVideoXI2VConfig, CogVideoXVariant.i2v_5b, {"transformer": 5.57e9, "vae": VAE_COG}),
    ],
)
def test_full_size_has_the_published_parameter_counts(kind: Any, variant: Any, counts: dict[str, float]) -> None:
    """A float is a size as its authors round it."""
    model = config(kind, variant=variant, init=Init.random)
    pipe = find_implementation("model", model).build(model, torch.bfloat16, "meta")
    for name, count in counts.items():
        parameters = sum(parameter.numel() for parameter in getattr(pipe, name).parameters())
        assert parameters == (count if isinstance(count, int) else pytest.approx(count, rel=0.02)), name
        assert all(parameter.is_meta for parameter in getattr(pipe, name).parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_tiny_keeps_what_sizes_mean_and_leaves_the_global_state(kind: Any) -> None:
    before = torch.get_rng_state()
    family, model, pipe = tiny(kind)
    again = load(family, model, "cpu")
    assert torch.equal(before, torch.get_rng_state())
    full = family.build(replace(model, init=Init.random), torch.bfloat16, "meta")
    assert pipe.vae_scale_factor_spatial == full.vae_scale_factor_spatial
    assert pipe.vae_scale_factor_temporal == full.vae_scale_factor_temporal
    assert pipe.transformer.config.in_channels == full.transformer.config.in_channels
    for name in ("transformer", "transformer_2", "vae", "text_encoder", "image_encoder"):
        part = getattr(pipe, name, None)
        assert (part is None) == (getattr(full, name, None) is None)
        first, second = (p.state_dict() if p else {} for p in (part, getattr(again, name, None)))
        assert all(torch.equal(first[key], second[key]) for key in first), name


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_negative_prompt_and_seed_matter(kind: Any) -> None:
    reference = run(kind)
    for other in (replace(SAMPLE, prompt="a dog"), replace(SAMPLE, negative_prompt="light")):
        assert not torch.equal(run(kind, other), reference)
    assert not torch.equal(run(kind, seed=1), reference)
    assert torch.equal(run(kind), reference)


@pytest.mark.parametrize("kind", [CogVideoXConfig, CogVideoXI2VConfig])
def test_cogvideox_15_gives_the_frames_that_were_asked_for(kind: Any) -> None:
    """It pairs latent frames: 3 become 4, and the pipeline drops one only if it decodes."""
    family, model, pipe = tiny(kind)
    paired = {**pipe.transformer.config, "patch_size_t": 2, "use_learned_positional_embeddings": False}
    torch.manual_seed(0)
    pipe = type(pipe)(**{**pipe.components, "transformer": type(pipe.transformer)(**paired).eval()})
    size = {"width": 64, "height": 64, "num_frames": 9}
    start = {"image": image(64)} if kind is CogVideoXI2VConfig else {}
    task = {"task": "image_to_video"} if start else {}
    whole = pipe(
        prompt=SAMPLE.prompt,
        negative_prompt=SAMPLE.negative_prompt,
        guidance_scale=4.0,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(SAMPLE.seed),
        output_type="np",
        **start,
        **size,
    ).frames
    ours = run_stages(family, pipe, model, SAMPLE, steps=2, **start, **task, **size)
    assert ours.shape == (1, 9, 64, 64, 3)
    assert np.array_equal(ours, (whole * 255).round().astype("uint8"))


@pytest.mark.parametrize("kind", [WanI2VConfig, Wan22I2VConfig, Wan22TI2VConfig, CogVideoXI2VConfig])
def test_the_first_frame_matters(kind: Any) -> None:
    one, other = (run(kind, task="image_to_video", image=image(64, seed)) for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("guidance", [{"guidance_scale": 1.0}, {"guidance": Guidance.none, "guidance_scale": None}])
@pytest.mark.parametrize("kind", [Wan22Config, CogVideoXConfig])
def test_without_guidance_the_negative_prompt_is_not_read(kind: Any, guidance: dict[str, Any]) -> None:
    family, model, pipe = tiny(kind)
    with torch.inference_mode():
        embeddings = family.encode(pipe, replace(model, **guidance), SAMPLE, guidance["guidance_scale"])
    assert set(embeddings) == {"prompt_embeds"}
    expected = run(kind, guidance_scale=1.0)
    assert torch.equal(run(kind, replace(SAMPLE, negative_prompt="light"), **guidance), expected)
    assert not torch.equal(run(kind), expected)


@pytest.mark.parametrize("kind", [Wan22Config, Wan22I2VConfig])
def test_the_two_transformers_take_turns_each_with_its_guidance(kind: Any) -> None:
    _, _, pipe = tiny(kind)
    ran: list[str] = []
    handles = [
        getattr(pipe, name).register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        for name in ("transformer", "transformer_2")
    ]
    one_scale = run(kind)
    for handle in handles:
        handle.remove()
    assert ran == ["transformer"] * 2 + ["transformer_2"] * 2, "a prompt and a negative prompt each step"
    assert torch.equal(run(kind, guidance_scale_2=4.0), one_scale)
    assert not torch.equal(run(kind, guidance_scale_2=2.0), one_scale)


@pytest.mark.parametrize(
    ("kind", "dtype"), [(Wan22Config, "bfloat16"), (WanI2VConfig, "bfloat16"), (CogVideoXConfig, "float16")]
)
def test_tiny_models_have_the_dtypes_of_loaded_ones(kind: Any, dtype: str, tmp_path: Path) -> None:
    """Some components of models in half precision stay in float32."""
    model = config(kind, dtype=Dtype(dtype))
    family = find_implementation("model", model)
    pipe = load(family, model, "cpu")
    pipe.save_pretrained(tmp_path)
    loaded = load(family, replace(model, init=Init.pretrained, repo=str(tmp_path)), "cpu")

    def weights(pipe: Any) -> dict[str, torch.Tensor]:
        parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
        return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}

    built, read = weights(pipe), weights(loaded)
    assert {name: value.dtype for name, value in built.items()} == {name: value.dtype for name, value in read.items()}
    assert all(torch.equal(built[name], read[name]) for name in built)
    assert len({value.dtype for value in built.values()}) == 2


@pytest.mark.parametrize("kind", [WanI2VConfig, CogVideoXConfig])
def test_a_prompt_that_would_be_cut_is_refused(kind: Any) -> None:
    family, model, pipe = tiny(kind)
    limit = 512 if kind is WanI2VConfig else 226
    read = replace(model, init=Init.pretrained)
    with torch.inference_mode():
        family.encode(pipe, read, Sample(prompt="x" * (limit - 1)), 1.0)
        for sample in (Sample(prompt="x" * limit), Sample(prompt="x", negative_prompt="x" * limit)):
            with pytest.raises(RunError, match=rf"has {limit + 1} tokens, .*{limit} of them would be read"):
                family.encode(pipe, read, sample, 4.0)


@pytest.mark.parametrize(
    ("kind", "weights", "says"),
    [
        (WanConfig, Wan22Config, r"2 transformer\(s\) that take 16 channels, but model\.name=wan has 1"),
        (Wan22Config, WanConfig, r"1 transformer\(s\) that take 16 channels, but model\.name=wan22 has 2"),
        (WanI2VConfig, WanConfig, r"take 16 channels, but model\.name=wan_i2v has 1 that take 36"),
        (WanConfig, Wan22TI2VConfig, r"take 48 channels, but model\.name=wan has 1 that take 16"),
        (CogVideoXConfig, CogVideoXI2VConfig, r"does not fit model\.name=cogvideox; use model=cogvideox_i2v"),
        (CogVideoXI2VConfig, CogVideoXConfig, r"does not fit model\.name=cogvideox_i2v; use model=cogvideox or"),
    ],
)
def test_weights_of_another_kind_are_refused(kind: Any, weights: Any, says: str) -> None:
    model = config(kind)
    with pytest.raises(RunError, match=says):
        find_implementation("model", model).check(model, tiny(weights)[2])


@pytest.mark.parametrize(
    ("kind", "wrong", "says"),
    [
        (WanConfig, {"max_sequence_length": 513}, "allowed: 1 to 512"),
        (WanConfig, {"guidance": Guidance.embedded}, "model.guidance=embedded: allowed: true_cfg, none"),
        (WanConfig, {"variant": WanVariant.i2v_480p}, "model.variant=i2v_480p: .*=wan has t2v_1_3b, t2v_14b"),
        (CogVideoXConfig, {"guidance": Guidance.embedded}, "model.guidance=embedded"),
        (CogVideoXI2VConfig, {"variant": CogVideoXVariant.t2v_2b}, "model.variant=t2v_2b: .*cogvideox_i2v has i2v_5b"),
    ],
)
def test_values_that_cannot_work_are_refused_when_typed(kind: Any, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        config(kind, **wrong)


SHIFTS = {
    **{"wan21": 8.0, "wan21_14b": 5.0, "wan21_i2v_480p": 3.0, "wan21_i2v_720p": 5.0},
    **{"wan22": 12.0, "wan22_i2v": 5.0, "wan22_5b": 5.0},
}
"""What Wan's generate.py, its README and its configurations have."""


@pytest.mark.parametrize("name", SHIFTS)
def test_wan_has_the_shift_of_its_makers_and_samplers_follow_it(name: str) -> None:
    model = shipped_config(name)
    pipe = load(find_implementation("model", model), model, "cpu")
    expected = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFTS[name])
    expected.set_timesteps(7)
    pipe.scheduler.set_timesteps(7)
    assert model.shift == SHIFTS[name] and torch.equal(pipe.scheduler.sigmas, expected.sigmas)
    assert build_scheduler(pipe, OPTIONS["euler"]()).config.shift == SHIFTS[name]
    assert build_scheduler(pipe, OPTIONS["euler"](shift=2.0)).config.shift == 2.0


def test_without_a_shift_that_of_the_repository_stays() -> None:
    model = config(Wan22Config)
    assert load(find_implementation("model", model), model, "cpu").scheduler.config.flow_shift == 3.0
    with pytest.raises(ConfigError, match=r"model\.shift=0: must be above 0"):
        config(Wan22Config, shift=0.0)


def test_a_shift_replaces_one_that_follows_the_size_and_needs_a_scheduler_that_has_one() -> None:
    fixed = set_shift(FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), 3.0)
    assert fixed.config.shift == 3.0 and not fixed.config.use_dynamic_shifting
    with pytest.raises(RunError, match=r"model\.shift=3: DDIMScheduler.*has none"):
        set_shift(DDIMScheduler(), 3.0)


def test_cogvideox_changes_its_scale_from_step_to_step_where_its_makers_do() -> None:
    assert [config_of(name).use_dynamic_cfg for name in ("cogvideox", "cogvideox_i2v", "cogvideox_2b")] == [1, 1, 0]
    plain, changed = run(CogVideoXConfig), run(CogVideoXConfig, use_dynamic_cfg=True)
    assert not torch.equal(plain, changed)
    unguided = [run(CogVideoXConfig, use_dynamic_cfg=dynamic, guidance_scale=1.0) for dynamic in (False, True)]
    assert torch.equal(*unguided)
