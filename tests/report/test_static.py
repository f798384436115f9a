"""Pages without scripts of their own: where names may be broken."""

from __future__ import annotations

from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.report.page.breaks import breakable


def test_names_are_broken_after_their_separators_and_numbers_are_not() -> None:
    made = str(breakable("sampler=dpmpp_2m_karras cache.interval=0.05,0.1 a/b.png"))
    assert made.replace("<wbr>", "|") == "sampler=|dpmpp_|2m_|karras cache.|interval=|0.05,|0.1 a/|b.|png"


@given(st.text(alphabet="ab<>&\"'_=,./: 01"))
def test_the_text_stays_what_it_is_and_markup_in_it_is_none(text: str) -> None:
    made = str(breakable(text))
    assert unescape(made.replace("<wbr>", "")) == text
    assert "<" not in made.replace("<wbr>", "")
