"""Cuts regions out of images, to be refined at the model's own size, and puts them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..artifacts import Crops, Images, Regions
from ..config.schema import top_level
from ..errors import ConfigError, RunError
from .interface import stage

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; the last two are just outside."""


@dataclass(kw_only=True)
class CropRegionsOptions:
    width: int = top_level("width")
    height: int = top_level("height")
    padding: float = 0.25
    """What is seen around a region, on every side, as a part of its longer side."""

    def __post_init__(self) -> None:
        if not 0 <= self.padding <= 4:
            raise ConfigError(f"padding={self.padding}: 0 to 4 is needed")


@dataclass(kw_only=True)
class PasteRegionsOptions:
    feather: float = 0.1
    """Width of the soft edge, as a part of the shorter side of what is put back."""

    def __post_init__(self) -> None:
        if not 0 <= self.feather <= 0.5:
            raise ConfigError(f"feather={self.feather}: 0 to 0.5 is needed")


@stage("crop_regions", options=CropRegionsOptions)
def crop_regions(options: CropRegionsOptions, *, images: Images, regions: Regions) -> Crops:
    """One image of width x height a region: region and padding, in that shape, enlarged or reduced."""
    import numpy as np
    from PIL import Image

    originals, size = images.as_pil(), (options.width, options.height)
    of = [int(index) for index in regions.tensors["of"]]
    crops = np.empty((len(of), options.height, options.width, 3), np.uint8)
    windows = []
    for number, (index, box) in enumerate(zip(of, regions.tensors["boxes"], strict=True)):
        window = _window(tuple(map(int, box)), originals[index].size, options)  # type: ignore[arg-type]
        crops[number] = np.asarray(originals[index].crop(window).resize(size, Image.Resampling.LANCZOS))
        windows.append(window)
    return Crops(tensors={"images": crops}, data={"of": of, "windows": windows})


def _window(box: Box, image: tuple[int, int], options: CropRegionsOptions) -> Box:
    """The part of the image that is cut out: the box in its middle, padded, grown to the shape that is wanted.

    At the image's edge it is moved inwards; what is larger than the image is cut to it.
    """
    left, top, right, bottom = box
    padding = 2 * options.padding * max(right - left, bottom - top)
    width, height = right - left + padding, bottom - top + padding
    shape = options.width / options.height
    width, height = max(width, height * shape), max(height, width / shape)
    width, height = min(round(width), image[0]), min(round(height), image[1])
    left = min(max(round((left + right - width) / 2), 0), image[0] - width)
    top = min(max(round((top + bottom - height) / 2), 0), image[1] - height)
    return left, top, left + width, top + height


@stage("paste_regions", options=PasteRegionsOptions)
def paste_regions(options: PasteRegionsOptions, *, images: Images, crops: Crops, refined: Images) -> Images:
    """The images with what was cut out of them (`crops`) replaced by something better (`refined`), one for one.

    No crops: the images as they are. Edges fade into the old image, but not where they lie on the image's own.
    """
    import numpy as np
    from PIL import Image

    new, windows = refined.as_pil(), crops.data["windows"]
    if len(new) != len(windows):
        raise RunError(f"paste_regions: {len(windows)} regions were cut out, {len(new)} images came back")
    canvases = images.tensors["images"].astype(np.float64)
    for image, index, window in zip(new, crops.data["of"], windows, strict=True):
        left, top, right, bottom = window
        canvas = canvases[index]
        patch = np.asarray(image.resize((right - left, bottom - top), Image.Resampling.LANCZOS), np.float64)
        weight = _soft(options.feather, window, canvas.shape[:2])[..., None]
        part = canvas[top:bottom, left:right]
        part += weight * (patch - part)
    return Images(tensors={"images": np.rint(canvases).astype(np.uint8)})


def _soft(feather: float, window: Box, image: tuple[int, int]) -> Any:
    """Weights (height, width) of a window: 1 inside, falling to 0 at its edges within the image."""
    import numpy as np

    left, top, right, bottom = window
    reach = feather * min(right - left, bottom - top)

    def along(low: int, high: int, end: int) -> Any:
        position = np.arange(low, high) + 0.5
        before = position - low if low > 0 else np.inf
        behind = high - position if high < end else np.inf
        inside = np.minimum(before, behind) * np.ones(high - low)
        return np.clip(inside / reach, 0, 1) if reach else np.ones(high - low)

    return along(top, bottom, image[0])[:, None] * along(left, right, image[1])[None]
