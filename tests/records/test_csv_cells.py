"""CSV cells: a spreadsheet must not evaluate what a stranger's record or config holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.errors import hide_controls
from wavespeed_runner.records.csv_cells import FORMULA, make_cell


@pytest.mark.parametrize(
    "text",
    ["=1+1", '=HYPERLINK("http://x")', "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "+", "-a"],
)
def test_text_that_begins_like_a_formula_is_marked_as_text(text: str) -> None:
    assert make_cell(text) == f"'{hide_controls(text)}"


def test_controls_are_not_there() -> None:
    assert make_cell("a\x1b[31m\x9b\u202e\nb") == "a?[31m??\nb"


@pytest.mark.parametrize("value", [-1, 0.5, "-1", "+2.5e-3", "-inf", "fbcache", "a=b", "", None])
def test_numbers_and_plain_text_stay_as_they_are(value: Any) -> None:
    assert make_cell(value) == value


def test_yes_and_no_are_1_and_0() -> None:
    assert [make_cell(True), make_cell(False)] == [1, 0]


@given(st.text(max_size=20))
def test_no_text_but_a_number_begins_like_a_formula(text: str) -> None:
    cell = make_cell(text)
    assert cell.removeprefix("'") == hide_controls(text).removeprefix("'")
    if str(cell).startswith(FORMULA):
        float(cell)
