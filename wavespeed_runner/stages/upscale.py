"""The stages `upscale` and `upscale_latents`: enlarge images or latents to denoise them again at the larger size."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..artifacts import Images, LatentGrid, Latents, Pipeline
from ..errors import ConfigError, RunError
from ..inputs.limits import MAX_SIDE
from .interface import stage

MAX_SCALE = 8
"""A larger scale is taken for a typing mistake."""


class Method(Enum):
    """Filters for images; see PIL.Image.Resampling."""

    lanczos = "lanczos"
    bicubic = "bicubic"
    nearest = "nearest"


class LatentMethod(Enum):
    """Filters for latents; see torch.nn.functional.interpolate."""

    nearest = "nearest"
    bilinear = "bilinear"
    bicubic = "bicubic"


@dataclass(kw_only=True)
class UpscaleOptions:
    """Options of `upscale`."""

    scale: float = 2.0
    """Factor for both sides; the result is rounded to sizes that the model can generate."""
    method: Method = Method.lanczos

    def __post_init__(self) -> None:
        """Raises ConfigError if the scale is out of range."""
        _check_scale(self.scale)


@dataclass(kw_only=True)
class UpscaleLatentsOptions:
    """Options of `upscale_latents`."""

    scale: float = 2.0
    """As in `upscale`."""
    method: LatentMethod = LatentMethod.bilinear

    def __post_init__(self) -> None:
        """Raises ConfigError if the scale is out of range."""
        _check_scale(self.scale)


def _check_scale(scale: float) -> None:
    if not 1 < scale <= MAX_SCALE:
        raise ConfigError(f"scale={scale}: above 1 and at most {MAX_SCALE} is needed")


@stage("upscale", options=UpscaleOptions)
def upscale(options: UpscaleOptions, *, pipeline: Pipeline, images: Images) -> Images:
    """Enlarges images by resampling their pixels."""
    import numpy as np
    from PIL import Image

    pixels = images.tensors["images"]
    count, height, width, _ = pixels.shape
    size = _find_target_size(pipeline, options.scale, width, height)
    resampling = Image.Resampling[options.method.name.upper()]
    large = np.empty((count, size[1], size[0], 3), np.uint8)
    for index, image in enumerate(images.as_pil()):
        large[index] = np.asarray(image.resize(size, resampling))
    return Images(tensors={"images": large})


@stage("upscale_latents", options=UpscaleLatentsOptions)
def upscale_latents(options: UpscaleLatentsOptions, *, pipeline: Pipeline, latents: Latents) -> LatentGrid:
    """Enlarges latents by interpolation, without decoding them.

    Interpolated latents are not the latents of an image: seams and blur stay unless the second denoising runs at a
    strength of 0.5 or more.
    """
    from torch.nn.functional import interpolate

    width, height = (latents.data["size"][name] for name in ("width", "height"))
    size = _find_target_size(pipeline, options.scale, width, height)
    grid = pipeline.family.unpack_latents(pipeline.pipe, latents.tensors["latents"], width=width, height=height)
    target = (grid.shape[-2] * size[1] // height, grid.shape[-1] * size[0] // width)
    large = interpolate(grid, size=target, mode=options.method.value)
    return LatentGrid(
        tensors={"latents": large}, data={"size": {"width": size[0], "height": size[1], "num_frames": None}}
    )


def _find_target_size(pipeline: Pipeline, scale: float, width: int, height: int) -> tuple[int, int]:
    """The enlarged (width, height), rounded to multiples of what the model can generate.

    Raises:
        RunError: after rounding it is the old size, or larger than images may be.
    """
    multiple = pipeline.family.size_multiple
    size = round_size(scale, width, height, multiple)
    if size == (width, height):
        raise RunError(
            f"scale={scale} of {width}x{height}, in multiples of {multiple}, is the same size; give a larger scale"
        )
    if max(size) > MAX_SIDE:
        raise RunError(
            f"scale={scale} of {width}x{height} gives {size[0]}x{size[1]}; at most {MAX_SIDE} pixels a side; give a "
            "smaller scale"
        )
    return size


def round_size(scale: float, width: int, height: int, multiple: int) -> tuple[int, int]:
    """The enlarged (width, height), each rounded to a multiple of this many pixels."""
    return round(width * scale / multiple) * multiple, round(height * scale / multiple) * multiple
