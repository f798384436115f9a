"""Images as PNG files with metadata; their file names, hashes and difference images.

An image is a uint8 numpy array of shape (height, width, 3), RGB. PIL and numpy are imported where they are used.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..inputs.files import read_file
from ..inputs.images import damage_as_input_error, decode_image
from ..inputs.limits import MAX_IMAGE_BYTES
from ..storage.atomic import write_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    ImageArray: TypeAlias = NDArray[np.uint8]

STRIP = 256
"""Rows of an image that are hashed at a time."""
SLUG_LENGTH = 40
"""The most characters of a prompt that a file name contains."""


def check_image(image: ImageArray, name: str = "image") -> None:
    """Raises ValueError unless `image` is a non-empty uint8 array of shape (height, width, 3)."""
    if image.dtype != "uint8" or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"{name}: uint8 (height, width, 3) needed, got {image.dtype} {image.shape}")


def write_png(path: str | Path, image: ImageArray, *, metadata: Mapping[str, str], simple: Collection[str] = ()) -> str:
    """Writes a PNG, with each metadata item in its own uncompressed iTXt chunk (UTF-8) before the pixels.

    The same image and metadata give the same bytes (with the same versions of Pillow and zlib), because the file has no
    timestamp. The write is atomic: an existing file is replaced, a missing folder is created.

    Args:
        path: of the file.
        image: what is written.
        metadata: key -> text.
        simple: keys whose text goes into a tEXt chunk, which every reader knows, if it is Latin-1.

    Returns:
        The file's sha256, in hex.

    Raises:
        ValueError: not an image, a key that is not a valid PNG keyword, or text that is not valid Unicode.
        RunError: the file cannot be written.
    """
    raw = _encode(image, metadata, simple)
    write_bytes(path, raw)
    return hashlib.sha256(raw).hexdigest()


def _encode(image: ImageArray, metadata: Mapping[str, str], simple: Collection[str]) -> bytes:
    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    check_image(image)
    chunks = PngInfo()
    for key, text in metadata.items():
        # PNG specification, 11.3.3.2: 1-79 Latin-1 characters, single spaces inside only. Our keys are plain ASCII.
        if not re.fullmatch(r"(?=.{1,79}\Z)[!-~]+( [!-~]+)*", key):
            raise ValueError(f"metadata key {key!r}: 1 to 79 printable ASCII characters needed")
        # Pillow takes iTXt all the same for a text that is not Latin-1.
        (chunks.add_text if key in simple else chunks.add_itxt)(key, text)
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def read_png(path: str | Path) -> tuple[ImageArray, dict[str, str]]:
    """Reads a PNG: the image as 8-bit RGB, and its text chunks, ours or another program's.

    Raises:
        OSError: no such file.
        InputError: not a complete PNG, or too large.
    """
    import numpy as np

    pil_image, texts = _open_png(Path(path))
    with damage_as_input_error():
        return np.asarray(pil_image if pil_image.mode == "RGB" else pil_image.convert("RGB")), texts


def read_png_hash(path: str | Path) -> tuple[str, dict[str, str]]:
    """As `read_png`, with the `hash_image` of the pixels in their place: there is never a second copy of them.

    Raises:
        OSError: no such file.
        InputError: not a complete PNG, or too large.
    """
    pil_image, texts = _open_png(Path(path))
    width, height = pil_image.size
    digest = hashlib.sha256(f"{height}x{width}x3".encode())
    with damage_as_input_error():
        for top in range(0, height, STRIP):
            strip = pil_image.crop((0, top, width, min(top + STRIP, height)))
            digest.update((strip if strip.mode == "RGB" else strip.convert("RGB")).tobytes())
    return digest.hexdigest(), texts


def _open_png(path: Path) -> tuple[Image, dict[str, str]]:
    """Decodes a PNG, and nothing else of what Pillow can decode; with its texts."""
    image = decode_image(read_file(path, MAX_IMAGE_BYTES), ("PNG",))
    # After the pixels, because PNG allows text after them. str(), because PIL has its own subclass for iTXt.
    return image, {key: str(text) for key, text in getattr(image, "text", {}).items()}


def hash_image(image: ImageArray) -> str:
    """Sha256, in hex, over shape and pixel values: equal if and only if the images are, whatever their file formats."""
    import numpy as np

    check_image(image)
    digest = hashlib.sha256("x".join(map(str, image.shape)).encode())
    digest.update(np.ascontiguousarray(image).data)  # no copy
    return digest.hexdigest()


def compute_difference(image: ImageArray, reference: ImageArray, gain: float) -> ImageArray:
    """Computes a difference image: gain * |image - reference|, rounded and clipped at 255; black where they agree.

    Raises:
        ValueError: the shapes differ, or the gain is not a positive number.
    """
    import numpy as np

    check_image(image)
    check_image(reference, "reference")
    if image.shape != reference.shape:
        raise ValueError(f"difference of images of different shapes: {image.shape} and {reference.shape}")
    if not 0 < gain < float("inf"):
        raise ValueError(f"gain of a difference image: a positive number needed, got {gain}")
    # In float64, because uint8 wraps around: 0 - 1 = 255.
    distance = np.abs(image.astype(np.float64) - reference.astype(np.float64))
    return np.clip(np.rint(gain * distance), 0, 255).astype(np.uint8)


def build_file_name(index: int, prompt: str, seed: int, suffix: str = ".png") -> str:
    """Builds a file name such as `00_a-red-circle-above-a-blue-square_seed0.png`.

    Lower-case ASCII with at most 40 characters of the prompt, safe on every file system and in every shell, and unique
    for every index. Characters without an ASCII form are left out; if none is left: `00_seed0.png`. The image's
    metadata has the whole prompt.

    Args:
        index: of the image in its run, counted from 0.
        prompt: of the image.
        seed: of the image.
        suffix: of the file, with its dot.
    """
    ascii_only = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-")
    if len(slug) > SLUG_LENGTH:
        # Whole words, unless the first one alone is too long.
        slug = slug[: SLUG_LENGTH + 1].rpartition("-")[0] or slug[:SLUG_LENGTH]
    return "_".join(part for part in (f"{index:02d}", slug, f"seed{seed}{suffix}") if part)
