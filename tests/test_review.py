"""What came to light when others read and used this: each was wrong once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import run_as_data
from wavespeed_runner.accelerate.adapters import Lora, apply_adapters
from wavespeed_runner.config import trust
from wavespeed_runner.config.paths import PACKAGE
from wavespeed_runner.config.schema import Dtype, Guidance, Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.weights.checkpoint import inspect_checkpoint
from wavespeed_runner.models.weights.pretrained import find_component_source, load
from wavespeed_runner.planning.plan import Plan, build_plan
from wavespeed_runner.registry import find_implementation

Composed = Callable[..., dict[str, Any]]
Planned = Callable[..., Plan]


def test_a_dot_in_a_stage_name_does_not_hide_its_image() -> None:
    stages = {"a.b": {"stage": "read_image", "options": {"path": "/etc/secret.png"}}}
    with pytest.raises(ConfigError, match=r"a\.b: no dots in the names"):
        trust.check_images({"graph": {"output": "a.b", "stages": stages}})


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["adapters.path=a/b", "adapters.file=x.bin"], r"adapters\.file=x\.bin: a \.safetensors file is needed"),
        (
            [
                "adapters.path=pkg://wavespeed_runner/weights/demo_lora/night.safetensors",
                "adapters.file=x.safetensors",
            ],
            r"adapters\.file=x\.safetensors: .* is a file itself",
        ),
        (["adapters.path=a/b", "adapters.weight=[nan]"], r"adapters\.weight\[0\]=nan: a finite number"),
    ],
)
def test_adapters_that_could_do_harm_or_nothing(composed: Composed, overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build_plan(composed("adapters=lora", *overrides))


def test_an_adapter_of_one_stage_is_looked_at_too(composed: Composed) -> None:
    data = composed()
    data["graph"]["stages"]["load"]["options"] = {"adapters": {"name": "lora", "path": "/nowhere.safetensors"}}
    with pytest.raises(ConfigError, match=r"adapters\.path=/nowhere\.safetensors: no such file"):
        build_plan(data)


def test_a_lora_from_the_hub_of_which_a_part_finds_no_place(
    composed: Composed, planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub's cache holds it, because there is no hub here."""
    import huggingface_hub.constants

    commit = "0" * 40
    cache = tmp_path / "models--somebody--lora"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    (cache / "snapshots" / commit).mkdir(parents=True)
    tensors = load_file(PACKAGE / "weights/demo_lora/night.safetensors")
    wrong = {key.replace("_blocks.0.", "_blocks.77."): tensor for key, tensor in tensors.items()}
    save_file(wrong, cache / "snapshots" / commit / "pytorch_lora_weights.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    model = planned("model.init=pretrained").config.model
    pipe = load(find_implementation("model", model), model, "cpu")
    with pytest.raises(RunError, match=r"adapters\.path=somebody/lora: does not fit this model: \d+ of its"):
        apply_adapters(pipe, Lora(path="somebody/lora"))


def test_images_alone_pay_for_a_batch_that_copies_fill(planned: Planned, tmp_path: Path) -> None:
    record = run_as_data(planned("batch_size=4"), tmp_path / "run", [])
    (denoised,) = [stage for stage in record["stages"] if stage["name"] == "denoise"]
    assert record["samples"][0]["seconds"] > denoised["seconds"] / 2, "not a quarter of it"


def test_strength_is_no_part_of_what_starts_from_noise(planned: Planned) -> None:
    plain = planned()
    fixed, stronger = (planned("graph=hires_fix", f"strength={strength}") for strength in (0.3, 0.5))
    assert plain.keys[0]["denoise"] == fixed.keys[0]["denoise"] == stronger.keys[0]["denoise"]
    assert fixed.keys[0]["denoise_large"] != stronger.keys[0]["denoise_large"]


def test_a_stage_cannot_be_told_what_no_run_may(composed: Composed) -> None:
    for key, value in (("batch_size", 0), ("repeats", 0), ("warmup", -1)):
        data = composed()
        data["graph"]["stages"]["denoise"]["options"] = {key: value}
        with pytest.raises(ConfigError, match=f"{key}={value}"):
            build_plan(data)


def test_weights_that_are_only_there_in_half_precision(tmp_path: Path, planned: Planned) -> None:
    """`model.fp16.safetensors` alone, as many fine-tunes come."""
    model = planned().config.model
    family = find_implementation("model", model)
    pipe = load(family, model, "cpu")
    pipe.save_pretrained(tmp_path, variant="fp16")
    with pytest.raises(ConfigError, match=r"holds only .*fp16\.safetensors; use model\.weights=fp16"):
        inspect_checkpoint(str(tmp_path))
    pretrained = replace(model, init=Init.pretrained, repo=str(tmp_path), weights="fp16")
    again = load(family, pretrained, "cpu")
    for name in ("transformer", "text_encoder", "text_encoder_2", "vae"):
        ours, theirs = getattr(again, name).state_dict(), getattr(pipe, name).state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name


def test_parts_that_nobody_loads_are_not_looked_for(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(
        '{"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}'
    )
    with pytest.raises(ConfigError, match="'safety_checker' is named"):
        inspect_checkpoint(str(tmp_path))
    inspect_checkpoint(str(tmp_path), without=["safety_checker"])


def test_what_completes_a_single_file_is_part_of_what_it_is(planned: Planned, tmp_path: Path) -> None:
    model = replace(planned().config.model, init=Init.pretrained, repo=str(tmp_path / "x.safetensors"))
    family = find_implementation("model", model)
    assert find_component_source(family, model) == "black-forest-labs/FLUX.1-dev"
    assert find_component_source(family, replace(model, components="a/b")) == "a/b"
    assert find_component_source(family, replace(model, repo="a/b")) is None


@pytest.mark.parametrize(
    ("name", "guidance", "scale", "rows"),
    [
        ("sd15", Guidance.none, None, 1),
        ("sd15", Guidance.true_cfg, None, 1),
        ("sd15", Guidance.true_cfg, 3.0, 2),
        ("qwen_image", Guidance.true_cfg, 3.0, 2),
        ("qwen_image", Guidance.none, None, 1),
    ],
)
def test_a_generic_pipeline_is_guided_exactly_when_asked(
    composed: Composed, tmp_path: Path, name: str, guidance: Guidance, scale: float | None, rows: int
) -> None:
    """Rows that the denoiser sees in one step, with an empty negative prompt."""
    from tests.models.shipped import config_of
    from tests.models.staged import run_stages
    from wavespeed_runner.artifacts import Sample
    from wavespeed_runner.models.families.generic import GenericConfig

    small = replace(config_of(name), dtype=Dtype.float32)
    family = find_implementation("model", small)
    load(family, small, "cpu").save_pretrained(tmp_path)
    size = {"width": family.tiny_size, "height": family.tiny_size}
    config = GenericConfig(repo=str(tmp_path), steps=2, guidance=guidance, guidance_scale=scale, **size)
    own = find_implementation("model", config)
    pipe, seen = load(own, config, "cpu"), []
    denoiser = getattr(pipe, family.denoiser)
    denoiser.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(args[0] if args else kwargs["hidden_states"])), with_kwargs=True
    )
    run_stages(own, pipe, config, Sample(prompt="a red circle"), steps=2, guidance_scale=scale, **size)
    calls = 3 if name == "sd15" else 2  # PNDM, its own sampler, takes its second step twice
    assert sum(seen) == calls * rows


