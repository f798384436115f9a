"""Reading images and masks: scaled, cropped, converted; files that cannot be read are refused while planning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.inputs.limits import MAX_INPUT_PIXELS
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.stages.read_image import ReadImageOptions, ReadMaskOptions, read_image, read_mask

Planned = Callable[..., Plan]
RED, BLUE = (255, 0, 0), (0, 0, 255)


def stripes(*colours: tuple[int, ...], width: int = 32, height: int = 32) -> Image.Image:
    """An image of vertical stripes of equal width."""
    row = np.repeat(np.array(colours, np.uint8), width // len(colours), axis=0)
    return Image.fromarray(np.broadcast_to(row, (height, *row.shape)).copy())


def read(image: Image.Image, path: Path, width: int = 32, height: int = 32, **save: Any) -> Any:
    """Saves an image and reads it with the stage: uint8 (height, width, 3)."""
    image.save(path, **save)
    pixels = read_image(ReadImageOptions(path=str(path), width=width, height=height)).tensors["images"]
    assert pixels.dtype == np.uint8 and pixels.shape == (1, height, width, 3)
    return pixels[0]


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_an_image_of_the_right_size_is_unchanged(tmp_path: Path, suffix: str) -> None:
    image = stripes(RED, BLUE)
    save = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {"lossless": True}
    pixels = read(image, tmp_path / f"x.{suffix}", **({} if suffix == "png" else save))
    assert abs(pixels.astype(int) - np.asarray(image)).max() <= (3 if suffix == "jpg" else 0)


def test_a_wide_image_is_cropped_evenly_on_both_sides(tmp_path: Path) -> None:
    pixels = read(stripes(BLUE, RED, RED, BLUE, width=128), tmp_path / "x.png", width=32, height=16)
    assert (pixels[:, 4:-4] == RED).all() and np.array_equal(
        pixels, pixels[:, ::-1]
    )  # resampled edges are 3 pixels wide


def test_a_small_image_is_enlarged_to_cover(tmp_path: Path) -> None:
    pixels = read(stripes(RED, RED, width=8, height=4), tmp_path / "x.png", width=32, height=32)
    assert (pixels == RED).all()


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    pixels = read(stripes(RED, BLUE), tmp_path / "x.png", exif=exif)
    assert (pixels[:16] == RED).all() and (pixels[16:] == BLUE).all()


def test_transparency_becomes_white_in_an_image_and_black_in_a_mask(tmp_path: Path) -> None:
    half_transparent = stripes((255, 0, 0, 255), (255, 255, 255, 0))
    pixels = read(half_transparent, tmp_path / "x.png")
    assert (pixels[:, :16] == RED).all() and (pixels[:, 16:] == 255).all()
    mask_image = stripes((255, 255, 255, 255), (255, 255, 255, 0))
    mask_image.save(tmp_path / "mask.png")
    options = ReadMaskOptions(path=str(tmp_path / "mask.png"), width=32, height=32)
    (mask,) = read_mask(options).tensors["images"]
    assert (mask[:, :16] == 255).all() and (mask[:, 16:] == 0).all()


def test_16_bits_become_8(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((32, 32), 257 * 100, np.uint16))
    assert (read(image, tmp_path / "x.png") == 100).all()


def test_a_mask_is_read_as_grayscale(tmp_path: Path) -> None:
    stripes(RED, (255, 255, 255)).save(tmp_path / "mask.png")
    options = ReadMaskOptions(path=str(tmp_path / "mask.png"), width=32, height=32)
    (mask,) = read_mask(options).tensors["images"]
    assert (mask[:, 16:] == 255).all() and (mask[:, :16] == 76).all()  # ITU-R 601: 0.299 * 255


BROKEN: dict[str, tuple[bytes, str]] = {
    "a text": (b"hello", "not an image that can be read"),
    "nothing": (b"", "not an image that can be read"),
    "another format": (
        b"GIF89a\x01\x00\x01\x00\x00\xff\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x00;",
        "not an image",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("key", ["image", "mask"])
def test_a_file_that_is_no_image_is_refused_by_the_plan(planned: Planned, tmp_path: Path, key: str, what: str) -> None:
    raw, message = BROKEN[what]
    path = tmp_path / "x.png"
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match=rf"^{key}={path}: {message}.*; give a PNG, JPEG or WebP file$"):
        planned("graph=inpaint", **{key: str(path)})


def test_an_image_of_too_many_pixels_is_refused_by_the_plan(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stripes(RED, BLUE).save(tmp_path / "x.png")
    monkeypatch.setattr("wavespeed_runner.stages.read_image.MAX_INPUT_PIXELS", 32 * 32 - 1)
    with pytest.raises(
        ConfigError, match=r"^image=.*x\.png: 32 x 32 pixels, and at most 1023 are .*; scale it down first"
    ):
        planned("graph=image_to_image", f"image={tmp_path / 'x.png'}")
    assert MAX_INPUT_PIXELS == 8192**2


def test_a_truncated_image_is_refused_by_the_plan(planned: Planned, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-800])
    with pytest.raises(ConfigError, match=f"^image={path}: .*truncated"):
        planned("graph=image_to_image", image=str(path))


@pytest.mark.parametrize(("path", "message"), [("nowhere.png", "No such file"), (".", "a folder")])
def test_a_missing_file_or_a_folder_is_refused_by_the_plan(planned: Planned, path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^image={path}: {message}"):
        planned("graph=image_to_image", image=path)


def test_the_fingerprint_depends_on_the_content_of_the_file_not_its_name(planned: Planned, tmp_path: Path) -> None:
    def fingerprint(name: str, image: Image.Image) -> str:
        image.save(tmp_path / name)
        return planned("graph=image_to_image", image=str(tmp_path / name)).fingerprint

    first = fingerprint("a.png", stripes(RED, BLUE))
    assert fingerprint("b.png", stripes(RED, BLUE)) == first
    assert fingerprint("a.png", stripes(BLUE, RED)) != first
