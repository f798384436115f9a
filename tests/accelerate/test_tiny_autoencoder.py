"""Memory settings that a component cannot follow are an error."""

from __future__ import annotations

import pytest
import torch

from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.errors import RunError, Unfit
from wavespeed_runner.planning.plan import build_plan


def test_a_tiny_autoencoder_has_no_tiles() -> None:
    from diffusers import AutoencoderTiny

    from wavespeed_runner.accelerate.memory import MemorySettings, apply_memory

    class Pipe:
        vae = AutoencoderTiny(encoder_block_out_channels=(4,) * 4, decoder_block_out_channels=(4,) * 4)

    with pytest.raises(RunError, match=r"memory\.vae_tiling=true: AutoencoderTiny cannot do it"):
        apply_memory(Pipe(), MemorySettings(vae_tiling=True), "cpu", torch.float32)


@pytest.mark.parametrize("model", ["demo", "demo_unet"])
def test_the_plan_refuses_tiles_of_a_folders_tiny_autoencoder(model: str) -> None:
    def plan(*overrides: str) -> object:
        with composer(None):
            return build_plan(compose_job(list(overrides), list(overrides)))

    with pytest.raises(Unfit, match=rf"memory\.vae_tiling=true: the autoencoder of model\.repo=\S+/{model} is an Auto"):
        plan(f"model={model}", "memory=vae_tiling")
    plan(f"model={model}", "memory=vae_slicing")
    plan("model=flux", "model.init=tiny", "memory=vae_tiling")
