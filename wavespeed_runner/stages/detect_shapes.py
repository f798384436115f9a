"""Finds objects on a plain ground, as in the scenes of the demo model.

Another detector is a stage of a plugin that gives `Regions`; a graph takes it by name, with
`graph.stages.detect.stage=NAME`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..artifacts import Images, Regions
from ..errors import ConfigError
from .interface import stage

BORDER = 2
"""Pixels along the edge whose median is the ground's colour."""
FARTHEST = 255 * 3**0.5
"""Distance of two colours at most."""


@dataclass(kw_only=True)
class DetectShapesOptions:
    threshold: float = 60.0
    """Distance in RGB (0 to 441) from the ground's colour from which a pixel belongs to an object."""
    smallest: float = 0.006
    """Part of the image's area below which a region is no object but a speckle."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < FARTHEST:
            raise ConfigError(f"threshold={self.threshold}: between 0 and 441 is needed")
        if not 0 <= self.smallest < 1:
            raise ConfigError(f"smallest={self.smallest}: 0 or more and below 1 is needed")


@stage("detect_shapes", options=DetectShapesOptions)
def detect_shapes(options: DetectShapesOptions, *, images: Images) -> Regions:
    """One region for every group of touching pixels (8 neighbours) that differ from the border, largest box first.

    The score is how far its colour is from the ground's, 1 being black on white.
    """
    import numpy as np

    found = [
        (index, *region) for index, image in enumerate(images.tensors["images"]) for region in _regions(options, image)
    ]
    return Regions(
        tensors={
            "of": np.array([index for index, _, _ in found], np.int64),
            "boxes": np.array([box for _, box, _ in found], np.int64).reshape(-1, 4),
            "scores": np.array([score for _, _, score in found], np.float32),
        },
        data={"labels": ["shape"] * len(found)},
    )


def _regions(options: DetectShapesOptions, image: Any) -> list[tuple[tuple[int, int, int, int], float]]:
    """Boxes and scores in one image."""
    import numpy as np
    from scipy import ndimage

    inside = np.zeros(image.shape[:2], bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    ground = np.median(image[~inside], axis=0)
    distance = np.linalg.norm(image.astype(np.float64) - ground, axis=-1)
    labels, _ = ndimage.label(distance >= options.threshold, structure=np.ones((3, 3)))
    found = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        own = labels[rows, columns] == label
        if own.sum() >= options.smallest * labels.size:
            box = (columns.start, rows.start, columns.stop, rows.stop)
            found.append((box, float(np.median(distance[rows, columns][own]) / FARTHEST)))
    return sorted(found, key=lambda one: (one[0][0] - one[0][2]) * (one[0][3] - one[0][1]))
