"""Enlarging images and latents: as Pillow and torch do, at sizes that the model can generate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wavespeed_runner.artifacts import Images, Latents, Pipeline
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.family import keep_layout
from wavespeed_runner.stages.upscale import (
    LatentMethod,
    Method,
    UpscaleLatentsOptions,
    UpscaleOptions,
    upscale,
    upscale_latents,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)


def pipeline(multiple: int = 16) -> Pipeline:
    family = SimpleNamespace(size_multiple=multiple, unpack_latents=keep_layout)
    return Pipeline(pipe=None, model=None, family=family, device="cpu")


@pytest.mark.parametrize("method", list(Method))
def test_images_are_resized_as_pillow_does(method: Method) -> None:
    options = UpscaleOptions(scale=2.0, method=method)
    enlarged = upscale(options, pipeline=pipeline(), images=Images(tensors={"images": PIXELS})).tensors["images"]
    filters = {"lanczos": Image.LANCZOS, "bicubic": Image.BICUBIC, "nearest": Image.NEAREST}
    expected = [np.asarray(Image.fromarray(p).resize((96, 64), filters[method.value])) for p in PIXELS]
    assert np.array_equal(enlarged, expected)


@pytest.mark.parametrize(("scale", "multiple", "size"), [(1.5, 8, (72, 48)), (1.5, 32, (64, 64)), (2.4, 16, (112, 80))])
def test_sizes_are_rounded_to_what_the_model_can_generate(scale: float, multiple: int, size: tuple[int, int]) -> None:
    options = UpscaleOptions(scale=scale)
    images = upscale(options, pipeline=pipeline(multiple), images=Images(tensors={"images": PIXELS})).tensors["images"]
    assert images.shape[2:0:-1] == size


def test_a_scale_that_rounds_to_the_same_size_is_an_error() -> None:
    images = Images(tensors={"images": PIXELS})
    with pytest.raises(RunError, match=r"scale=1.1 of 48x32, in multiples of 16, is the same size"):
        upscale(UpscaleOptions(scale=1.1), pipeline=pipeline(), images=images)


def test_nothing_larger_than_an_image_may_be_is_made() -> None:
    images = Images(tensors={"images": np.zeros((1, 16, 4096, 3), np.uint8)})
    with pytest.raises(RunError, match=r"scale=5.0 of 4096x16 gives 20480x80; at most 16384 pixels a side"):
        upscale(UpscaleOptions(scale=5.0), pipeline=pipeline(), images=images)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0, -2.0, 9.0])
@pytest.mark.parametrize("options", [UpscaleOptions, UpscaleLatentsOptions])
def test_scales_out_of_range_are_refused(options: Any, scale: float) -> None:
    with pytest.raises(ConfigError, match=f"scale={scale}: above 1 and at most 8 is needed"):
        options(scale=scale)


@pytest.mark.parametrize("method", list(LatentMethod))
def test_latents_are_interpolated_as_torch_does(method: LatentMethod) -> None:
    grid = torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    latents = Latents(tensors={"latents": grid}, data={"size": {"width": 48, "height": 32, "num_frames": None}})
    options = UpscaleLatentsOptions(scale=1.5, method=method)
    enlarged = upscale_latents(options, pipeline=pipeline(8), latents=latents)
    assert enlarged.data["size"] == {"width": 72, "height": 48, "num_frames": None}
    expected = torch.nn.functional.interpolate(grid, size=(6, 9), mode=method.value)
    assert torch.equal(enlarged.tensors["latents"], expected)
