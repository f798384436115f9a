"""Images as files: what is read is what was written, and file names are safe."""

from __future__ import annotations

import os
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from wavespeed_runner.errors import RunError
from wavespeed_runner.media import images as images

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
"""Any Unicode except lone surrogates, which no file can hold."""


def noise(height: int = 9, width: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metadata=st.dictionaries(st.from_regex(r"[a-z][a-z_.-]{0,30}", fullmatch=True), TEXT))
def test_pixels_and_metadata_are_read_as_written(tmp_path: Path, metadata: dict[str, str]) -> None:
    images.write_png(tmp_path / "a.png", noise(), metadata=metadata)
    pixels, texts = images.read_png(tmp_path / "a.png")
    assert texts == metadata
    assert pixels.dtype == np.uint8 and np.array_equal(pixels, noise())


def test_every_metadata_item_is_an_uncompressed_itxt_chunk(tmp_path: Path) -> None:
    images.write_png(tmp_path / "a.png", noise(), metadata={"config": "plain ascii", "prompt": "猫"})
    raw = (tmp_path / "a.png").read_bytes()
    assert raw.count(b"iTXt") == 2 and b"tEXt" not in raw
    assert b"iTXtconfig\0\0\0\0\0plain ascii" in raw
    assert b"iTXtprompt\0\0\0\0\0" + "猫".encode() in raw


def test_the_same_image_gives_the_same_bytes_and_the_hash_of_the_file(tmp_path: Path) -> None:
    from hashlib import sha256

    first = images.write_png(tmp_path / "a.png", noise(), metadata={"x": "y"})
    second = images.write_png(tmp_path / "new" / "folder" / "b.png", np.asfortranarray(noise()), metadata={"x": "y"})
    assert first == second == sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    assert first != images.write_png(tmp_path / "c.png", noise(), metadata={"x": "z"})


@pytest.mark.parametrize("metadata", [{"prompt": "\ud800"}, {"schlüssel": ""}, {"": ""}, {"k" * 80: ""}, {" k": ""}])
def test_a_failed_encoding_leaves_the_old_file(tmp_path: Path, metadata: dict[str, str]) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(ValueError):
        images.write_png(tmp_path / "a.png", noise(), metadata=metadata)
    assert os.listdir(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"old"


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    (tmp_path / "a.png").write_bytes(b"old")
    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(RunError, match=r"a\.png: cannot be written: disk full; choose another folder with outputs=DIR"):
        images.write_png(tmp_path / "a.png", noise(), metadata={})
    assert os.listdir(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"old"


@pytest.mark.parametrize("pixels", [noise().astype(np.float32), noise()[:, :, 0], noise()[:, :, :2], noise()[:0]])
def test_arrays_that_are_no_image_are_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        images.write_png(tmp_path / "a.png", pixels, metadata={})


def test_the_hash_covers_shape_and_values() -> None:
    black = np.zeros((4, 6, 3), np.uint8)
    assert images.hash_image(black) == images.hash_image(np.asfortranarray(black))
    assert images.hash_image(black) != images.hash_image(black.reshape(6, 4, 3))
    assert images.hash_image(black) != images.hash_image(black + 1)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
@pytest.mark.parametrize("height", [1, 255, 256, 257, 600])
def test_the_hash_of_a_file_is_that_of_its_pixels(tmp_path: Path, mode: str, height: int) -> None:
    image = Image.fromarray(noise(height))
    (image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)).save(tmp_path / "a.png")
    pixels, texts = images.read_png(tmp_path / "a.png")
    assert images.read_png_hash(tmp_path / "a.png") == (images.hash_image(pixels), texts)


def test_a_hash_needs_no_second_copy_of_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", 2**20)  # so much is set aside to read the file
    Image.new("RGB", (3000, 3000)).save(tmp_path / "a.png")
    tracemalloc.start()
    images.read_png_hash(tmp_path / "a.png")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 9_000_000, "27 MB of pixels; Pillow's own memory is not traced, its copies for Python are"


def test_difference_follows_its_formula_and_does_not_wrap_around() -> None:
    a, b = noise(seed=1), noise(seed=2)
    for gain in (1, 2.5, 4):
        expected = np.minimum(255, np.rint(gain * np.abs(a.astype(float) - b.astype(float))))
        assert np.array_equal(images.compute_difference(a, b, gain), expected)
    dark, bright = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    for image, reference in (dark, bright), (bright, dark):
        assert (images.compute_difference(image, reference, 1) == 255).all()
    assert not images.compute_difference(a, a, 4).any()
    with pytest.raises(ValueError, match="shapes"):
        images.compute_difference(a, a[1:], 4)
    with pytest.raises(ValueError, match="gain"):
        images.compute_difference(a, b, float("nan"))


def test_file_names_of_some_prompts() -> None:
    name = images.build_file_name(0, "a red circle above a blue square", 0)
    assert name == "00_a-red-circle-above-a-blue-square_seed0.png"
    assert images.build_file_name(7, "", 3) == "07_seed3.png" == images.build_file_name(7, "一只猫", 3)
    assert images.build_file_name(1, "Café / ../..\\: naïve?", 0) == "01_cafe-naive_seed0.png"


@given(st.lists(st.tuples(TEXT, st.integers(0, 2**63)), max_size=120))
def test_file_names_are_valid_everywhere_and_unique(samples: list[tuple[str, int]]) -> None:
    names = [images.build_file_name(i, prompt, seed) for i, (prompt, seed) in enumerate(samples)]
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        match = re.fullmatch(r"\d{2,}(?:_([a-z0-9]+(?:-[a-z0-9]+)*))?_seed\d+\.png", name)
        assert match and len(match[1] or "") <= 40
