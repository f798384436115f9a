"""The world of the demo model: captions of coloured shapes and the images they describe.

A caption demands one object ("a small red circle") or two joined by a relation ("a red circle
above a blue square"), optionally a background and an opening ("a photo of"). `parse` reads a
caption back into the `Demand` it makes, so an oracle can judge an image from its caption alone.

Conventions: images are 64 x 64 RGB, coordinates are pixels with y pointing down, `radius` is
half the side of an object's bounding box. A background that is not named is white in training;
the oracle checks a background only where the caption names one.
"""

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from wavespeed_runner.judges.scene_words import (
    BACKGROUNDS,
    COLOURS,
    RELATIONS,
    SHAPES,
    SIDE,
    Demand,
    Thing,
    signed_distance,
)
from wavespeed_runner.judges.scene_words import parse_caption as parse

Image = npt.NDArray[np.uint8]  # (64, 64, 3)
Images = npt.NDArray[np.uint8]  # (N, 64, 64, 3)
Floats = npt.NDArray[np.float64]

OPENINGS = ("", "a photo of ", "an image of ", "a picture of ")

# Radii in pixels. The gaps between the ranges are what makes "small" and "large" decidable.
RADII: dict[str | None, tuple[float, float]] = {
    "small": (8.0, 10.0),
    None: (13.0, 17.0),
    "large": (21.0, 25.0),
}
PAIR_RADII = (9.0, 13.0)
MARGIN = 2.0  # between an object and the edge of the image
GAP = 5.0  # between the two objects of a pair, along the axis of their relation
DRIFT = 6.0  # most that a pair strays from that axis
COLOUR_JITTER = 6  # per channel

HELD_OUT_SHARE = 8  # one caption content in so many is never shown in training


@dataclass(frozen=True)
class Placed:
    """One object with its geometry: centre and radius in pixels."""

    shape: str
    rgb: tuple[int, int, int]
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """An image before it is drawn."""

    objects: tuple[Placed, ...]
    background: tuple[int, int, int]


def _noun_phrase(thing: Thing) -> str:
    words = [w for w in (thing.size, thing.colour, thing.shape) if w]
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article, *words])


def caption(demand: Demand, opening: str = "", to_the: bool = False) -> str:
    """Words for a demand; `to_the` writes "to the left of" instead of "left of"."""
    text = opening + _noun_phrase(demand.things[0])
    if demand.relation is not None:
        sideways = demand.relation.endswith(" of")
        relation = f"to the {demand.relation}" if to_the and sideways else demand.relation
        text += f" {relation} {_noun_phrase(demand.things[1])}"
    if demand.background is not None:
        text += f" on a {demand.background} background"
    return text


@cache
def _content_held_out(demand: Demand) -> bool:
    digest = hashlib.sha256(caption(demand).encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_SHARE == 0


def held_out(text: str) -> bool:
    """Whether a caption is kept out of training.

    The hash is taken of the caption without its opening and of one spelling of each relation, so
    the same demand in other words is held out with it.
    """
    return _content_held_out(parse(text))


def random_demand(rng: np.random.Generator, *, pair: bool) -> Demand:
    """A demand drawn uniformly, held out or not; backgrounds are named in three of four."""
    backgrounds = [None, *BACKGROUNDS]
    background = backgrounds[rng.integers(len(backgrounds))]
    colours = rng.permutation(list(COLOURS))
    shapes = rng.choice(SHAPES, size=2)
    if pair:
        things = tuple(Thing(str(c), str(s)) for c, s in zip(colours[:2], shapes, strict=True))
        return Demand(things, RELATIONS[rng.integers(len(RELATIONS))], background)
    size = (None, "small", "large")[rng.integers(3)]
    return Demand((Thing(str(colours[0]), str(shapes[0]), size),), None, background)


def random_caption(rng: np.random.Generator, *, pair: bool, from_held_out: bool) -> str:
    """A caption from the training part of the world, or from the part held out of it."""
    while True:
        demand = random_demand(rng, pair=pair)
        if _content_held_out(demand) == from_held_out:
            opening = OPENINGS[rng.integers(len(OPENINGS))]
            return caption(demand, opening, to_the=bool(rng.integers(2)))


def _jitter(rgb: tuple[int, int, int], rng: np.random.Generator) -> tuple[int, int, int]:
    moved = np.clip(np.array(rgb) + rng.integers(-COLOUR_JITTER, COLOUR_JITTER + 1, 3), 0, 255)
    return int(moved[0]), int(moved[1]), int(moved[2])


def _within(rng: np.random.Generator, radius: float) -> float:
    return float(rng.uniform(MARGIN + radius, SIDE - MARGIN - radius))


def place(demand: Demand, rng: np.random.Generator) -> Scene:
    """One of the many scenes that fulfil a demand."""
    background = BACKGROUNDS[demand.background or "white"]
    if demand.relation is None:
        (thing,) = demand.things
        radius = float(rng.uniform(*RADII[thing.size]))
        spots = [(_within(rng, radius), _within(rng, radius), radius)]
    else:
        spots = _place_pair(demand.relation, rng)
    objects = tuple(
        Placed(thing.shape, _jitter(COLOURS[thing.colour], rng), x, y, radius)
        for thing, (x, y, radius) in zip(demand.things, spots, strict=True)
    )
    return Scene(objects, background)


def _place_pair(relation: str, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """(x, y, radius) of the first and the second thing."""
    near, far = (float(r) for r in rng.uniform(*PAIR_RADII, size=2))
    slack = SIDE - 2 * MARGIN - GAP - 2 * (near + far)
    before, between = sorted(rng.uniform(0.0, slack, size=2))
    along_near = MARGIN + before + near
    along_far = along_near + near + far + GAP + (between - before)
    middle = _within(rng, max(near, far) + DRIFT / 2)
    across = middle + rng.uniform(-DRIFT / 2, DRIFT / 2, size=2)
    spots = [(along_near, float(across[0]), near), (along_far, float(across[1]), far)]
    if relation in ("above", "below"):
        spots = [(y, x, radius) for x, y, radius in spots]
    return spots if relation in ("above", "left of") else spots[::-1]


_YY, _XX = np.mgrid[0:SIDE, 0:SIDE] + 0.5


def render(scene: Scene) -> Image:
    """Draw a scene; edges are blended over one pixel by their signed distance."""
    canvas = np.empty((SIDE, SIDE, 3))
    canvas[:] = scene.background
    for obj in scene.objects:
        distance = signed_distance(obj.shape, _XX - obj.x, _YY - obj.y, obj.radius)
        cover = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
        canvas += cover * (np.array(obj.rgb) - canvas)
    return np.rint(canvas).astype(np.uint8)