def test_the_plan_shows_adapters_memory_batches_and_frames(planned: Planned) -> None:
    from wavespeed_runner.cli.plan_text import plan_text

    text = plan_text(planned("adapters=lora", "adapters.path=a/b", "memory=vae_tiling", "batch_size=2"))
    assert "adapters   lora path=a/b" in text and "memory     vae_tiling=True" in text and "batches    of 2" in text
    assert "\nadapters " not in plan_text(planned())
    video = plan_text(planned("model=wan21", "width=64", "height=64", "num_frames=5"))
    assert "videos     1, 64x64 x 5 frames" in video


def test_a_tiny_autoencoder_has_no_tiles() -> None:
    from diffusers import AutoencoderTiny

    from wavespeed_runner.accelerate.memory import MemorySettings, apply_memory

    class Pipe:
        vae = AutoencoderTiny(encoder_block_out_channels=(4,) * 4, decoder_block_out_channels=(4,) * 4)

    with pytest.raises(RunError, match=r"memory\.vae_tiling=true: AutoencoderTiny cannot do it"):
        apply_memory(Pipe(), MemorySettings(vae_tiling=True), "cpu", torch.float32)


def test_a_class_that_the_installed_diffusers_lacks_is_one_line() -> None:
    from wavespeed_runner.models.weights.hub import get_diffusers_class

    with pytest.raises(RunError, match=r"diffusers [\d.]+ has no NoSuchPipeline; a newer one is needed"):
        get_diffusers_class("NoSuchPipeline")
