"""Reads a scene of the demo models from its image with plain image analysis, no learned part.

    verdict = read_scene(image, "a red circle above a blue square")
    verdict.right, verdict.problems

An image is right when everything its caption names is there and nothing else is: the number of objects, their colours
and shapes, the relation, the background, the size. What the caption leaves open (size or background not named) is not
judged. The thresholds were fixed on drawn images, on which the reader must be right without exception, before any model
was scored (`tests/training/test_oracle.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .scene_words import BACKGROUNDS, COLOURS, SHAPES, Demand, parse_caption, signed_distance

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .scene_words import Floats

    Image = npt.NDArray[np.uint8]
    Mask = npt.NDArray[np.bool_]

BORDER = 2
"""Pixels along the edge that show the background."""
FOREGROUND = 60.0
"""RGB distance from the background from which a pixel belongs to an object."""
SPECKLE = 24
"""Pixels; a smaller region is no object."""
BACKGROUND_TOLERANCE = 60.0
"""RGB distance from the named background."""
COLOUR_TOLERANCE = 80.0
"""RGB distance from the nearest named colour."""
PURITY = 0.85
"""Share of an object's inner pixels that must have its colour."""
SHAPE_MATCH = {"circle": 0.85, "square": 0.85, "triangle": 0.7}
"""Least overlap with the ideal; a tip is easily lost."""
ASPECT = 1.25
"""Longer to shorter side of the bounding box, above which an object has no shape."""
SIZE_LIMITS = (11.5, 19.0)
"""Radius in pixels: small below the first, large above the second."""
APART = 6.0
"""Pixels between two centres along the axis of their relation."""


@dataclass(frozen=True)
class Found:
    """One object in an image; x, y and radius in pixels, y pointing down."""

    colour: str
    shape: str
    size: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Verdict:
    """What is in the image, and everything that contradicts the caption."""

    found: tuple[Found, ...]
    background: str
    problems: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether the image shows what the caption demands."""
        return not self.problems


def _nearest(rgb: Floats, palette: dict[str, tuple[int, int, int]], tolerance: float) -> str:
    import numpy as np

    distances = {name: float(np.linalg.norm(rgb - np.array(c))) for name, c in palette.items()}
    name = min(distances, key=distances.__getitem__)
    return name if distances[name] <= tolerance else "unclear"


def _background(image: Floats) -> Floats:
    """The median colour of the border."""
    import numpy as np

    inside = np.zeros(image.shape[:2], dtype=bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    return np.median(image[~inside], axis=0)


def _colour(image: Floats, mask: Mask) -> str:
    """The colour of an object's inner pixels, "mixed" if they disagree."""
    import numpy as np
    from scipy import ndimage

    core = ndimage.binary_erosion(mask)
    pixels = image[core if core.any() else mask]
    palette = np.array(list(COLOURS.values()))
    nearest = np.linalg.norm(pixels[:, None] - palette, axis=-1).argmin(-1)
    if np.bincount(nearest).max() < PURITY * len(nearest):
        return "mixed"
    return _nearest(np.median(pixels, axis=0), COLOURS, COLOUR_TOLERANCE)


def _shape(mask: Mask) -> str:
    """The ideal shape that overlaps best (intersection over union) within the bounding box."""
    import numpy as np

    height, width = mask.shape
    if max(height, width) > ASPECT * min(height, width):
        return "unclear"
    yy, xx = np.mgrid[0:height, 0:width] + 0.5
    dx, dy = 2 * xx / width - 1, 2 * yy / height - 1
    overlaps = {}
    for shape in SHAPES:
        ideal = signed_distance(shape, dx, dy, 1.0) <= 0
        overlaps[shape] = (mask & ideal).sum() / (mask | ideal).sum()
    best = max(overlaps, key=overlaps.__getitem__)
    return best if overlaps[best] >= SHAPE_MATCH[best] else "unclear"


def _size(radius: float) -> str:
    if radius < SIZE_LIMITS[0]:
        return "small"
    return "large" if radius > SIZE_LIMITS[1] else "medium"


def find_objects(image: Image) -> tuple[list[Found], Floats]:
    """(connected regions that differ from the background, colour of the background)."""
    import numpy as np
    from scipy import ndimage

    floats = image.astype(float)
    background = _background(floats)
    regions, _ = ndimage.label(np.linalg.norm(floats - background, axis=-1) > FOREGROUND)
    found = []
    for number, box in enumerate(ndimage.find_objects(regions), start=1):
        mask = regions[box] == number
        if mask.sum() < SPECKLE:
            continue
        rows, columns = box
        radius = max(mask.shape) / 2
        found.append(
            Found(
                colour=_colour(floats[box], mask),
                shape=_shape(mask),
                size=_size(radius),
                x=(columns.start + columns.stop) / 2,
                y=(rows.start + rows.stop) / 2,
                radius=radius,
            )
        )
    return found, background


def _relation_holds(relation: str, first: Found, second: Found) -> bool:
    """Whether the first is clearly on its side of the second, and mostly along that axis."""
    right, down = first.x - second.x, first.y - second.y
    along = {"above": -down, "below": down, "left of": -right, "right of": right}[relation]
    across = right if relation in ("above", "below") else down
    return along > max(APART, abs(across))


def _contradictions(demand: Demand, found: list[Found], background: str) -> list[str]:
    problems = []
    if demand.background is not None and background != demand.background:
        problems.append(f"background is {background}, not {demand.background}")
    if len(found) != len(demand.things):
        return [*problems, f"{len(found)} objects, not {len(demand.things)}"]
    if {obj.colour for obj in found} != {thing.colour for thing in demand.things}:
        wanted = ", ".join(thing.colour for thing in demand.things)
        return [*problems, f"colours are {', '.join(o.colour for o in found)}, not {wanted}"]
    by_colour = {obj.colour: obj for obj in found}
    for thing in demand.things:
        obj = by_colour[thing.colour]
        if obj.shape != thing.shape:
            problems.append(f"shape of the {thing.colour} is {obj.shape}, not {thing.shape}")
        if thing.size is not None and obj.size != thing.size:
            problems.append(f"size is {obj.size}, not {thing.size}")
    if demand.relation is not None:
        first, second = (by_colour[thing.colour] for thing in demand.things)
        if not _relation_holds(demand.relation, first, second):
            problems.append(f"relation is not {demand.relation!r}")
    return problems


def read_scene(image: Image, caption: str) -> Verdict:
    """Compares an image, uint8 (64, 64, 3), with a caption; ValueError: the text is none."""
    found, rgb = find_objects(image)
    background = _nearest(rgb, BACKGROUNDS, BACKGROUND_TOLERANCE)
    problems = _contradictions(parse_caption(caption), found, background)
    return Verdict(tuple(found), background, tuple(problems))
