"""The oracle must pass every drawn image and notice every kind of mistake."""

import numpy as np
import pytest

from training.oracle import judge
from training.scenes import BACKGROUNDS, COLOURS, Image, parse, place, random_caption, render


def image(caption: str, seed: int = 0) -> Image:
    return render(place(parse(caption), np.random.default_rng(seed)))


@pytest.mark.parametrize("pair", [False, True])
def test_every_drawn_image_is_right(pair: bool) -> None:
    rng = np.random.default_rng(7)
    wrong = []
    for i in range(400):
        text = random_caption(rng, pair=pair, from_held_out=i % 2 == 0)
        verdict = judge(render(place(parse(text), rng)), text)
        if not verdict.right:
            wrong.append((text, verdict))
    assert not wrong


@pytest.mark.parametrize(
    ("shown", "demanded", "problem"),
    [
        ("a red circle", "a blue circle", "colours"),
        ("a red circle", "a red square", "shape"),
        ("a red square", "a red circle", "shape"),
        ("a red triangle", "a red circle", "shape"),
        ("a red circle", "a red circle above a blue square", "1 objects, not 2"),
        ("a red circle above a blue square", "a red circle", "2 objects, not 1"),
        ("a red circle above a blue square", "a red circle below a blue square", "relation"),
        ("a red circle above a blue square", "a red circle left of a blue square", "relation"),
        ("a red circle left of a blue square", "a blue square left of a red circle", "relation"),
        ("a red circle above a blue square", "a red square above a blue circle", "shape"),
        ("a red circle above a blue square", "a red circle above a green square", "colours"),
        ("a red circle on a gray background", "a red circle on a black background", "background"),
        ("a small red circle", "a large red circle", "size"),
        ("a large red circle", "a small red circle", "size"),
        ("a red circle", "a small red circle", "size"),
        ("a red circle", "a large red circle", "size"),
    ],
)
def test_each_kind_of_mistake_is_noticed(shown: str, demanded: str, problem: str) -> None:
    for seed in range(10):
        verdict = judge(image(shown, seed), demanded)
        assert not verdict.right
        assert problem in "; ".join(verdict.problems)


def test_what_is_not_named_is_not_judged() -> None:
    assert judge(image("a large red circle on a black background"), "a red circle").right


def test_an_object_of_two_colours_is_wrong() -> None:
    drawn = image("a large red square on a white background")
    red = np.linalg.norm(drawn - np.array(COLOURS["red"]), axis=-1) < 60
    red[:, :32] = False
    drawn[red] = COLOURS["blue"]
    assert any("mixed" in p for p in judge(drawn, "a red square").problems)


PLUS = ((slice(28, 36), slice(12, 52)), (slice(12, 52), slice(28, 36)))
OBLONG = ((slice(20, 40), slice(15, 45)),)
STAIRS = ((slice(12, 28), slice(12, 28)), (slice(20, 44), slice(20, 44)))


@pytest.mark.parametrize("areas", [PLUS, OBLONG, STAIRS])
def test_a_shape_that_is_none_of_the_three_is_wrong(areas: tuple[tuple[slice, slice], ...]) -> None:
    drawn = np.full((64, 64, 3), BACKGROUNDS["white"], dtype=np.uint8)
    for area in areas:
        drawn[area] = COLOURS["red"]
    assert judge(drawn, "a red square").found[0].shape == "unclear"


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_image_has_no_objects(level: int) -> None:
    blank = np.full((64, 64, 3), level, dtype=np.uint8)
    assert judge(blank, "a red circle").problems == ("0 objects, not 1",)


def test_noise_is_wrong() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert not judge(noise, "a red circle").right
