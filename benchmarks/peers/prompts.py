"""What the settings are judged on, and what a setting may be tuned or calibrated on: lists with nothing in common.

The demo models' world keeps one caption content in eight out of training (`training.scenes.held_out`). Prompts that are
judged come from that part; prompts for calibration from the other. So no content is in both, however it is worded, and
what is judged was seen neither in training nor in calibration. Half of each list shows one object, half two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.scenes import parse, random_caption

JUDGED, CALIBRATION, FRESH, UNSEEN, MOVED, TUNING = 32, 16, 48, 64, 32, 192
FIRST_CALIBRATION_SEED, FIRST_FRESH_SEED, FIRST_UNSEEN_SEED, FIRST_MOVED_SEED = 1000, 2000, 4000, 8000


@dataclass(frozen=True)
class Prompt:
    text: str
    seed: int
    """Of the initial latents; of the tiny FLUX, which has no text encoders, also of the embeddings."""


def judged() -> list[Prompt]:
    """32 prompts, seeds 0 to 31. Nothing may be tuned on them. Singles and pairs take turns: a part is balanced too."""
    return _prompts(JUDGED, from_held_out=True, first_seed=0)


def calibration() -> list[Prompt]:
    """16 prompts, seeds 1000 to 1015, for calibration, schedules and every other choice."""
    return _prompts(CALIBRATION, from_held_out=False, first_seed=FIRST_CALIBRATION_SEED)


def fresh() -> list[Prompt]:
    """48 prompts, seeds 2000 to 2047, of contents that were held out of training and are not judged elsewhere: for
    `benchmarks.few_steps` alone."""
    judged_contents = {parse(prompt.text) for prompt in judged()}
    many = _prompts(4 * FRESH, from_held_out=True, first_seed=0, drawn_for=1)
    others = [prompt.text for prompt in many if parse(prompt.text) not in judged_contents]
    one, two = ([text for text in others if len(parse(text).things) == count] for count in (1, 2))
    turns = [text for pair in zip(one, two, strict=False) for text in pair]
    return [Prompt(text, FIRST_FRESH_SEED + index) for index, text in enumerate(turns[:FRESH])]


def unseen() -> list[Prompt]:
    """64 prompts, seeds 4000 to 4063, whose contents are in neither of the two lists: for `benchmarks.fitted` and
    `benchmarks.peers.equal_time`.

    All show two objects: there are too few contents with one.
    """
    known = {parse(prompt.text) for prompt in (*judged(), *fresh())}
    texts = _other_pairs(UNSEEN, known, drawn_for=2)
    return [Prompt(text, FIRST_UNSEEN_SEED + index) for index, text in enumerate(texts)]


def moved() -> dict[str, list[Prompt]]:
    """`usual`, `short` and `long`: 32 prompts each, seeds 8000 to 8031, of contents that are in none of the three
    lists: for `benchmarks.transfer` alone. Short ones have 7 or 8 words, long ones 14 and more."""
    known = {parse(prompt.text) for prompt in (*judged(), *fresh(), *unseen())}
    texts: dict[str, list[str]] = {}
    for length, words in (("usual", range(99)), ("short", range(9)), ("long", range(14, 99))):
        texts[length] = _other_pairs(MOVED, known, drawn_for=3, words=words)
        known |= {parse(text) for text in texts[length]}
    return {
        length: [Prompt(text, FIRST_MOVED_SEED + index) for index, text in enumerate(several)]
        for length, several in texts.items()
    }


def tuning() -> list[str]:
    """The 192 captions of `prompts=tuning`, whose contents are in none of the first four lists; some are in `moved`."""
    known = {parse(prompt.text) for prompt in (*judged(), *fresh(), *unseen())}
    return _other_pairs(TUNING, known, drawn_for=3)


def _other_pairs(count: int, known: set[Any], *, drawn_for: int, words: range = range(99)) -> list[str]:
    """Captions of two objects held out of training, of so many contents that are not among the known ones, with so many
    words."""
    rng = np.random.default_rng((2026, True, drawn_for))
    found: dict[Any, str] = {}
    while len(found) < count:
        caption = random_caption(rng, pair=True, from_held_out=True)
        if (content := parse(caption)) not in known and len(caption.split()) in words:
            found.setdefault(content, caption)
    return list(found.values())


def _prompts(count: int, *, from_held_out: bool, first_seed: int, drawn_for: int = 0) -> list[Prompt]:
    """Distinct captions, the same at every call. drawn_for: another number draws others."""
    rng = np.random.default_rng((2026, from_held_out, drawn_for) if drawn_for else (2026, from_held_out))
    found: list[str] = []
    while len(found) < count:
        caption = random_caption(rng, pair=len(found) % 2 == 1, from_held_out=from_held_out)
        if caption not in found:
            found.append(caption)
    return [Prompt(caption, first_seed + index) for index, caption in enumerate(found)]
