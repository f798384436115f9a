"""Regions: found, cut out, put back. What is checked against is arithmetic on arrays, and Pillow's resizing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.scenes import Demand, Thing, place, render
from wavespeed_runner.artifacts import Crops, Images, Regions
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.execution.executor import Execution
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.stages import stage
from wavespeed_runner.stages.detect_shapes import DetectShapesOptions, detect_shapes
from wavespeed_runner.stages.overlay import OverlayOptions, overlay
from wavespeed_runner.stages.regions import CropRegionsOptions, PasteRegionsOptions, crop_regions, paste_regions


def images(*images: Any) -> Images:
    return Images(tensors={"images": np.stack(images)})


def regions(*boxes: tuple[int, int, int, int], of: tuple[int, ...] = ()) -> Regions:
    count = len(boxes)
    tensors = {
        "of": np.array(of or (0,) * count, np.int64),
        "boxes": np.array(boxes, np.int64).reshape(-1, 4),
        "scores": np.ones(count, np.float32),
    }
    return Regions(tensors=tensors, data={"labels": ["x"] * count})


def noise(height: int = 48, width: int = 64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("background", [None, "black", "gray"])
def test_every_object_of_a_scene_is_found_where_it_is(background: str | None) -> None:
    demand = Demand((Thing("red", "circle"), Thing("blue", "square")), "above", background)
    scenes = [place(demand, np.random.default_rng(seed)) for seed in range(20)]
    found = detect_shapes(DetectShapesOptions(), images=images(*map(render, scenes)))
    assert found.tensors["of"].tolist() == [index for index in range(20) for _ in range(2)]
    for index, scene in enumerate(scenes):
        boxes = found.tensors["boxes"][2 * index : 2 * index + 2]
        drawn = [(o.x - o.radius, o.y - o.radius, o.x + o.radius, o.y + o.radius) for o in scene.objects]
        upper_first = boxes[boxes[:, 1].argsort()]
        assert np.abs(upper_first - np.array(drawn)).max() <= 1.5
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        assert areas[0] >= areas[1]


def test_scores_say_how_far_a_colour_is_from_the_ground() -> None:
    image = np.full((64, 64, 3), 255, np.uint8)
    image[10:20, 10:20], image[40:50, 40:50] = 0, (255, 255, 0)
    scores = detect_shapes(DetectShapesOptions(), images=images(image)).tensors["scores"]
    assert scores.tolist() == pytest.approx([1.0, 1 / 3**0.5])


def test_touching_corners_are_one_region_and_speckles_are_none() -> None:
    image = np.full((64, 64, 3), 255, np.uint8)
    image[10:20, 10:20], image[20:30, 20:30], image[50:52, 50:52] = 0, 0, 0
    found = detect_shapes(DetectShapesOptions(), images=images(image))
    assert found.tensors["boxes"].tolist() == [[10, 10, 30, 30]] and found.data["labels"] == ["shape"]
    all_of_them = detect_shapes(DetectShapesOptions(smallest=0.0), images=images(image))
    assert all_of_them.tensors["boxes"].tolist() == [[10, 10, 30, 30], [50, 50, 52, 52]]


def test_an_empty_image_has_no_regions_and_that_can_be_stored() -> None:
    found = detect_shapes(DetectShapesOptions(), images=images(np.full((64, 64, 3), 128, np.uint8)))
    again = Regions.from_bytes(found.to_bytes())
    assert again.tensors["boxes"].shape == (0, 4) and again.tensors["of"].shape == (0,)


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 442.0}, {"smallest": 1.0}, {"smallest": -0.1}])
def test_options_of_the_detector_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="needed"):
        DetectShapesOptions(**options)


WINDOWS = {
    "a box of the right shape": ((10, 10, 26, 26), 0.0, (10, 10, 26, 26)),
    "padding is a part of the longer side": ((20, 16, 36, 24), 0.25, (16, 8, 40, 32)),
    "grown to the shape, about its middle": ((10, 10, 30, 20), 0.0, (10, 5, 30, 25)),
    "moved inwards at the edge": ((0, 0, 16, 16), 0.25, (0, 0, 24, 24)),
    "and at the other": ((48, 32, 64, 48), 0.25, (40, 24, 64, 48)),
    "cut to the image": ((0, 0, 64, 48), 1.0, (0, 0, 64, 48)),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_what_is_cut_out(case: str) -> None:
    box, padding, window = WINDOWS[case]
    image = noise()
    options = CropRegionsOptions(width=32, height=32, padding=padding)
    crops = crop_regions(options, images=images(image), regions=regions(box))
    assert crops.data["windows"] == [window]
    left, top, right, bottom = window
    part = Image.fromarray(image[top:bottom, left:right])
    assert np.array_equal(crops.tensors["images"][0], np.asarray(part.resize((32, 32), Image.Resampling.LANCZOS)))


def test_regions_of_several_images_are_cut_out_of_their_own() -> None:
    several = [noise(seed=seed) for seed in range(3)]
    options = CropRegionsOptions(width=16, height=16, padding=0.0)
    boxes = regions((0, 0, 16, 16), (16, 16, 32, 32), of=(2, 0))
    crops = crop_regions(options, images=images(*several), regions=boxes)
    assert np.array_equal(crops.tensors["images"], [several[2][:16, :16], several[0][16:32, 16:32]])
    white = Images(tensors={"images": np.full_like(crops.tensors["images"], 255)})
    made = paste_regions(PasteRegionsOptions(feather=0.0), images=images(*several), crops=crops, refined=white)
    expected = [own.copy() for own in several]
    expected[2][:16, :16] = expected[0][16:32, 16:32] = 255
    assert np.array_equal(made.tensors["images"], expected)


def test_edges_fade_into_the_image_but_not_on_its_own_edge() -> None:
    black = np.zeros((40, 40, 3), np.uint8)
    crops = Crops(tensors={"images": black[None, :20, :20]}, data={"of": [0], "windows": [(0, 10, 20, 30)]})
    white = images(np.full((20, 20, 3), 255, np.uint8))
    made = paste_regions(PasteRegionsOptions(feather=0.2), images=images(black), crops=crops, refined=white)
    pixels = made.tensors["images"][0, :, :, 0]
    # 0.2 of 20 pixels are 4: the middles of the first four lie at 1/8, 3/8, 5/8, 7/8 of the way.
    ramp = np.rint(255 * np.array([0.125, 0.375, 0.625, 0.875]))
    assert np.array_equal(pixels[10:14, 0], ramp) and np.array_equal(pixels[26:30, 5], ramp[::-1])
    assert np.array_equal(pixels[20, 16:20], ramp[::-1]) and (pixels[14:26, :16] == 255).all()
    outside = pixels.copy()
    outside[10:30, :20] = 0
    assert not outside.any()


def test_no_regions_leave_the_image_as_it_is() -> None:
    image = noise()
    crops = crop_regions(CropRegionsOptions(width=32, height=32), images=images(image), regions=regions())
    assert crops.tensors["images"].shape == (0, 32, 32, 3)
    again = Crops.from_bytes(crops.to_bytes())
    made = paste_regions(PasteRegionsOptions(), images=images(image), crops=again, refined=again)
    assert np.array_equal(made.tensors["images"][0], image)


def test_another_number_of_images_than_was_cut_out_is_an_error() -> None:
    crops = crop_regions(CropRegionsOptions(width=16, height=16), images=images(noise()), regions=regions((0, 0, 9, 9)))
    with pytest.raises(RunError, match="1 regions were cropped, but 2 refined images came back"):
        paste_regions(PasteRegionsOptions(), images=images(noise()), crops=crops, refined=images(noise(), noise()))


def test_an_overlay_mixes_by_the_mask() -> None:
    new, old = noise(seed=1), noise(seed=2)
    mask = np.zeros_like(new)
    mask[:, :20], mask[:, 20:30] = 255, 51
    made = overlay(OverlayOptions(), images=images(new), original=images(old), mask=images(mask)).tensors["images"][0]
    assert np.array_equal(made[:, :20], new[:, :20]) and np.array_equal(made[:, 30:], old[:, 30:])
    assert np.abs(made[:, 20:30] - (0.8 * old[:, 20:30] + 0.2 * new[:, 20:30])).max() <= 0.5
    with pytest.raises(RunError, match="different sizes"):
        overlay(OverlayOptions(), images=images(new), original=images(noise(64, 64)), mask=images(mask))


def test_a_detector_that_finds_nothing_costs_nothing_and_changes_nothing(
    planned: Callable[..., Plan], own_registry: Any
) -> None:
    @stage("finds_nothing", options=OverlayOptions)
    def finds_nothing(options: OverlayOptions, *, images: Images) -> Regions:
        return regions()

    plan: Plan = planned("graph=detail", "graph.stages.detect.stage=finds_nothing", "steps=2")
    execution = Execution(plan.store, rerun=False, on_stage=lambda name: None)
    (values,) = execution.run(plan.graph, plan.samples, plan.keys, [])
    (again,) = execution.run(plan.graph, plan.samples, plan.keys, [])  # from the store
    for pasted in (values["paste"], again["paste"]):
        assert np.array_equal(pasted.tensors["images"], values["decode"].tensors["images"])
    assert "seconds" not in values["denoise_detail"].data and "seconds" not in again["denoise_detail"].data


def test_the_crops_of_something_else_are_refused_by_the_plan(planned: Callable[..., Plan], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"paste.inputs.crops=decode: it gives Images, Crops is needed"):
        planned("graph=detail", "graph.stages.paste.inputs.crops=decode")
