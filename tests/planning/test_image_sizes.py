"""A run that starts from an image follows its size, says what is cut, and refuses a mask of another shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wavespeed_runner.cli.plan_text import plan_text
from wavespeed_runner.errors import ConfigError, Unfit
from wavespeed_runner.planning.image_shapes import choose_size
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.records.new import new_record
from wavespeed_runner.stages.read_image import ReadImageOptions, ReadMaskOptions, read_image, read_mask

Planned = Callable[..., Plan]
OPEN = ("width=null", "height=null")
FULL_SIZE = ("model=sd15", "model.init=random", *OPEN)
"""512 x 512 by default, in multiples of 8. Nothing is loaded to plan it."""


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., str]:
    """`photo(width, height)`: the path of an image of this size."""

    def make(width: int, height: int, name: str = "photo.png") -> str:
        Image.new("RGB", (width, height), "red").save(tmp_path / name)
        return str(tmp_path / name)

    return make


def size(plan: Plan) -> tuple[Any, Any]:
    return plan.config.width, plan.config.height


@pytest.mark.parametrize("graph", ["image_to_image", "inpaint"])
def test_an_image_that_fits_has_the_size_that_diffusers_would_give_it(
    planned: Planned, photo: Callable[..., str], graph: str
) -> None:
    from diffusers.image_processor import VaeImageProcessor

    path = photo(515, 387)
    masked = {"mask": photo(515, 387, "mask.png")} if graph == "inpaint" else {}
    plan = planned(*FULL_SIZE, f"graph={graph}", image=path, **masked)
    height, width = VaeImageProcessor(vae_scale_factor=8).get_default_height_width(Image.open(path))
    assert size(plan) == (width, height) == (512, 384)
    why = "the size of the image, 515 x 387, in multiples of 8"
    assert [(change.key, change.value, change.why) for change in plan.changes] == [
        ("width", 512, why),
        ("height", 384, why),
    ]
    assert f"width=512: {why}" in plan_text(plan)
    assert new_record(plan, []).plan.changes[0].why == why


def test_a_large_photo_is_scaled_down_to_the_pixels_of_the_model(planned: Planned, photo: Callable[..., str]) -> None:
    plan = planned(*FULL_SIZE, "graph=image_to_image", image=photo(4000, 3000))
    width, height = size(plan)
    assert 0.75 * 512 * 512 <= width * height <= 512 * 512
    assert width / height == 4 / 3 and width % 8 == height % 8 == 0
    assert "scaled down to at most 262144 pixels" in plan.changes[0].why


def test_a_tiny_model_keeps_to_its_few_pixels(planned: Planned, photo: Callable[..., str]) -> None:
    plan = planned("model=sd15", *OPEN, "graph=image_to_image", image=photo(400, 100))
    assert size(plan) == (128, 32), "64 * 64 pixels"


def test_a_photo_as_narrow_as_a_line_has_a_size_still(planned: Planned, photo: Callable[..., str]) -> None:
    assert size(planned(*FULL_SIZE, "graph=image_to_image", image=photo(3, 600))) == (8, 1600)


@pytest.mark.parametrize(
    ("image", "expected"), [((100, 50), (80, 40)), ((50, 100), (40, 80)), ((4000, 30), (1072, 8)), ((64, 64), (64, 64))]
)
def test_nothing_is_cut_where_a_size_of_the_models_multiple_has_the_shape(
    planned: Planned, photo: Callable[..., str], image: tuple[int, int], expected: tuple[int, int]
) -> None:
    plan = planned("model=sd15", *OPEN, "graph=image_to_image", image=photo(*image))
    assert size(plan) == expected
    assert "image-cut" not in [verdict.rule for verdict in plan.verdicts]


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), st.sampled_from([8, 16, 32]))
def test_no_size_cuts_less_with_as_many_pixels_nor_does_rounding_down(image: tuple[int, int], multiple: int) -> None:
    pixels = 64 * multiple**2
    width, height = choose_size(image, pixels, multiple)
    assert width % multiple == height % multiple == 0 and width * height <= 4 * pixels
    area = min(image[0] * image[1], pixels)
    grid = [(w * multiple, h * multiple) for w in range(1, 65) for h in range(1, 65)]
    others = [(w, h) for w, h in grid if width * height <= w * h <= area]
    assert all(cut(image, (width, height)) <= cut(image, other) + 1e-9 for other in others)
    scale = (area / (image[0] * image[1])) ** 0.5
    rounded = [int(side * scale + 1e-9) // multiple * multiple for side in image]
    if all(rounded):
        assert cut(image, (width, height)) <= cut(image, (rounded[0], rounded[1])) + 1e-9
    if image[0] == image[1]:
        assert width == height


@pytest.mark.parametrize("side", [8, 17, 31, 37, 63, 64, 65, 1000])
def test_squares_stay_squares(side: int) -> None:
    width, height = choose_size((side, side), 4096, 16)
    assert width == height == max(min(side, 64) // 16 * 16, 16)


@pytest.mark.parametrize(("image", "expected"), [((200, 90), (80, 32)), ((394, 184), (80, 32)), ((90, 200), (32, 80))])
def test_fewer_pixels_are_taken_where_much_would_be_cut(image: tuple[int, int], expected: tuple[int, int]) -> None:
    assert choose_size(image, 4096, 16) == expected


def cut(image: tuple[int, int], size: tuple[int, int]) -> float:
    """The share of an image that lies outside of the largest rectangle of this shape in it, in whole pixels."""
    scale = max(size[0] / image[0], size[1] / image[1])
    lost = (image[0] - size[0] / scale, image[1] - size[1] / scale)
    return max((one / side if one >= 1 else 0.0) for one, side in zip(lost, image, strict=True))


@pytest.mark.parametrize(("given", "expected"), [("width", (256, 128)), ("height", (512, 256))])
def test_the_side_that_is_not_given_follows_the_shape(
    planned: Planned, photo: Callable[..., str], given: str, expected: tuple[int, int]
) -> None:
    value = 256
    plan = planned(*FULL_SIZE, f"{given}={value}", "graph=image_to_image", image=photo(1000, 500))
    assert size(plan) == expected
    assert [change.key for change in plan.changes] == [{"width": "height", "height": "width"}[given]]


def test_the_scene_that_ships_with_the_package_takes_any_size(planned: Planned) -> None:
    assert size(planned(*FULL_SIZE, "graph=image_to_image")) == (512, 512)


def test_a_graph_that_begins_with_noise_has_the_models_size(planned: Planned) -> None:
    assert size(planned(*FULL_SIZE, "graph=hires_fix", "steps=20")) == (512, 512)


def test_an_image_that_cannot_be_read_is_still_named(planned: Planned) -> None:
    with pytest.raises(ConfigError, match=r"^image=nowhere\.png: No such file"):
        planned(*FULL_SIZE, "graph=image_to_image", image="nowhere.png")


def ramp(path: Path, width: int, height: int) -> str:
    """An image whose columns are numbered by their brightness, and whose rows are not."""
    columns = np.linspace(0, 255, width).round().astype(np.uint8)
    Image.fromarray(np.broadcast_to(columns[None, :, None], (height, width, 3)).copy()).save(path)
    return str(path)


def test_a_given_size_says_what_it_cuts(planned: Planned, tmp_path: Path) -> None:
    path = ramp(tmp_path / "ramp.png", 256, 192)
    plan = planned("graph=image_to_image", "width=64", "height=64", image=path)
    (finding,) = [finding for finding in plan.verdicts if finding.rule == "image-cut"]
    assert finding.verdict == "unverified"
    assert "256 x 192, scaled to cover 64 x 64; 64 of its 256 columns (25.0%) are cut away" in finding.message
    assert finding.fix == "width=64 height=48, or neither: the run then follows the image"
    assert finding.message in plan_text(plan)
    assert "image-cut" in [verdict.rule for verdict in new_record(plan, []).plan.verdicts]
    # What is read begins half of the lost quarter later: column 32 of 256, and ends as early.
    pixels = read_image(ReadImageOptions(path=path, width=64, height=64)).tensors["images"][0, 32, :, 0].astype(int)
    assert pixels[0] == pytest.approx(32, abs=3) and pixels[-1] == pytest.approx(255 - 32, abs=3)


def test_rows_that_are_cut_are_said_too_and_an_even_fit_is_not(planned: Planned, photo: Callable[..., str]) -> None:
    path = photo(100, 300)
    plan = planned("graph=image_to_image", "width=64", "height=64", image=path)
    assert any("200 of its 300 rows (66.7%) are cut away, half each at top" in v.message for v in plan.verdicts)
    even = planned("graph=image_to_image", "width=32", "height=96", image=path)
    assert "image-cut" not in [verdict.rule for verdict in even.verdicts]


def test_the_way_out_offers_nothing_that_was_done_already(planned: Planned, photo: Callable[..., str]) -> None:
    plan = planned("model=sd15", *OPEN, "graph=image_to_image", image=photo(3, 4000))
    (finding,) = [finding for finding in plan.verdicts if finding.rule == "image-cut"]
    assert finding.fix == "width=8 height=10672", "neither was given, so there is nothing to leave out"


@pytest.mark.parametrize(("name", "count"), [("a.webp", 3), ("a.png", 3), ("still.webp", 1), ("still.jpg", 1)])
def test_other_images_of_an_animation_are_not_left_out_in_silence(
    planned: Planned, tmp_path: Path, name: str, count: int
) -> None:
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "green", "blue")[:count]]
    path = tmp_path / name
    frames[0].save(path, **({"save_all": True, "append_images": frames[1:]} if count > 1 else {}))
    plan = planned("graph=image_to_image", image=str(path))
    said = [verdict.message for verdict in plan.verdicts if verdict.rule == "image-frames"]
    assert said == ([f"image={path}: it holds {count} images, and the first is used alone"] if count > 1 else [])
    assert all(message in plan_text(plan) for message in said)
    pixels = read_image(ReadImageOptions(path=str(path), width=64, height=64)).tensors["images"]
    assert pixels[0, 0, 0, 0] > 200, "red, the first"


def test_a_first_frame_that_is_cut_is_said(planned: Planned, photo: Callable[..., str]) -> None:
    plan = planned(
        "model=ltx_video", "graph=image_to_video", "width=64", "height=32", "num_frames=9", image=photo(64, 64)
    )
    (finding,) = [finding for finding in plan.verdicts if finding.rule == "image-cut"]
    assert "32 of its 64 rows" in finding.message
    assert finding.fix == "width=64 height=64", "a video does not follow its first frame"


@pytest.mark.parametrize("graph", ["inpaint", "inpaint_overlay"])
@pytest.mark.parametrize("sizes", [((512, 512), (512, 384)), ((512, 384), (384, 512)), ((600, 400), (600, 403))])
def test_a_mask_of_another_shape_is_refused(
    planned: Planned, photo: Callable[..., str], graph: str, sizes: tuple[tuple[int, int], ...]
) -> None:
    image, mask = photo(*sizes[0]), photo(*sizes[1], "mask.png")
    with pytest.raises(Unfit, match=r"^mask=.*mask\.png: .*another shape than image=.*paint it on the image"):
        planned(f"graph={graph}", image=image, mask=mask)


@pytest.mark.parametrize("mask_size", [(600, 400), (300, 200), (150, 100), (1000, 667), (100, 67)])
def test_a_mask_at_another_scale_covers_the_place_that_it_was_painted_on(
    planned: Planned, tmp_path: Path, mask_size: tuple[int, int]
) -> None:
    """A square at the right edge of the photo, red there and white in the mask, at a size that cuts both edges."""
    for name, (width, height), colour in (("photo", (600, 400), (255, 0, 0)), ("mask", mask_size, (255, 255, 255))):
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[height // 4 : height // 2, width * 2 // 3 :] = colour
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    paths = {name: str(tmp_path / f"{name}.png") for name in ("photo", "mask")}
    planned("graph=inpaint", "width=64", "height=64", image=paths["photo"], mask=paths["mask"])
    image = read_image(ReadImageOptions(path=paths["photo"], width=64, height=64)).tensors["images"][0, :, :, 0]
    mask = read_mask(ReadMaskOptions(path=paths["mask"], width=64, height=64)).tensors["images"][0, :, :, 0]
    apart = (image > 127) != (mask > 127)
    assert (image > 127).any() and apart.sum() <= 64, "at most the pixels of an edge"


def test_one_size_is_offered_for_image_and_mask(planned: Planned, photo: Callable[..., str]) -> None:
    """The mask's own would be another: it may be painted at any scale, with a pixel of rounding."""
    image, mask = photo(96, 48), photo(192, 97, "mask.png")
    plan = planned("graph=inpaint", "width=48", "height=48", image=image, mask=mask)
    fixes = {finding.message.partition("=")[0]: finding.fix for finding in plan.verdicts if finding.rule == "image-cut"}
    assert fixes["mask"] == fixes["image"] == "width=64 height=32, or neither: the run then follows the image"


