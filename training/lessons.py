"""What the text encoders are taught to say about a caption, and how well they say it.

The questions are classifications whose answers follow from the caption alone: at each token of
T5 about the object that the token belongs to, at CLIP's pooled vector about the whole layout.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.scenes import BACKGROUNDS, COLOURS, SHAPES, Demand

IGNORE = -100  # cross_entropy's index for "not asked here"

SIZES = (None, "small", "large")
PLACES = ("alone", "top", "bottom", "left", "right")
FIRST_PLACE = {"above": "top", "below": "bottom", "left of": "left", "right of": "right"}
SECOND_PLACE = {"above": "bottom", "below": "top", "left of": "right", "right of": "left"}
AXES = (None, "vertical", "horizontal")

# What the heads are asked, with the number of answers ("none" included where it can be).
TOKEN_HEADS = {
    "colour": len(COLOURS),
    "shape": len(SHAPES),
    "size": len(SIZES),
    "place": len(PLACES),
    "background": len(BACKGROUNDS),
    "count": 2,
}
POOLED_HEADS = {
    "axis": len(AXES),
    "size": len(SIZES),
    "background": len(BACKGROUNDS),
    "colour1": len(COLOURS),
    "shape1": len(SHAPES),
    "colour2": len(COLOURS) + 1,
    "shape2": len(SHAPES) + 1,
}


def _things_in_space(demand: Demand) -> list[int]:
    """Indices of the things, the upper or left one first."""
    order = list(range(len(demand.things)))
    return order[::-1] if demand.relation in ("below", "right of") else order


def pooled_answers(demand: Demand) -> list[int]:
    """The right answer to each of POOLED_HEADS; things are ordered by where they are."""
    things = [demand.things[i] for i in _things_in_space(demand)]
    axis = {"above": 1, "below": 1, "left of": 2, "right of": 2}.get(demand.relation or "", 0)
    colours, shapes = list(COLOURS), list(SHAPES)
    second = [len(colours), len(shapes)]
    if len(things) == 2:
        second = [colours.index(things[1].colour), shapes.index(things[1].shape)]
    background = list(BACKGROUNDS).index(demand.background or "white")
    first = [colours.index(things[0].colour), shapes.index(things[0].shape)]
    return [axis, SIZES.index(things[0].size), background, *first, *second]


def token_answers(text: str, demand: Demand, length: int) -> list[list[int]]:
    """The right answer to each of TOKEN_HEADS at each of `length` positions, shape (heads, length).

    Background and count are asked at every token, the rest only inside noun phrases.
    """
    answers = np.full((len(TOKEN_HEADS), length), IGNORE)
    words = [*text.split(), "</s>"]
    answers[4, : len(words)] = list(BACKGROUNDS).index(demand.background or "white")
    answers[5, : len(words)] = len(demand.things) - 1
    ends = [i for i, word in enumerate(words) if word in SHAPES]
    for index, (thing, end) in enumerate(zip(demand.things, ends, strict=True)):
        place = (FIRST_PLACE, SECOND_PLACE)[index].get(demand.relation or "", "alone")
        start = end - (3 if thing.size else 2)
        asked = [list(COLOURS).index(thing.colour), SHAPES.index(thing.shape)]
        asked += [SIZES.index(thing.size), PLACES.index(place)]
        answers[:4, start : end + 1] = np.array(asked)[:, None]
    return answers.tolist()


def score(logits: Sequence[Tensor], answers: Tensor) -> tuple[Tensor, float]:
    """(summed cross-entropy, share of right answers); answers is (N, heads, ...)."""
    loss = torch.zeros(())
    right = asked = 0
    for head, guess in enumerate(logits):
        wanted = answers[:, head].reshape(-1)
        guess = guess.reshape(wanted.numel(), -1)
        loss = loss + F.cross_entropy(guess, wanted, ignore_index=IGNORE)
        known = wanted != IGNORE
        right += int((guess.argmax(-1)[known] == wanted[known]).sum())
        asked += int(known.sum())
    return loss, right / asked
