"""The metric `scene`: right images have 1, wrong ones 0, larger ones are read as well, other prompts are refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from training.scenes import parse, place, render
from wavespeed_runner.errors import RunError, Unfit
from wavespeed_runner.judges.scene import judge_scene
from wavespeed_runner.planning.plan import Plan

CAPTION = "a red circle above a blue square on a black background"
RIGHT = render(place(parse(CAPTION), np.random.default_rng(3)))


def test_an_image_is_right_or_wrong() -> None:
    assert judge_scene(RIGHT, None, CAPTION) == 1
    assert judge_scene(RIGHT, None, CAPTION.replace("above", "below")) == 0
    assert judge_scene(RIGHT[::-1], None, CAPTION) == 0
    assert judge_scene(np.zeros_like(RIGHT), None, CAPTION) == 0


def test_a_larger_image_is_read_too() -> None:
    assert judge_scene(RIGHT.repeat(3, axis=0).repeat(3, axis=1), None, CAPTION) == 1
    with pytest.raises(RunError, match="an image of 64 x 32"):
        judge_scene(RIGHT[:32], None, CAPTION)


def test_a_prompt_that_is_no_caption_is_refused_in_the_plan(planned: Callable[..., Plan]) -> None:
    scene = ("metrics=scene", "width=64", "height=64")
    planned(*scene)
    with pytest.raises(Unfit, match=r"metrics\.scene: the prompt 'a cat' cannot be judged: .*; ~metrics\.scene"):
        planned(*scene, prompt="a cat")
