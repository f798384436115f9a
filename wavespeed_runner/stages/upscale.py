"""Enlarges images, or latents, for a second denoising at the larger size."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..artifacts import Images, LatentGrid, Latents, Pipeline
from ..errors import ConfigError, RunError
from .interface import stage

MOST = 8
"""A larger scale is a mistyped one."""


class Method(Enum):
    lanczos = "lanczos"
    bicubic = "bicubic"
    nearest = "nearest"


class LatentMethod(Enum):
    nearest = "nearest"
    bilinear = "bilinear"
    bicubic = "bicubic"


@dataclass(kw_only=True)
class UpscaleOptions:
    scale: float = 2.0
    """Of both sides; the result's are rounded to multiples that the model can take."""
    method: Method = Method.lanczos

    def __post_init__(self) -> None:
        _check(self.scale)


@dataclass(kw_only=True)
class UpscaleLatentsOptions:
    scale: float = 2.0
    """As of `upscale`."""
    method: LatentMethod = LatentMethod.bilinear

    def __post_init__(self) -> None:
        _check(self.scale)


def _check(scale: float) -> None:
    if not 1 < scale <= MOST:
        raise ConfigError(f"scale={scale}: above 1 and at most {MOST} is needed")


@stage("upscale", options=UpscaleOptions)
def upscale(options: UpscaleOptions, *, pipeline: Pipeline, images: Images) -> Images:
    """Images, enlarged."""
    import numpy as np
    from PIL import Image

    pixels = images.tensors["images"]
    count, height, width, _ = pixels.shape
    size = _larger(pipeline, options.scale, width, height)
    filter_ = Image.Resampling[options.method.name.upper()]
    large = np.empty((count, size[1], size[0], 3), np.uint8)
    for index, image in enumerate(images.as_pil()):
        large[index] = np.asarray(image.resize(size, filter_))
    return Images(tensors={"images": large})


@stage("upscale_latents", options=UpscaleLatentsOptions)
def upscale_latents(options: UpscaleLatentsOptions, *, pipeline: Pipeline, latents: Latents) -> LatentGrid:
    """Latents, laid out as an image is, enlarged: no way through pixels and back.

    Enlarged latents are no latents of an image: seams and blur stay unless the second denoising runs at a strength of
    0.5 or more.
    """
    from torch.nn.functional import interpolate

    width, height = (latents.data["size"][name] for name in ("width", "height"))
    size = _larger(pipeline, options.scale, width, height)
    grid = pipeline.family.unpacked(pipeline.pipe, latents.tensors["latents"], width=width, height=height)
    target = (grid.shape[-2] * size[1] // height, grid.shape[-1] * size[0] // width)
    large = interpolate(grid, size=target, mode=options.method.value)
    return LatentGrid(
        tensors={"latents": large}, data={"size": {"width": size[0], "height": size[1], "num_frames": None}}
    )


def _larger(pipeline: Pipeline, scale: float, width: int, height: int) -> tuple[int, int]:
    """(width, height) of the result.

    Raises:
        RunError: rounded to the model's multiple it is the old size.
    """
    multiple = pipeline.family.size_multiple
    size = round(width * scale / multiple) * multiple, round(height * scale / multiple) * multiple
    if size == (width, height):
        raise RunError(
            f"scale={scale} of {width}x{height}, in multiples of {multiple}, is the same size; give a larger scale"
        )
    return size
