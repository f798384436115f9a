"""The stage `detect_shapes`: finds objects on a plain background, as in the scenes of the demo model.

Any stage that returns `Regions`, such as one of a plugin, can take its place: `graph.stages.detect.stage=NAME`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..artifacts import Box, Images, Regions
from ..errors import ConfigError
from .interface import stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BORDER = 2
"""Width in pixels of the border whose median colour is the background colour."""
MAX_DISTANCE = 255 * 3**0.5
"""Largest distance between two RGB colours."""


@dataclass(kw_only=True)
class DetectShapesOptions:
    """Options of `detect_shapes`."""

    threshold: float = 60.0
    """A pixel at least this far from the background colour belongs to an object; distance in RGB, 0 to 441."""
    smallest: float = 0.006
    """Regions below this fraction of the image area are ignored as specks."""

    def __post_init__(self) -> None:
        """Raises ConfigError if a value is out of range."""
        if not 0 < self.threshold < MAX_DISTANCE:
            raise ConfigError(f"threshold={self.threshold}: between 0 and 441 is needed")
        if not 0 <= self.smallest < 1:
            raise ConfigError(f"smallest={self.smallest}: 0 or more and below 1 is needed")


@stage("detect_shapes", options=DetectShapesOptions)
def detect_shapes(options: DetectShapesOptions, *, images: Images) -> Regions:
    """Finds groups of touching pixels (8 neighbours) that differ from the border: one region each, largest box first.

    A region's score is the distance of its colour from the background colour; black on white is 1.
    """
    import numpy as np

    regions = [
        (index, box, score)
        for index, image in enumerate(images.tensors["images"])
        for box, score in _find_regions(options, image)
    ]
    return Regions(
        tensors={
            "of": np.array([index for index, _, _ in regions], np.int64),
            "boxes": np.array([box for _, box, _ in regions], np.int64).reshape(-1, 4),
            "scores": np.array([score for _, _, score in regions], np.float32),
        },
        data={"labels": ["shape"] * len(regions)},
    )


def _find_regions(options: DetectShapesOptions, image: NDArray[np.uint8]) -> list[tuple[Box, float]]:
    """Boxes and scores in one image, (height, width, 3); largest box first."""
    import numpy as np
    from scipy import ndimage

    interior = np.zeros(image.shape[:2], bool)
    interior[BORDER:-BORDER, BORDER:-BORDER] = True
    background = np.median(image[~interior], axis=0)
    distance = np.linalg.norm(image.astype(np.float64) - background, axis=-1)
    labels, _ = ndimage.label(distance >= options.threshold, structure=np.ones((3, 3)))
    regions: list[tuple[Box, float]] = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        mask = labels[rows, columns] == label
        if mask.sum() >= options.smallest * labels.size:
            box = (columns.start, rows.start, columns.stop, rows.stop)
            regions.append((box, float(np.median(distance[rows, columns][mask]) / MAX_DISTANCE)))
    return sorted(regions, key=lambda region: -_area(region[0]))


def _area(box: Box) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)