@pytest.mark.parametrize(("alpha", "says"), [(255, []), (254, ["white", "black"]), (None, [])])
def test_transparent_parts_are_said_to_be_filled(
    planned: Planned, tmp_path: Path, alpha: int | None, says: list[str]
) -> None:
    picture = Image.new("RGB", (64, 64), "white")
    if alpha is not None:
        picture.putalpha(255)
        picture.putpixel((5, 5), (255, 255, 255, alpha))
    path = tmp_path / "x.png"
    picture.save(path)
    plan = planned("graph=inpaint", image=str(path), mask=str(path))
    found = {finding.message: finding.fix for finding in plan.verdicts if finding.rule == "image-transparent"}
    keys = ("image", "mask")[: len(says)]
    assert [*found] == [
        f"{key}={path}: its transparent parts are taken as {c}" for key, c in zip(keys, says, strict=True)
    ]
    assert not found or "graph=inpaint mask=FILE" in found[f"image={path}: its transparent parts are taken as white"]


@pytest.mark.parametrize(("level", "says"), [(0, True), (127, True), (128, False), (255, False)])
def test_a_mask_that_repaints_nothing_is_warned_of(planned: Planned, tmp_path: Path, level: int, says: bool) -> None:
    """diffusers rounds masks: half of white and more is white."""
    path = tmp_path / "mask.png"
    picture = Image.new("L", (64, 64))
    picture.putpixel((30, 30), level)
    picture.save(path)
    plan = planned("graph=inpaint", mask=str(path))
    assert ("mask-dark" in [finding.rule for finding in plan.verdicts]) == says
