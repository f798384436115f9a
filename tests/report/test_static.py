"""Pages without scripts of their own: where names may be broken."""

from __future__ import annotations

import re
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from tests.report.html_parts import whole_text
from wavespeed_runner.report.page.breaks import BREAKS, breakable, by_words
from wavespeed_runner.report.page.static import _template, read_asset


def test_names_are_broken_after_their_separators_and_numbers_are_not() -> None:
    made = str(breakable("sampler=dpmpp_2m_karras cache.interval=0.05,0.1 a/b.png x='...'"))
    assert (
        unescape(made.replace("<wbr>", "|"))
        == "sampler=|dpmpp_|2m_|karras cache.|interval=|0.05,|0.1 a/|b.|png x=|'...'"
    )


@given(st.text(alphabet="ab<>&\"'_=,./: 01"))
def test_the_text_stays_what_it_is_and_markup_in_it_is_none(text: str) -> None:
    made = str(breakable(text))
    assert unescape(made.replace("<wbr>", "")) == text
    assert "<" not in made.replace("<wbr>", "")


def test_words_are_broken_only_where_a_line_is_too_short_for_one() -> None:
    made = str(by_words("run --config-dir a/b sampler=fitted 'x' < y"))
    assert re.findall(r'<span class="word">(.*?)</span>', made) == ["--config-dir", "a/<wbr>b", "sampler=<wbr>fitted"]
    assert unescape(whole_text(made)) == "run --config-dir a/b sampler=fitted 'x' < y"


@given(st.text(alphabet="ab<>&\"'_=,./:- \n01"))
def test_what_is_copied_is_the_text_alone(text: str) -> None:
    assert unescape(re.sub(r'<wbr>|<span class="word">|</span>', "", str(by_words(text)))) == text


def test_scripts_break_names_where_templates_do() -> None:
    found = re.search(r"BREAKS = /(.*)/;", read_asset("wavespeed_runner.report.page", "page.js"))
    assert found and found[1] == BREAKS.pattern


def test_text_of_strangers_turns_no_writing_around() -> None:
    values = {"fields": [], "sides": [{"name": "a\u202eb", "place": "x\x07y"}]}
    template = _template("wavespeed_runner.report.compare", "page.html.j2").environment.from_string(
        "{{ sides[0].name }} {{ sides[0].place | breakable }}"
    )
    assert template.render(**values) == "a?b x?y"
