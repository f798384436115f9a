"""The contact sheet: its size, how it scales images, and that captions fit their column."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavespeed_runner.media import contact_sheet
from wavespeed_runner.media.contact_sheet import draw_contact_sheet, load_font, wrap_text

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
"""Any Unicode except lone surrogates."""


def noise(height: int = 9, width: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_contact_sheet_enlarges_small_images_by_a_whole_factor() -> None:
    row = [noise(64, 64, seed) for seed in range(4)]
    sheet = draw_contact_sheet(
        [("reference", row), ("fbcache", row), ("difference", row)], ["a prompt"] * 4, notes=[[], ["1 s"] * 4, []]
    )
    height, width, _ = sheet.shape
    assert 4 * 256 < width < 4 * 256 + 350 and 3 * 256 < height < 3 * 256 + 250
    assert (sheet[0] == 255).all() and (sheet[:, 0] == 255).all()
    enlarged = row[0].repeat(4, axis=0).repeat(4, axis=1)
    assert any(
        np.array_equal(sheet[y : y + 256, x : x + 256], enlarged)
        for y, x in zip(*np.nonzero((sheet == enlarged[0, 0]).all(axis=2)), strict=True)
    )


def test_contact_sheet_reduces_large_images_and_says_what_it_left_out() -> None:
    row = [noise(300, 600)] * 11
    eight, eleven = (draw_contact_sheet([("all", row[:n])], ["猫"] * n) for n in (8, 11))
    assert eleven.shape[1] == eight.shape[1] < 8 * 256 + 350
    assert 128 < eight.shape[0] < eleven.shape[0] < 128 + 180


def test_contact_sheet_refuses_what_does_not_match() -> None:
    for rows, columns in ([], ["a"]), ([("r", [noise()])], []), ([("r", [noise()])], ["a", "b"]):
        with pytest.raises(ValueError, match="contact sheet"):
            draw_contact_sheet(rows, columns)


@settings(max_examples=40, deadline=None)
@given(TEXT)
def test_captions_stay_inside_their_column(text: str) -> None:
    lines = wrap_text(text, 180, 3)
    assert len(lines) <= 3
    assert all(load_font(contact_sheet.TEXT).getlength(line) <= 180 for line in lines)
