"""Stable Diffusion 3.5, Chroma, HiDream-I1: what is their own beside the three steps every model is tested in."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.staged import latents, staged
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.families import sd3
from wavespeed_runner.models.families.hidream import HIDREAM
from wavespeed_runner.models.families.sd3 import Variant
from wavespeed_runner.models.family import CallInputs
from wavespeed_runner.models.weights import random_init
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.rules.check import apply_rules
from wavespeed_runner.stages.load import LoadOptions, _identify_weights

SAMPLE = Sample(prompt="a red circle", negative_prompt="dark", seed=3)
SIZE = {"width": 64, "height": 64}


def composed(*overrides: str) -> dict[str, Any]:
    with composer(None):
        return compose_job(list(overrides), list(overrides))


def config_of(*overrides: str) -> Any:
    return resolve_config(composed(*overrides))


@cache
def tiny(name: str) -> tuple[Any, Any, Any]:
    """(family, config, pipe)."""
    config = config_of(f"model={name}", "model.init=tiny", "model.dtype=float32").model
    family = find_implementation("model", config)
    return family, config, load(family, config, "cpu")


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
    made = [
        staged(family, pipe, config, replace(SAMPLE, negative_prompt=negative), steps=2, guidance_scale=scale, **SIZE)
        for negative, scale in (("dark", 1.0), ("bright", 1.0), ("dark", 4.0), ("bright", 4.0))
    ]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2]) and not np.array_equal(made[2], made[3])


@pytest.mark.parametrize("name", ["sd35_large", "chroma", "hidream_dev"])
def test_prompt_and_seed_matter(name: str) -> None:
    family, config, pipe = tiny(name)
    samples = (SAMPLE, replace(SAMPLE, prompt="two green squares"), replace(SAMPLE, seed=4))
    one, prompt, seed = (staged(family, pipe, config, sample, steps=2, **SIZE) for sample in samples)
    assert not np.array_equal(one, prompt) and not np.array_equal(one, seed)
    assert np.array_equal(one, staged(family, pipe, config, SAMPLE, steps=2, **SIZE))


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
    barely = latents(family, pipe, config, embeddings, steps=100, guidance_scale=None, **start)["latents"]
    # One step at noise level 0.03: what comes out is what went in, and not an image that was resized.
    torch.testing.assert_close(family.unpack_latents(pipe, barely, width=96, height=64), grid, rtol=0, atol=0.3)


SIZES = [(1024, 1024), (768, 1360), (1360, 768), (880, 1168), (1248, 832), (512, 512), (64, 48), (16, 16), (336, 1008)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_hidream_keeps_the_size(width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline scales every size to one area, unless it is told that this is the area."""
    family, config, pipe = tiny("hidream_fast")
    seen: list[tuple[int, int]] = []

    def stop(batch: int, channels: int, tall: int, wide: int, *_: Any) -> Any:
        seen.append((wide, tall))
        raise KeyboardInterrupt

    monkeypatch.setattr(pipe, "prepare_latents", stop)
    embeddings = family.encode(pipe, config, SAMPLE, None)
    with pytest.raises(KeyboardInterrupt):
        latents(family, pipe, config, embeddings, steps=2, width=width, height=height)
    assert seen == [(width, height)]


def test_hidream_makes_oblong_images() -> None:
    family, config, pipe = tiny("hidream_fast")
    made = staged(family, pipe, config, SAMPLE, steps=1, width=64, height=32)
    assert made.shape == (1, 32, 64, 3) and made.std() > 1


def test_hidream_refuses_what_its_transformer_cannot_hold() -> None:
    def refused(*size: str) -> bool:
        return "size-limit" in {spoken.rule for spoken in apply_rules(config_of("model=hidream", *size))}

    assert refused("width=1040", "height=1024") and not refused("width=768", "height=1360")
    assert refused("width=2048", "height=1024", "model.init=tiny")
    assert HIDREAM.max_pixels == tiny("hidream_fast")[2].transformer.max_seq * 16 * 16


def test_hidream_adds_noise_of_the_samples_own_generator() -> None:
    """The distilled variants' scheduler draws noise each step, and the pipeline gives it no generator."""
    family, config, pipe = tiny("hidream_dev")
    images = []
    for state in (1, 2):
        torch.manual_seed(state)
        images.append(staged(family, pipe, config, SAMPLE, steps=2, **SIZE))
    assert np.array_equal(*images)


