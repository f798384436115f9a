"""The sizes that a run with an image is offered, and how it is said that one was scaled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wavespeed_runner.inputs.limits import MAX_SIDE
from wavespeed_runner.planning.image_shapes import MOST, find_least_cut, measure_cut
from wavespeed_runner.planning.plan import Plan

Planned = Callable[..., Plan]


def paint(path: Path, width: int, height: int) -> str:
    Image.new("RGB", (width, height), "red").save(path)
    return str(path)


@pytest.mark.parametrize(
    ("image", "given", "fix"),
    [
        ((300, 400), ["width=64"], "width=96 height=128"),  # as 80 x 112 would not
        ((300, 400), ["width=96", "height=96"], "width=96 height=128"),
        ((256, 192), ["width=64", "height=64"], "width=64 height=48"),
        ((1013, 997), ["width=64", "height=80"], "width=80 height=80"),  # none cuts nothing
    ],
)
def test_the_size_that_is_offered_cuts_least(
    planned: Planned, tmp_path: Path, image: tuple[int, int], given: list[str], fix: str
) -> None:
    path = paint(tmp_path / "x.png", *image)
    sides = [*given, *([] if len(given) == 2 else ["height=null"])]
    plan = planned("graph=image_to_image", *sides, image=path)
    (finding,) = [finding for finding in plan.verdicts if finding.rule == "image-cut"]
    assert (finding.fix or "").startswith(f"{fix}, or neither")
    again = planned("graph=image_to_image", *fix.split(), image=path)
    assert ("image-cut" in [each.rule for each in again.verdicts]) == (image == (1013, 997))


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from([8, 16, 32]),
)
def test_no_size_within_the_bound_cuts_less(image: tuple[int, int], sides: tuple[int, int], multiple: int) -> None:
    wanted = sides[0] * multiple, sides[1] * multiple
    width, height = find_least_cut(image, wanted, multiple)
    assert width % multiple == height % multiple == 0 and width * height <= MOST * wanted[0] * wanted[1]
    most = MOST * sides[0] * sides[1]
    grid = [(w * multiple, h * multiple) for w in range(1, most + 1) for h in range(1, most // w + 1)]
    grid = [one for one in grid if max(one) <= MAX_SIDE]
    least = measure_cut(image, (width, height))[1]
    assert least <= min(measure_cut(image, one)[1] for one in grid) + 1e-9


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ((1000, 20), "scaled down to the 16 pixels that its short side has at least: 12800 pixels, more than the 4096"),
        ((20, 6), "scaled up to the 16 pixels that its short side has at least, in multiples of 16"),
        ((400, 300), "scaled down to at most 4096 pixels, in multiples of 16"),
        ((32, 48), "the size of the image, 32 x 48, in multiples of 16"),
    ],
)
def test_how_an_image_was_scaled_is_as_it_is(
    planned: Planned, tmp_path: Path, image: tuple[int, int], says: str
) -> None:
    path = paint(tmp_path / "x.png", *image)
    plan = planned(
        "model=demo", "model.init=pretrained", "graph=image_to_image", "width=null", "height=null", image=path
    )
    assert all(says in change.why for change in plan.changes if change.key in ("width", "height")) and plan.changes


def test_a_mask_is_called_one(planned: Planned, tmp_path: Path) -> None:
    """Where no other size helps: at the size of a stage of its own."""
    image, mask = paint(tmp_path / "x.png", 64, 96), paint(tmp_path / "m.png", 64, 96)
    plan = planned(
        "graph=inpaint", "+graph.stages.image.options={width:64,height:64}",
        "+graph.stages.mask.options={width:64,height:64}", image=image, mask=mask,
    )  # fmt: skip
    fixes = {finding.message.partition("=")[0]: finding.fix for finding in plan.verdicts if finding.rule == "image-cut"}
    assert fixes == {"image": "an image of the shape of 64 x 64", "mask": "image and mask of the shape of 64 x 64"}
