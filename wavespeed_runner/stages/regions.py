"""The stages `crop_regions` and `paste_regions`: refine parts of an image at the model's own size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..artifacts import Box, Crops, Images, Regions
from ..config.schema import top_level
from ..errors import ConfigError, RunError
from .interface import stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(kw_only=True)
class CropRegionsOptions:
    """Options of `crop_regions`."""

    width: int = top_level("width")
    height: int = top_level("height")
    padding: float = 0.25
    """Margin on every side of a region, as a fraction of its longer side."""

    def __post_init__(self) -> None:
        """Raises ConfigError if a value is out of range."""
        if not 0 <= self.padding <= 4:
            raise ConfigError(f"padding={self.padding}: 0 to 4 is needed")


@dataclass(kw_only=True)
class PasteRegionsOptions:
    """Options of `paste_regions`."""

    feather: float = 0.1
    """Width of the soft edge, as a fraction of the shorter side of the pasted region."""

    def __post_init__(self) -> None:
        """Raises ConfigError if a value is out of range."""
        if not 0 <= self.feather <= 0.5:
            raise ConfigError(f"feather={self.feather}: 0 to 0.5 is needed")


@stage("crop_regions", options=CropRegionsOptions)
def crop_regions(options: CropRegionsOptions, *, images: Images, regions: Regions) -> Crops:
    """Crops each region with its padding and scales it to width x height, keeping the aspect ratio."""
    import numpy as np
    from PIL import Image

    originals, size = images.as_pil(), (options.width, options.height)
    image_of = [int(index) for index in regions.tensors["of"]]
    crops = np.empty((len(image_of), options.height, options.width, 3), np.uint8)
    windows = []
    for number, (index, box) in enumerate(zip(image_of, regions.tensors["boxes"], strict=True)):
        window = _find_window(tuple(map(int, box)), originals[index].size, options)  # type: ignore[arg-type]
        crops[number] = np.asarray(originals[index].crop(window).resize(size, Image.Resampling.LANCZOS))
        windows.append(window)
    return Crops(tensors={"images": crops}, data={"of": image_of, "windows": windows})


def _find_window(box: Box, image_size: tuple[int, int], options: CropRegionsOptions) -> Box:
    """The window to crop: centred on the box, padded, and grown to the aspect ratio of the options.

    At the edge of the image it is moved inwards; a window larger than the image is cut to it.
    """
    left, top, right, bottom = box
    padding = 2 * options.padding * max(right - left, bottom - top)
    width, height = right - left + padding, bottom - top + padding
    aspect = options.width / options.height
    width, height = max(width, height * aspect), max(height, width / aspect)
    width, height = min(round(width), image_size[0]), min(round(height), image_size[1])
    left = min(max(round((left + right - width) / 2), 0), image_size[0] - width)
    top = min(max(round((top + bottom - height) / 2), 0), image_size[1] - height)
    return left, top, left + width, top + height


@stage("paste_regions", options=PasteRegionsOptions)
def paste_regions(options: PasteRegionsOptions, *, images: Images, crops: Crops, refined: Images) -> Images:
    """Pastes refined crops back into the images that they were cropped from.

    The edges of a crop fade into the image, except where they lie on the image's edge.

    Args:
        options: width of the soft edge.
        images: the images that were cropped.
        crops: as `crop_regions` returned them; without any the images stay as they are.
        refined: one image for each crop, in the same order.

    Raises:
        RunError: not one refined image for each crop.
    """
    import numpy as np
    from PIL import Image

    patches, windows = refined.as_pil(), crops.data["windows"]
    if len(patches) != len(windows):
        raise RunError(
            f"paste_regions: {len(windows)} regions were cropped, but {len(patches)} refined images came back"
        )
    canvases = images.tensors["images"].astype(np.float64)
    for image, index, window in zip(patches, crops.data["of"], windows, strict=True):
        left, top, right, bottom = window
        canvas = canvases[index]
        patch = np.asarray(image.resize((right - left, bottom - top), Image.Resampling.LANCZOS), np.float64)
        weight = _feather(options.feather, window, canvas.shape[:2])[..., None]
        area = canvas[top:bottom, left:right]
        area += weight * (patch - area)
    return Images(tensors={"images": np.rint(canvases).astype(np.uint8)})


def _feather(feather: float, window: Box, image_shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Weights (height, width) of a window: 1 inside, falling to 0 at those edges that lie within the image."""
    import numpy as np

    left, top, right, bottom = window
    reach = feather * min(right - left, bottom - top)

    def ramp(low: int, high: int, image_end: int) -> NDArray[np.float64]:
        position = np.arange(low, high) + 0.5
        from_low = position - low if low > 0 else np.inf
        from_high = high - position if high < image_end else np.inf
        distance = np.minimum(from_low, from_high) * np.ones(high - low)
        return np.clip(distance / reach, 0, 1) if reach else np.ones(high - low)

    return ramp(top, bottom, image_shape[0])[:, None] * ramp(left, right, image_shape[1])[None]
