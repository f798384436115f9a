"""The texts of a PNG, from its bytes."""

from __future__ import annotations

from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from wavespeed_runner.inputs.png_texts import walk_png_texts


def test_all_three_kinds_of_texts_are_found() -> None:
    info = PngInfo()
    info.add_text("plain", "größer")
    info.add_itxt("wide", "日本")
    info.add_text("packed", "x" * 9, zip=True)
    info.add_itxt("wide packed", "x" * 9, zip=True)
    file = BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG", pnginfo=info)
    assert dict(walk_png_texts(file.getvalue())) == {"plain": "größer", "wide": "日本", "packed": "", "wide packed": ""}


@given(st.binary(max_size=200))
def test_any_bytes_have_some_texts_or_none(content: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\0\0\0\x20iTXt"):
        assert all(isinstance(text, str) and key for key, text in walk_png_texts(start + content))
