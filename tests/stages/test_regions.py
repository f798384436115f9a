"""Detecting, cropping and pasting regions, checked against array arithmetic and Pillow's resizing."""

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
from wavespeed_runner.execution.executor import Executor
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.stages import stage
from wavespeed_runner.stages.detect_shapes import DetectShapesOptions, detect_shapes
from wavespeed_runner.stages.overlay import OverlayOptions, overlay
from wavespeed_runner.stages.regions import CropRegionsOptions, PasteRegionsOptions, crop_regions, paste_regions


def images(*arrays: Any) -> Images:
    return Images(tensors={"images": np.stack(arrays)})


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
def test_the_detector_finds_every_object_of_a_scene(background: str | None) -> None:
    request = Demand((Thing("red", "circle"), Thing("blue", "square")), "above", background)
    scenes = [place(request, np.random.default_rng(seed)) for seed in range(20)]
    detected = detect_shapes(DetectShapesOptions(), images=images(*map(render, scenes)))
    assert detected.tensors["of"].tolist() == [index for index in range(20) for _ in range(2)]
    for index, scene in enumerate(scenes):
        boxes = detected.tensors["boxes"][2 * index : 2 * index + 2]
        expected = [(o.x - o.radius, o.y - o.radius, o.x + o.radius, o.y + o.radius) for o in scene.objects]
        upper_first = boxes[boxes[:, 1].argsort()]
        assert np.abs(upper_first - np.array(expected)).max() <= 1.5
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        assert areas[0] >= areas[1]


def test_scores_are_distances_from_the_background_colour() -> None:
    image = np.full((64, 64, 3), 255, np.uint8)
    image[10:20, 10:20], image[40:50, 40:50] = 0, (255, 255, 0)
    scores = detect_shapes(DetectShapesOptions(), images=images(image)).tensors["scores"]
    assert scores.tolist() == pytest.approx([1.0, 1 / 3**0.5])


def test_touching_corners_are_one_region_and_specks_are_none() -> None:
    image = np.full((64, 64, 3), 255, np.uint8)
    image[10:20, 10:20], image[20:30, 20:30], image[50:52, 50:52] = 0, 0, 0
    detected = detect_shapes(DetectShapesOptions(), images=images(image))
    assert detected.tensors["boxes"].tolist() == [[10, 10, 30, 30]] and detected.data["labels"] == ["shape"]
    with_specks = detect_shapes(DetectShapesOptions(smallest=0.0), images=images(image))
    assert with_specks.tensors["boxes"].tolist() == [[10, 10, 30, 30], [50, 50, 52, 52]]


def test_an_empty_image_has_no_regions_and_no_regions_can_be_stored() -> None:
    detected = detect_shapes(DetectShapesOptions(), images=images(np.full((64, 64, 3), 128, np.uint8)))
    stored = Regions.from_bytes(detected.to_bytes())
    assert stored.tensors["boxes"].shape == (0, 4) and stored.tensors["of"].shape == (0,)


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 442.0}, {"smallest": 1.0}, {"smallest": -0.1}])
def test_the_detector_refuses_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="needed"):
        DetectShapesOptions(**options)


