"""Videos as files: their metadata, their hash, and the frames that a player shows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from wavespeed_runner.media.images import read_png
from wavespeed_runner.media.videos import (
    draw_frame_sheet,
    hash_frames,
    middle_frame,
    read_metadata,
    write_frame_sheet,
    write_mp4,
)
from wavespeed_runner.metrics.quality import compare_images, compare_videos

RED, BLUE = (220, 35, 40), (40, 80, 225)
METADATA = {"wavespeed_runner": '{"prompt": "ein grüner Kreis"}' + "x" * 20000, "pixels_sha256": "abc"}


def clip(count: int = 6, height: int = 48, width: int = 64) -> Any:
    """A red circle that moves over a white background towards a blue bar."""
    y, x = np.mgrid[:height, :width]
    frames = np.full((count, height, width, 3), 255, np.uint8)
    frames[:, :, -10:] = BLUE
    for index, frame in enumerate(frames):
        frame[(y - height / 2) ** 2 + (x - 14 - 4 * index) ** 2 < 100] = RED
    return frames


def decode(path: Path) -> tuple[Any, Any]:
    """Frames and stream, with the colours that FFmpeg chooses, as a player does."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]), stream


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (16, 33)])
def test_a_player_shows_the_frames(tmp_path: Path, height: int, width: int) -> None:
    frames = clip(height=height, width=width)
    write_mp4(tmp_path / "a" / "x.mp4", frames, fps=12, metadata=METADATA)
    shown, stream = decode(tmp_path / "a" / "x.mp4")
    assert shown.shape == (6, height + height % 2, width + width % 2, 3)
    assert stream.average_rate == 12 and stream.codec_context.pix_fmt == "yuv420p"
    # 4:2:0 halves the colour resolution: edges differ, areas do not.
    error = np.abs(shown[:, :height, :width].astype(int) - frames)
    assert error.mean() < 5 and np.median(error.max(axis=-1)) <= 3
    bar = shown[0, 2 : height - 2, width - 6 : width - 2]  # the circle has not reached it
    assert np.abs(bar.astype(int) - BLUE).max() <= 6


def test_metadata_is_read_as_written(tmp_path: Path) -> None:
    write_mp4(tmp_path / "x.mp4", clip(), fps=8, metadata=METADATA)
    tags = read_metadata(tmp_path / "x.mp4")
    assert {key: tags[key] for key in METADATA} == METADATA


def test_the_returned_hash_is_that_of_the_file_and_no_other_file_is_left(tmp_path: Path) -> None:
    digest = write_mp4(tmp_path / "a.mp4", clip(), fps=8, metadata=METADATA)
    assert digest == hashlib.sha256((tmp_path / "a.mp4").read_bytes()).hexdigest()
    assert write_mp4(tmp_path / "a.mp4", clip(), fps=9, metadata=METADATA) != digest
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    "frames", [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3))]
)
def test_arrays_that_are_no_video_are_refused(tmp_path: Path, frames: Any) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(frames, height, width, 3\) needed"):
        write_mp4(tmp_path / "x.mp4", frames, fps=8, metadata={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("raw", [b"", b"hello", b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_no_mp4_cannot_be_read(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x.mp4").write_bytes(raw)
    with pytest.raises(OSError, match="not an MP4 video"):
        read_metadata(tmp_path / "x.mp4")


def test_the_hash_covers_the_frames_and_their_order() -> None:
    assert hash_frames(clip()) == hash_frames(clip().copy())
    assert hash_frames(clip()) != hash_frames(clip()[::-1])
    assert hash_frames(clip(4, 48, 64)) != hash_frames(clip(4, 48, 64).reshape(4, 64, 48, 3))


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (5, 5), (16, 16), (81, 16)])
def test_a_sheet_shows_evenly_spaced_frames_from_the_first_to_the_last(tmp_path: Path, count: int, shown: int) -> None:
    # Each frame has its own gray value, by which its cell is recognized.
    frames = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 32, 32, 3))
    write_frame_sheet(tmp_path / "x.png", frames, fps=8, metadata={"Source": "x.mp4"})
    pixels, texts = read_png(tmp_path / "x.png")
    assert texts == {"Source": "x.mp4"} and np.array_equal(pixels, draw_frame_sheet(frames, 8))
    # A cell has 256 pixels (32 enlarged eightfold), a label 24, a gap 12.
    columns = min(4, shown)
    grays = [int(pixels[140 + 292 * (i // columns), 140 + 268 * (i % columns), 0]) for i in range(shown)]
    assert grays == np.linspace(0, count - 1, shown).round().astype(int).tolist()
    assert int(middle_frame(frames)[0, 0, 0]) == count // 2


def test_videos_are_compared_frame_by_frame() -> None:
    video, rng = clip(), np.random.default_rng(0)
    noisy = video.copy()
    noisy[2:] = np.clip(
        noisy[2:].astype(int) + rng.integers(-9, 10, noisy[2:].shape) * np.arange(4)[:, None, None, None], 0, 255
    )
    by_frame = [compare_images(a, b) for a, b in zip(video, noisy, strict=True)]
    mean, worst = compare_videos(video, noisy)
    for name in ("mae", "mae_similarity", "ssim"):
        assert mean[name] == pytest.approx(np.mean([frame[name] for frame in by_frame]))  # type: ignore[arg-type]
    assert mean["psnr"] == pytest.approx(np.mean([frame["psnr"] for frame in by_frame[3:]]))  # type: ignore[arg-type]
    assert worst["ssim"] == by_frame[5]["ssim"] and worst["mae"] == by_frame[5]["mae"] == max(
        f["mae"] for f in by_frame
    )  # type: ignore[type-var]
    assert compare_videos(video, video)[0]["psnr"] is None
    with pytest.raises(ValueError, match="videos of 6 and 5 frames"):
        compare_videos(video, video[:5])


def test_a_large_frame_is_reduced_on_the_sheet() -> None:
    assert Image.fromarray(draw_frame_sheet(clip(2, 300, 512), 8)).size == (12 + 2 * (256 + 12), 12 + 150 + 24 + 12)