def test_hidream_puts_images_before_layers() -> None:
    family, config, pipe = tiny("hidream")
    embeddings = family.encode(pipe, config, SAMPLE, 2.0)
    assert {len(tensor) for tensor in embeddings.values()} == {1}
    wanted = CallInputs(steps=1, guidance_scale=2.0, generator=None, **SIZE)
    given = family.build_arguments(config, embeddings, wanted)
    assert given["prompt_embeds_llama3"].shape == (2, 1, 128, 32)


@pytest.fixture(scope="module")
def published_like(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(HiDream's folder, Llama's folder): two repositories, as on the hub."""
    folder = tmp_path_factory.mktemp("hidream")
    pipe = tiny("hidream")[2]
    pipe.save_pretrained(folder / "main")
    llama = folder / "llama"
    shutil.move(folder / "main" / "text_encoder_4", llama)
    for file in (folder / "main" / "tokenizer_4").iterdir():
        shutil.move(file, llama / file.name)
    (folder / "main" / "tokenizer_4").rmdir()
    index = folder / "main" / "model_index.json"
    parts = json.loads(index.read_text())
    index.write_text(json.dumps(parts | {"text_encoder_4": [None, None], "tokenizer_4": [None, None]}))
    return folder / "main", llama


def test_hidream_takes_llama_from_a_repository_of_its_own(published_like: tuple[Path, Path]) -> None:
    main, llama = published_like
    family, config, pipe = tiny("hidream")
    read = replace(config, init=Init.pretrained, repo=str(main), text_encoder_4=str(llama))
    expected = staged(family, pipe, config, SAMPLE, steps=2, **SIZE)
    assert np.array_equal(staged(family, load(family, read, "cpu"), config, SAMPLE, steps=2, **SIZE), expected)
    file = main / "transformer" / "diffusion_pytorch_model.safetensors"
    single = replace(read, repo=str(file), components=str(main))
    assert np.array_equal(staged(family, load(family, single, "cpu"), config, SAMPLE, steps=2, **SIZE), expected)


def test_hidream_without_llama_says_where_it_is_named(published_like: tuple[Path, Path], tmp_path: Path) -> None:
    main, llama = published_like
    family, config, _ = tiny("hidream")
    read = replace(config, init=Init.pretrained, repo=str(main), text_encoder_4=None)
    with pytest.raises(RunError, match=r"has no text_encoder_4, tokenizer_4, .* leave model\.text_encoder_4"):
        load(family, read, "cpu")
    overrides = ["model=hidream", f"model.repo={main}", "dry_run=true", f"outputs={tmp_path}"]
    build_plan(composed(*overrides, f"model.text_encoder_4={llama}"))
    with pytest.raises(ConfigError, match=r"model\.text_encoder_4=.*: it has no config.json"):
        build_plan(composed(*overrides, f"model.text_encoder_4={tmp_path / 'nothing'}"))
    shutil.copytree(llama, tmp_path / "cut")
    (weights := tmp_path / "cut" / "model.safetensors").write_bytes((llama / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(ConfigError, match=r"model\.text_encoder_4=.*model\.safetensors is damaged"):
        build_plan(composed(*overrides, f"model.text_encoder_4={tmp_path / 'cut'}"))
    weights.unlink()
    with pytest.raises(ConfigError, match=r"model\.text_encoder_4=.*it has no \.safetensors file"):
        build_plan(composed(*overrides, f"model.text_encoder_4={tmp_path / 'cut'}"))


def test_hidreams_llama_offline_is_named_by_its_key(
    published_like: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    family, config, _ = tiny("hidream")
    read = replace(config, init=Init.pretrained, repo=str(published_like[0]))
    with pytest.raises(RunError, match=r"model\.text_encoder_4=meta-llama/Llama-3\.1-8B-Instruct: .*model\.init=tiny"):
        load(family, read, "cpu")


def test_another_llama_is_another_model(published_like: tuple[Path, Path], tmp_path: Path) -> None:
    main, llama = published_like
    shutil.copytree(llama, tmp_path / "other")
    config = replace(tiny("hidream")[1], init=Init.pretrained, repo=str(main))

    def identity(folder: Path) -> Any:
        model = replace(config, text_encoder_4=str(folder))
        return _identify_weights(LoadOptions(model=model, device="cpu", adapters=config_of().adapters))

    assert identity(llama) == identity(tmp_path / "other")
    shutil.copytree(tmp_path / "other", tmp_path / "changed")
    settings = json.loads((tmp_path / "changed" / "config.json").read_text())
    (tmp_path / "changed" / "config.json").write_text(json.dumps(settings | {"rms_norm_eps": 0.1}))
    assert identity(llama) != identity(tmp_path / "changed")
