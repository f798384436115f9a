"""Memory settings that a component cannot follow are an error."""

from __future__ import annotations

import pytest
import torch

from wavespeed_runner.errors import RunError


def test_a_tiny_autoencoder_has_no_tiles() -> None:
    from diffusers import AutoencoderTiny

    from wavespeed_runner.accelerate.memory import MemorySettings, apply_memory

    class Pipe:
        vae = AutoencoderTiny(encoder_block_out_channels=(4,) * 4, decoder_block_out_channels=(4,) * 4)

    with pytest.raises(RunError, match=r"memory\.vae_tiling=true: AutoencoderTiny cannot do it"):
        apply_memory(Pipe(), MemorySettings(vae_tiling=True), "cpu", torch.float32)