WINDOWS = {
    "a box of the right aspect ratio": ((10, 10, 26, 26), 0.0, (10, 10, 26, 26)),
    "padding is a fraction of the longer side": ((20, 16, 36, 24), 0.25, (16, 8, 40, 32)),
    "grown to the aspect ratio, around its centre": ((10, 10, 30, 20), 0.0, (10, 5, 30, 25)),
    "moved inwards at the edge": ((0, 0, 16, 16), 0.25, (0, 0, 24, 24)),
    "moved inwards at the other edge": ((48, 32, 64, 48), 0.25, (40, 24, 64, 48)),
    "cut to the image": ((0, 0, 64, 48), 1.0, (0, 0, 64, 48)),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_the_cropped_window(case: str) -> None:
    box, padding, window = WINDOWS[case]
    image = noise()
    options = CropRegionsOptions(width=32, height=32, padding=padding)
    crops = crop_regions(options, images=images(image), regions=regions(box))
    assert crops.data["windows"] == [window]
    left, top, right, bottom = window
    expected = Image.fromarray(image[top:bottom, left:right])
    assert np.array_equal(crops.tensors["images"][0], np.asarray(expected.resize((32, 32), Image.Resampling.LANCZOS)))


def test_regions_are_cropped_from_their_own_images() -> None:
    originals = [noise(seed=seed) for seed in range(3)]
    options = CropRegionsOptions(width=16, height=16, padding=0.0)
    boxes = regions((0, 0, 16, 16), (16, 16, 32, 32), of=(2, 0))
    crops = crop_regions(options, images=images(*originals), regions=boxes)
    assert np.array_equal(crops.tensors["images"], [originals[2][:16, :16], originals[0][16:32, 16:32]])
    white = Images(tensors={"images": np.full_like(crops.tensors["images"], 255)})
    pasted = paste_regions(PasteRegionsOptions(feather=0.0), images=images(*originals), crops=crops, refined=white)
    expected = [original.copy() for original in originals]
    expected[2][:16, :16] = expected[0][16:32, 16:32] = 255
    assert np.array_equal(pasted.tensors["images"], expected)


def test_edges_fade_into_the_image_except_on_its_edge() -> None:
    black = np.zeros((40, 40, 3), np.uint8)
    crops = Crops(tensors={"images": black[None, :20, :20]}, data={"of": [0], "windows": [(0, 10, 20, 30)]})
    white = images(np.full((20, 20, 3), 255, np.uint8))
    pasted = paste_regions(PasteRegionsOptions(feather=0.2), images=images(black), crops=crops, refined=white)
    pixels = pasted.tensors["images"][0, :, :, 0]
    # 0.2 of 20 pixels are 4; the centres of these four lie at 1/8, 3/8, 5/8 and 7/8 of the ramp.
    ramp = np.rint(255 * np.array([0.125, 0.375, 0.625, 0.875]))
    assert np.array_equal(pixels[10:14, 0], ramp) and np.array_equal(pixels[26:30, 5], ramp[::-1])
    assert np.array_equal(pixels[20, 16:20], ramp[::-1]) and (pixels[14:26, :16] == 255).all()
    outside = pixels.copy()
    outside[10:30, :20] = 0
    assert not outside.any()


def test_no_regions_leave_the_image_unchanged() -> None:
    image = noise()
    crops = crop_regions(CropRegionsOptions(width=32, height=32), images=images(image), regions=regions())
    assert crops.tensors["images"].shape == (0, 32, 32, 3)
    stored = Crops.from_bytes(crops.to_bytes())
    pasted = paste_regions(PasteRegionsOptions(), images=images(image), crops=stored, refined=stored)
    assert np.array_equal(pasted.tensors["images"][0], image)


def test_not_one_refined_image_per_crop_is_an_error() -> None:
    crops = crop_regions(CropRegionsOptions(width=16, height=16), images=images(noise()), regions=regions((0, 0, 9, 9)))
    with pytest.raises(RunError, match="1 regions were cropped, but 2 refined images came back"):
        paste_regions(PasteRegionsOptions(), images=images(noise()), crops=crops, refined=images(noise(), noise()))


def test_an_overlay_blends_by_the_mask() -> None:
    new, old = noise(seed=1), noise(seed=2)
    mask = np.zeros_like(new)
    mask[:, :20], mask[:, 20:30] = 255, 51
    pasted = overlay(OverlayOptions(), images=images(new), original=images(old), mask=images(mask)).tensors["images"][0]
    assert np.array_equal(pasted[:, :20], new[:, :20]) and np.array_equal(pasted[:, 30:], old[:, 30:])
    assert np.abs(pasted[:, 20:30] - (0.8 * old[:, 20:30] + 0.2 * new[:, 20:30])).max() <= 0.5
    with pytest.raises(RunError, match="different sizes"):
        overlay(OverlayOptions(), images=images(new), original=images(noise(64, 64)), mask=images(mask))


def test_without_regions_nothing_is_denoised_and_nothing_changes(
    planned: Callable[..., Plan], own_registry: Any
) -> None:
    @stage("finds_nothing", options=OverlayOptions)
    def finds_nothing(options: OverlayOptions, *, images: Images) -> Regions:
        return regions()

    plan: Plan = planned("graph=detail", "graph.stages.detect.stage=finds_nothing", "steps=2")
    executor = Executor(plan.store, rerun=False, on_stage=lambda name: None)
    (values,) = executor.run(plan.graph, plan.samples, plan.keys, [])
    (stored,) = executor.run(plan.graph, plan.samples, plan.keys, [])
    for result in (values["paste"], stored["paste"]):
        assert np.array_equal(result.tensors["images"], values["decode"].tensors["images"])
    assert "seconds" not in values["denoise_detail"].data and "seconds" not in stored["denoise_detail"].data


def test_images_wired_in_place_of_crops_are_refused_by_the_plan(planned: Callable[..., Plan], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"paste.inputs.crops=decode: it gives Images, Crops is needed"):
        planned("graph=detail", "graph.stages.paste.inputs.crops=decode")
