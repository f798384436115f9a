"""The captions of the demo models' world, and what each demands: coloured shapes, one or two.

"a small red circle", "a red circle above a blue square", optionally with a background and an opening ("a photo of").
`training/scenes.py` draws the images that the demo models learned from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

SIDE = 64
"""Pixels of an image's side."""
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 35, 40),
    "green": (40, 165, 60),
    "blue": (40, 80, 225),
    "yellow": (245, 220, 45),
    "orange": (250, 135, 25),
    "purple": (135, 45, 175),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
}
SHAPES = ("circle", "square", "triangle")
RELATIONS = ("above", "below", "left of", "right of")


@dataclass(frozen=True)
class Thing:
    """One object as a caption names it; `size` is "small", "large" or None."""

    colour: str
    shape: str
    size: str | None = None


@dataclass(frozen=True)
class Demand:
    """Everything a caption asks for. `relation` places the first thing relative to the second."""

    things: tuple[Thing, ...]
    relation: str | None = None
    background: str | None = None


def _thing_pattern(n: int) -> str:
    sized = rf"(?P<size{n}>small|large) " if n == 1 else ""
    size = f"(?:{sized})?" if sized else ""
    return rf"an? {size}(?P<colour{n}>{'|'.join(COLOURS)}) (?P<shape{n}>{'|'.join(SHAPES)})"


_GRAMMAR = re.compile(
    rf"(?:a photo of |an image of |a picture of )?{_thing_pattern(1)}"
    rf"(?: (?:to the )?(?P<relation>{'|'.join(RELATIONS)}) {_thing_pattern(2)})?"
    rf"(?: on a (?P<background>{'|'.join(BACKGROUNDS)}) background)?"
)


def parse_caption(text: str) -> Demand:
    """What a caption demands. Raises ValueError for text outside the grammar."""
    normal = " ".join(re.sub(r"[^a-z ]", " ", text.lower()).split())
    match = _GRAMMAR.fullmatch(normal)
    if match is None:
        raise ValueError(f"not a caption of this world: {text!r}")
    g = match.groupdict()
    things = [Thing(g["colour1"], g["shape1"], g["size1"])]
    if g["relation"]:
        if g["size1"] or g["colour1"] == g["colour2"]:
            raise ValueError(f"a pair has distinct colours and no sizes: {text!r}")
        things.append(Thing(g["colour2"], g["shape2"]))
    return Demand(tuple(things), g["relation"], g["background"])


def signed_distance(shape: str, dx: Floats, dy: Floats, radius: float) -> Floats:
    """Distance in pixels to the outline, negative inside (exact near it, as edges need).

    Arguments dx, dy are offsets from the centre of the bounding box, whose side is 2 * radius. Triangles
    are isosceles and point up. Formulas: https://iquilezles.org/articles/distfunctions2d/
    """
    import numpy as np

    if shape == "circle":
        return np.hypot(dx, dy) - radius
    if shape == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) - radius
    if shape == "triangle":
        slope = np.hypot(2.0, 1.0)  # of an edge that rises 2 * radius over a run of radius
        return np.maximum((2 * np.abs(dx) - dy - radius) / slope, dy - radius)
    raise ValueError(f"unknown shape {shape!r}")
