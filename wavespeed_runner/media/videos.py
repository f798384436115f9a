"""Videos as MP4 files with metadata, encoded with PyAV; their hashes and sheets of frames.

A video is a uint8 numpy array of shape (frames, height, width, 3), RGB. MP4 is lossy, so metrics are computed from the
frames themselves, and the file's metadata has their hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inputs.files import check_regular
from ..storage.atomic import write_bytes
from .contact_sheet import INK, load_font, scale_to_cell
from .images import write_png

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .images import ImageArray

CRF = 12
"""H.264's constant rate factor: 0 is lossless, 18 is regarded as visually lossless."""
MAX_FRAMES, COLUMNS = 16, 4
"""The most frames on a sheet, and the most side by side."""
GAP, LABEL = 12, 24
"""Space between frames and height of their labels, in pixels."""


def check_frames(frames: NDArray[np.uint8]) -> None:
    """Raises ValueError unless `frames` is a non-empty uint8 array of shape (frames, height, width, 3)."""
    if frames.dtype != "uint8" or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise ValueError(f"video: uint8 (frames, height, width, 3) needed, got {frames.dtype} {frames.shape}")


def write_mp4(path: Path, frames: NDArray[np.uint8], *, fps: int, metadata: Mapping[str, str]) -> str:
    """Writes an MP4 file: H.264 in 4:2:0, which plays everywhere, with each metadata item as a tag of the container.

    The same frames may give different bytes, because x264's assembly code is not deterministic to the last bit; compare
    videos with `hash_frames`. The file has no timestamp. An odd width or height is padded with a copy of the last
    column or row, because 4:2:0 needs even ones. The write is atomic.

    Returns:
        The file's sha256, in hex.

    Raises:
        ValueError: not a video.
        RunError: the file cannot be written.
    """
    check_frames(frames)
    raw = _encode(frames, fps, metadata)
    write_bytes(path, raw)
    return hashlib.sha256(raw).hexdigest()


def _encode(frames: NDArray[np.uint8], fps: int, metadata: Mapping[str, str]) -> bytes:
    import av
    import numpy as np
    from av.video.reformatter import ColorRange, Colorspace

    _, height, width, _ = frames.shape
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    buffer = BytesIO()
    # use_metadata_tags: tags with any name. +bitexact: no timestamp, no version.
    options = {"movflags": "use_metadata_tags", "fflags": "+bitexact"}
    with av.open(buffer, "w", format="mp4", options=options) as container:
        container.metadata.update(metadata)
        stream: Any = container.add_stream("libx264", rate=fps, options={"crf": str(CRF), "preset": "medium"})
        stream.height, stream.width, stream.pix_fmt = *even.shape[1:3], "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        # Written to the file, because players assume another colour space for small videos.
        context.colorspace = context.color_primaries = context.color_trc = int(Colorspace.ITU709)
        context.color_range = int(ColorRange.MPEG)
        for frame in even:
            converted = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
                format="yuv420p",
                src_colorspace=Colorspace.ITU709,
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
            container.mux(stream.encode(converted))
        container.mux(stream.encode())
    return buffer.getvalue()


def read_metadata(path: Path) -> dict[str, str]:
    """Reads the tags of an MP4 file, ours or another program's.

    Raises:
        OSError: no such file, or not an MP4.
        ValueError: not an MP4.
    """
    import av

    check_regular(path)
    try:
        with av.open(str(path), format="mp4") as container:
            return dict(container.metadata)
    except av.error.FFmpegError as error:
        raise OSError(f"not an MP4 video: {error.strerror}") from None


def hash_frames(frames: NDArray[np.uint8]) -> str:
    """Sha256, in hex, over shape and pixel values: equal if and only if the videos are."""
    import numpy as np

    check_frames(frames)
    digest = hashlib.sha256("x".join(map(str, frames.shape)).encode())
    digest.update(np.ascontiguousarray(frames).tobytes())
    return digest.hexdigest()


def middle_frame(frames: NDArray[np.uint8]) -> ImageArray:
    """The middle frame, which stands for a video where one image is needed."""
    image: ImageArray = frames[len(frames) // 2]
    return image


def write_frame_sheet(path: Path, frames: NDArray[np.uint8], *, fps: int, metadata: Mapping[str, str]) -> str:
    """Writes a PNG with up to 16 frames, the first and the last included; each with its number and time."""
    return write_png(path, draw_frame_sheet(frames, fps), metadata=metadata)


def draw_frame_sheet(frames: NDArray[np.uint8], fps: int) -> ImageArray:
    """Draws a sheet of frames: small ones enlarged by a whole factor, large ones reduced to 256 pixels."""
    import numpy as np
    from PIL import Image, ImageDraw

    check_frames(frames)
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(MAX_FRAMES, len(frames))).round().astype(int))
    cells = [scale_to_cell(frames[index]) for index in chosen]
    columns, (width, height) = min(COLUMNS, len(cells)), cells[0].size
    rows = ceil(len(cells) / columns)
    canvas = Image.new("RGB", (GAP + columns * (width + GAP), GAP + rows * (height + LABEL + GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    for position, (index, cell) in enumerate(zip(chosen, cells, strict=True)):
        row, column = divmod(position, columns)
        x, y = GAP + column * (width + GAP), GAP + row * (height + LABEL + GAP)
        canvas.paste(cell, (x, y))
        draw.text((x, y + height + 4), f"{index + 1}/{len(frames)}, {index / fps:.2f} s", INK, load_font(14))
    return np.asarray(canvas)
