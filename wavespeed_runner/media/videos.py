"""Videos as files: MP4 with metadata, hashes, and the sheet of frames beside each. PyAV encodes.

A video is a uint8 numpy array of shape (frames, height, width, 3), RGB. MP4 is lossy, so figures are made of the
frames themselves, and the file carries their hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..storage.atomic import write_whole
from .images import INK, load_font, scale_to_cell, write_png

if TYPE_CHECKING:
    from .images import ImageArray

CRF = 12
"""H.264's constant rate factor: 0 is without loss, 18 is taken for visually lossless."""
FRAMES, COLUMNS = 16, 4
"""Most frames on a sheet, and most side by side."""
GAP, LABEL = 12, 24


def check_frames(frames: Any) -> None:
    """Raises ValueError unless it is a non-empty uint8 array of shape (frames, height, width, 3)."""
    if frames.dtype != "uint8" or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise ValueError(f"video: uint8 (frames, height, width, 3) wanted, got {frames.dtype} {frames.shape}")


def write_mp4(path: Path, frames: Any, *, fps: int, metadata: Mapping[str, str]) -> str:
    """Writes H.264 in 4:2:0, which plays everywhere; each metadata item as a tag of the container.

    Nothing in the file tells when it was made, but the same frames need not give the same bytes: x264's assembly code
    does not repeat itself to the last bit. What two videos have in common is said by `frames_sha256`. Odd sides get a
    copy of their last line, because 4:2:0 needs even ones. The file appears whole or not at all.

    Returns:
        The file's sha256, in hex.

    Raises:
        ValueError: not a video. OSError: the folder cannot be written.
    """
    check_frames(frames)
    raw = _encode(frames, fps, metadata)
    write_whole(path, raw)
    return hashlib.sha256(raw).hexdigest()


def _encode(frames: Any, fps: int, metadata: Mapping[str, str]) -> bytes:
    import av
    import numpy as np
    from av.video.reformatter import ColorRange, Colorspace

    _, height, width, _ = frames.shape
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    buffer = BytesIO()
    # use_metadata_tags: tags of any name. +bitexact: no time, no version.
    options = {"movflags": "use_metadata_tags", "fflags": "+bitexact"}
    with av.open(buffer, "w", format="mp4", options=options) as container:
        container.metadata.update(metadata)
        stream: Any = container.add_stream("libx264", rate=fps, options={"crf": str(CRF), "preset": "medium"})
        stream.height, stream.width, stream.pix_fmt = *even.shape[1:3], "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        # Said in the file, or players take small videos for another colour space.
        context.colorspace = context.color_primaries = context.color_trc = int(Colorspace.ITU709)
        context.color_range = int(ColorRange.MPEG)
        for frame in even:
            shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
                format="yuv420p",
                src_colorspace=Colorspace.ITU709,
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
            container.mux(stream.encode(shown))
        container.mux(stream.encode())
    return buffer.getvalue()


def read_metadata(path: Path) -> dict[str, str]:
    """The tags of an MP4, its own or another program's.

    Raises:
        OSError, ValueError: no such file, or not an MP4.
    """
    import av

    try:
        with av.open(str(path), format="mp4") as container:
            return dict(container.metadata)
    except av.error.FFmpegError as error:
        raise OSError(f"no MP4 video: {error.strerror}") from None


def hash_frames(frames: Any) -> str:
    """Sha256, in hex, over shape and values: equal iff the videos are."""
    import numpy as np

    check_frames(frames)
    digest = hashlib.sha256("x".join(map(str, frames.shape)).encode())
    digest.update(np.ascontiguousarray(frames).tobytes())
    return digest.hexdigest()


def middle_frame(frames: Any) -> ImageArray:
    """The frame that stands for a video."""
    image: ImageArray = frames[len(frames) // 2]
    return image


def write_frame_sheet(path: Path, frames: Any, *, fps: int, metadata: Mapping[str, str]) -> str:
    """Writes a PNG with up to 16 frames, the first and the last among them, each with its number and time."""
    return write_png(path, draw_frame_sheet(frames, fps), metadata=metadata)


def draw_frame_sheet(frames: Any, fps: int) -> ImageArray:
    """The frames' contact sheet: small ones enlarged by a whole factor, large ones reduced to 256 pixels."""
    import numpy as np
    from PIL import Image, ImageDraw

    check_frames(frames)
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int))
    cells = [scale_to_cell(frames[index]) for index in chosen]
    columns, (width, height) = min(COLUMNS, len(cells)), cells[0].size
    rows = ceil(len(cells) / columns)
    canvas = Image.new("RGB", (GAP + columns * (width + GAP), GAP + rows * (height + LABEL + GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    for place, (index, cell) in enumerate(zip(chosen, cells, strict=True)):
        x, y = GAP + place % columns * (width + GAP), GAP + place // columns * (height + LABEL + GAP)
        canvas.paste(cell, (x, y))
        draw.text((x, y + height + 4), f"{index + 1}/{len(frames)}, {index / fps:.2f} s", INK, load_font(14))
    return np.asarray(canvas)
