"""A detector that finds the brightest window of an image: graph=detail graph.stages.detect.stage=brightest."""

from __future__ import annotations

from dataclasses import dataclass

from wavespeed_runner.artifacts import Images, Regions
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.stages import stage


@dataclass(kw_only=True)
class BrightestOptions:
    size: float = 0.5
    """Sides of the window, as a fraction of the image's."""

    def __post_init__(self) -> None:
        if not 0 < self.size <= 1:
            raise ConfigError(f"size={self.size}: above 0 and at most 1 is needed")


@stage("brightest", options=BrightestOptions)
def brightest(options: BrightestOptions, *, images: Images) -> Regions:
    """Finds the window with the highest mean in each image, the upper left of equals. Its mean is its score."""
    import numpy as np
    from numpy.lib.stride_tricks import sliding_window_view

    pixels = images.tensors["images"]
    height, width = (max(1, round(options.size * side)) for side in pixels.shape[1:3])
    boxes, scores = [], []
    for image in pixels:
        # Summed-area table, in integers and so exact: the sum of all pixels to the left of and above each one.
        sums = np.pad(image.sum(axis=-1, dtype=np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        corners = sliding_window_view(sums, (height + 1, width + 1))[..., [0, -1], :][..., [0, -1]]
        totals = corners[..., 1, 1] - corners[..., 0, 1] - corners[..., 1, 0] + corners[..., 0, 0]
        top, left = (int(i) for i in np.unravel_index(totals.argmax(), totals.shape))
        boxes.append((left, top, left + width, top + height))
        scores.append(totals.max() / (255 * 3 * width * height))
    return Regions(
        tensors={
            "of": np.arange(len(pixels)),
            "boxes": np.array(boxes, np.int64).reshape(-1, 4),
            "scores": np.array(scores, np.float32),
        },
        data={"labels": ["bright"] * len(boxes)},
    )
