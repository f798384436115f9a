"""Tiles of every family's autoencoder on two ranks, against the same tiles on one process."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch

from tests.accelerate.parallel.forked import run_on_ranks
from tests.models.shipped import config_of
from wavespeed_runner.accelerate.parallel.collectives import take_counts
from wavespeed_runner.accelerate.parallel.groups import find_place
from wavespeed_runner.accelerate.parallel.options import Layout
from wavespeed_runner.accelerate.parallel.tiles import DIVISIBLE, divide_tiles, refuse_indivisible
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

pytestmark = pytest.mark.slow
MODEL_OF = {
    "AutoencoderDC": "sana",
    "AutoencoderKL": "flux",
    "AutoencoderKLCogVideoX": "cogvideox_2b",
    "AutoencoderKLFlux2": "flux2_klein",
    "AutoencoderKLHunyuanVideo": "hunyuan_video",
    "AutoencoderKLHunyuanVideo15": "hunyuan_video15",
    "AutoencoderKLLTX2Video": "ltx2",
    "AutoencoderKLLTXVideo": "ltx_video",
    "AutoencoderKLQwenImage": "qwen_image",
    "AutoencoderKLWan": "wan21",
}
VARIANTS = {"AutoencoderKLWan with patches": "wan22_5b", "AutoencoderKLLTXVideo with a timestep": "ltx_video_095"}
TILE, STRIDE, SIZE = 3, 2, 4
"""Sides of a tile, from tile to tile, and of the image, in latents: 2 x 2 tiles, those at the end smaller."""
FRAMES = {
    "AutoencoderKLHunyuanVideo": 6,
    "AutoencoderKLHunyuanVideo15": 1,
    "AutoencoderKLCogVideoX": 5,
    "AutoencoderKLQwenImage": 1,
}
"""Of latents; enough for tiles in time (HunyuanVideo: two), and for several calls with a cache a tile (CogVideoX)."""


@lru_cache
def tiny_vae(model: str) -> Any:
    """The autoencoder of a tiny model, with tiles of a few latents."""
    config = config_of(model)
    vae = load(find_implementation("model", config), config, "cpu").vae.float()
    vae.enable_tiling()
    ratio = getattr(vae, "spatial_compression_ratio", 8)
    for side in ("height", "width", "size"):
        for name, value in (
            (f"tile_latent_min_{side}", TILE),
            (f"tile_sample_min_{side}", TILE * ratio),
            (f"tile_sample_stride_{side}", STRIDE * ratio),
        ):
            if hasattr(vae, name):
                setattr(vae, name, value)
    return vae


def make_latents(vae: Any, size: int = SIZE) -> torch.Tensor:
    name, config = type(vae).__name__, vae.config
    channels = config.get("latent_channels") or config.get("z_dim")
    shape = [1, channels, size, size]
    if not name.endswith(("DC", "KL", "Flux2")):
        shape.insert(2, FRAMES.get(name, 2))
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(vae.dtype)


def decode(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    timestep = vae.config.get("timestep_conditioning")
    with torch.inference_mode():
        return vae.decode(latents, *([torch.tensor([0.05], dtype=vae.dtype)] if timestep else []), return_dict=False)[0]


def decode_on_ranks(vae: Any, latents: torch.Tensor, expected: torch.Tensor, ranks: int) -> Any:
    """On this rank: whether all bits are those of one process, the tiles of each rank, and the messages."""
    with divide_tiles(vae, find_place(Layout(ulysses=ranks))) as tiles:
        result = decode(vae, latents)
    assert "decode" not in vars(vae) and vae.decoder._compiled_call_impl is None, "not as it was"
    return torch.equal(result, expected), tiles.counts, take_counts()


@pytest.mark.parametrize("name", [*MODEL_OF, *VARIANTS])
def test_two_ranks_decode_the_bits_of_one_process(name: str) -> None:
    vae = tiny_vae((MODEL_OF | VARIANTS)[name])
    assert type(vae).__name__ == name.partition(" ")[0]
    latents = make_latents(vae)
    expected = decode(vae, latents)
    counts = [4, 4] if name == "AutoencoderKLHunyuanVideo" else [2, 2]
    for same, tiles, messages in run_on_ranks(2, lambda: decode_on_ranks(vae, latents, expected, 2)):
        assert same and tiles == counts and messages["tiles"]["calls"] == 2


def test_ranks_without_a_tile_have_the_image_too() -> None:
    vae = tiny_vae("flux")
    for size, counts in ((TILE, [1, 0, 0]), (SIZE, [2, 1, 1])):
        latents = make_latents(vae, size)[..., :TILE, :]
        expected = decode(vae, latents)
        for same, tiles, _ in run_on_ranks(3, lambda latents=latents, e=expected: decode_on_ranks(vae, latents, e, 3)):
            assert same and tiles == counts


def test_several_images_in_one_generation_and_half_precision() -> None:
    vae = tiny_vae("flux").to(torch.bfloat16)
    latents = make_latents(vae)
    expected = decode(vae, latents)

    def run() -> bool:
        with divide_tiles(vae, find_place(Layout(ulysses=2))) as tiles:
            return all(torch.equal(decode(vae, latents), expected) for _ in range(2)) and tiles.counts == [4, 4]

    try:
        assert run_on_ranks(2, run) == [True, True]
    finally:
        vae.float()


def test_every_divisible_autoencoder_is_tested_and_others_are_refused() -> None:
    assert set(MODEL_OF) == set(DIVISIBLE)
    with pytest.raises(RunError, match=r"parallel.vae=true: it is not known how the tiles of Identity are divided"):
        refuse_indivisible(torch.nn.Identity())
