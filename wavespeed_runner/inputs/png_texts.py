"""Reads the texts of a PNG from its bytes, without decoding anything: https://www.w3.org/TR/png-3/#11textinfo."""

from __future__ import annotations

from collections.abc import Iterator

from .files import InputError
from .images import PNG_SIGNATURE

TEXT, COMPRESSED, INTERNATIONAL = b"tEXt", b"zTXt", b"iTXt"
MAX_KEYWORD = 79


def has_png_text(content: bytes, key: str) -> bool:
    """True for a PNG with a text under this key, before its pixels or after them.

    Also true for what is no PNG: whoever decodes it says so.

    Raises:
        InputError: it has two, of which readers take the first or the last.
    """
    if not content.startswith(PNG_SIGNATURE):
        return True
    count = sum(name == key for name, _ in walk_png_texts(content))
    if count > 1:
        raise InputError(f"two texts named {key}")
    return count == 1


def walk_png_texts(content: bytes) -> Iterator[tuple[str, str]]:
    """Yields key and text of each text of a PNG; a compressed text is empty, for it may be of any length."""
    place = len(PNG_SIGNATURE)
    while content.startswith(PNG_SIGNATURE) and place + 8 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        kind, body = content[place + 4 : place + 8], memoryview(content)[place + 8 : place + 8 + length]
        if kind in (TEXT, COMPRESSED, INTERNATIONAL):
            key, _, rest = bytes(body).partition(b"\0")
            if 0 < len(key) <= MAX_KEYWORD:
                yield key.decode("latin-1"), _read(kind, rest)
        place += 12 + length


def _read(kind: bytes, rest: bytes) -> str:
    """The text after the key."""
    if kind == TEXT:
        return rest.decode("latin-1")
    if kind == COMPRESSED or rest[:1] != b"\0":
        return ""
    # Compression flag and method, then language and translated key, each with a zero behind it.
    parts = rest[2:].split(b"\0", 2)
    return parts[2].decode("utf-8", "replace") if len(parts) == 3 else ""
