"""Reading images to start from: cut as said, whatever they are; what cannot be read is said while planning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.stages.read_image import ReadImageOptions, ReadMaskOptions, read_image, read_mask

Planned = Callable[..., Plan]
RED, BLUE = (255, 0, 0), (0, 0, 255)


def stripes(*colours: tuple[int, ...], width: int = 32, height: int = 32) -> Image.Image:
    """Upright stripes of equal width."""
    pixels = np.repeat(np.array(colours, np.uint8), width // len(colours), axis=0)
    return Image.fromarray(np.broadcast_to(pixels, (height, *pixels.shape)).copy())


def read(image: Image.Image, path: Path, width: int = 32, height: int = 32, **save: Any) -> Any:
    image.save(path, **save)
    made = read_image(ReadImageOptions(path=str(path), width=width, height=height)).tensors["images"]
    assert made.dtype == np.uint8 and made.shape == (1, height, width, 3)
    return made[0]


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_a_image_of_the_right_size_comes_as_it_is(tmp_path: Path, suffix: str) -> None:
    image = stripes(RED, BLUE)
    save = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {"lossless": True}
    made = read(image, tmp_path / f"x.{suffix}", **({} if suffix == "png" else save))
    assert abs(made.astype(int) - np.asarray(image)).max() <= (3 if suffix == "jpg" else 0)


def test_a_wide_image_is_cut_evenly_at_both_sides(tmp_path: Path) -> None:
    made = read(stripes(BLUE, RED, RED, BLUE, width=128), tmp_path / "x.png", width=32, height=16)
    assert (made[:, 4:-4] == RED).all() and np.array_equal(made, made[:, ::-1])  # smooth edges reach 3 pixels in


def test_a_small_image_is_enlarged_to_cover(tmp_path: Path) -> None:
    made = read(stripes(RED, RED, width=8, height=4), tmp_path / "x.png", width=32, height=32)
    assert (made == RED).all()


def test_it_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    made = read(stripes(RED, BLUE), tmp_path / "x.png", exif=exif)
    assert (made[:16] == RED).all() and (made[16:] == BLUE).all()


def test_what_is_transparent_shows_white_in_a_image_and_black_in_a_mask(tmp_path: Path) -> None:
    clear = stripes((255, 0, 0, 255), (255, 255, 255, 0))
    made = read(clear, tmp_path / "x.png")
    assert (made[:, :16] == RED).all() and (made[:, 16:] == 255).all()
    black = stripes((255, 255, 255, 255), (255, 255, 255, 0))
    black.save(tmp_path / "mask.png")
    options = ReadMaskOptions(path=str(tmp_path / "mask.png"), width=32, height=32)
    (mask,) = read_mask(options).tensors["images"]
    assert (mask[:, :16] == 255).all() and (mask[:, 16:] == 0).all()


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((32, 32), 257 * 100, np.uint16))
    assert (read(deep, tmp_path / "x.png") == 100).all()


def test_a_mask_is_grey(tmp_path: Path) -> None:
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
def test_what_is_no_image_is_refused_by_the_plan(planned: Planned, tmp_path: Path, key: str, what: str) -> None:
    raw, words = BROKEN[what]
    path = tmp_path / "x.png"
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match=rf"^{key}={path}: {words}.*; give a PNG, JPEG or WebP file$"):
        planned("graph=inpaint", **{key: str(path)})


def test_a_image_that_is_cut_off_is_refused_by_the_plan(planned: Planned, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-800])
    with pytest.raises(ConfigError, match=f"^image={path}: .*truncated"):
        planned("graph=image_to_image", image=str(path))


@pytest.mark.parametrize(("path", "words"), [("nowhere.png", "No such file"), (".", "a folder")])
def test_what_is_no_file_is_refused_by_the_plan(planned: Planned, path: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"^image={path}: {words}"):
        planned("graph=image_to_image", image=path)


def test_results_follow_what_is_in_the_file_not_its_name(planned: Planned, tmp_path: Path) -> None:
    def fingerprint(name: str, image: Image.Image) -> str:
        image.save(tmp_path / name)
        return planned("graph=image_to_image", image=str(tmp_path / name)).fingerprint

    first = fingerprint("a.png", stripes(RED, BLUE))
    assert fingerprint("b.png", stripes(RED, BLUE)) == first
    assert fingerprint("a.png", stripes(BLUE, RED)) != first
