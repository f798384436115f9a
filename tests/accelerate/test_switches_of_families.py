"""Switches on every family: what diffusers can fuse, and which VAEs a tiny autoencoder can stand in for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.accelerate.denoiser_calls import FAMILIES, call_family, distance
from wavespeed_runner.accelerate.attention import apply_attention
from wavespeed_runner.accelerate.attention_options import AttentionOptions
from wavespeed_runner.accelerate.kernels import profile_kernels
from wavespeed_runner.accelerate.memory import denoiser_names
from wavespeed_runner.accelerate.shared_weights import copy_pipeline
from wavespeed_runner.accelerate.switches import FUSES_QKV, SwitchSettings, apply_switches, collect_evidence
from wavespeed_runner.accelerate.tiny_vae import PUBLISHED
from wavespeed_runner.errors import RunError


def count_calls(pipe: Any, model: Any) -> tuple[list[torch.Tensor], Counter[str]]:
    """What the denoisers return, and how often their projections ran, by name."""
    ran: Counter[str] = Counter()
    handles = [
        module.register_forward_hook(lambda *_, path=path: ran.update([path.rpartition(".")[2]]))
        for name in denoiser_names(pipe)
        for path, module in getattr(pipe, name).named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    results = model.repeat(pipe)
    for handle in handles:
        handle.remove()
    return results, ran


def fuse_as_diffusers_does(name: str) -> tuple[Any, str]:
    """A copy of the tiny model with fused projections, and what went wrong with it; empty: nothing."""
    model = call_family(name)
    pipe = copy_pipeline(model.pipe)
    try:
        apply_switches(pipe, model.family, SwitchSettings(fuse_qkv=True))
        results, ran = count_calls(pipe, model)
    except (AttributeError, RuntimeError, RunError) as error:
        return pipe, str(error)
    if not ran["to_qkv"]:
        return pipe, "never used"
    return pipe, "" if distance(results, model.repeat(model.pipe)) < 1e-5 else "wrong"


@pytest.mark.parametrize("name", FAMILIES)
def test_projections_are_fused_exactly_where_the_result_stays_the_same(name: str) -> None:
    pipe, problem = fuse_as_diffusers_does(name)
    assert (problem == "") == (name in FUSES_QKV), problem
    if not problem:
        evidence = collect_evidence(pipe, SwitchSettings(fuse_qkv=True))
        assert evidence is not None and all(evidence["fuse_qkv"][part] > 0 for part in denoiser_names(pipe))


def test_the_reasons_that_the_rules_give() -> None:
    assert fuse_as_diffusers_does("sd3")[1] == "wrong"
    assert fuse_as_diffusers_does("ltx_video")[1] == "never used"


@pytest.mark.parametrize("name", ["sdxl", "cogvideox", "pixart_sigma"])
def test_fused_processors_take_a_backend(name: str) -> None:
    model = call_family(name)
    pipe = copy_pipeline(model.pipe)
    apply_switches(pipe, model.family, SwitchSettings(fuse_qkv=True))
    apply_attention(pipe, model.family, AttentionOptions(name="math"))
    seen = profile_kernels(model.of(pipe))
    assert {*seen["self"], *seen["cross"]} == {"aten::_scaled_dot_product_attention_math"}


def save_tiny_vae(folder: Path, vae: Any) -> str:
    """An AutoencoderTiny with random weights that decodes latents of a VAE's shape."""
    from diffusers import AutoencoderTiny

    widths = (8,) * len(vae.config.block_out_channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tiny = AutoencoderTiny(
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            num_encoder_blocks=(1,) * len(widths),
            num_decoder_blocks=(1,) * len(widths),
            latent_channels=vae.config.latent_channels,
        )
    tiny.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_tiny_autoencoder_decodes_what_the_vae_would(name: str, tmp_path: Path) -> None:
    model = call_family(name)
    pipe = copy_pipeline(model.pipe)
    switches = SwitchSettings(tiny_vae=save_tiny_vae(tmp_path / "tiny", pipe.vae))
    size = {"width": model.family.tiny_size, "height": model.family.tiny_size, "num_frames": None}
    with torch.inference_mode():
        expected = model.family.decode(pipe, model.latents, **size)
        apply_switches(pipe, model.family, switches)
        images = model.family.decode(pipe, model.latents, **size)
    assert images.shape == expected.shape and images.dtype == expected.dtype and (images != expected).any()
    evidence = collect_evidence(pipe, switches)
    assert evidence is not None and evidence["tiny_vae"]["class"] == "AutoencoderTiny"
    assert type(model.pipe.vae).__name__ == "AutoencoderKL"
