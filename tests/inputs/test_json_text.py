"""How much memory the text of JSON takes is known before it is decoded: one wide character makes all others wide."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.inputs import json_text, limits
from wavespeed_runner.inputs.documents import parse_json
from wavespeed_runner.inputs.files import InputError
from wavespeed_runner.inputs.json_text import decode_json

BOUND = 4000
ROOM = "x" * (BOUND // 2)
"""Fewer bytes than the bound as ASCII, and more where each character has four."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_WIDE_BYTES", BOUND)


@pytest.mark.parametrize("wide", ["\N{GRINNING FACE}", "\u4e2d" * 700])
def test_a_wide_text_is_refused_before_it_is_decoded(wide: str) -> None:
    raw = json.dumps([wide + ROOM], ensure_ascii=False)
    for text in (raw, json.dumps([ROOM + wide]), json.dumps([wide, ROOM, wide + ROOM])):
        with pytest.raises(InputError, match="MiB of memory"):
            parse_json(text.encode())
    assert parse_json(json.dumps([ROOM * 9]).encode()) == [ROOM * 9], "ASCII is bounded by the size of the file"


def test_in_ascii_only_texts_with_a_wide_character_count() -> None:
    """As in the records of runs, which are ASCII."""
    prompts = ["\N{GRINNING FACE} a prompt", ROOM] * 20
    assert parse_json(json.dumps(prompts).encode()) == prompts
    with pytest.raises(InputError, match="MiB of memory"):
        parse_json(json.dumps([f"{prompt}\N{GRINNING FACE}" for prompt in prompts]).encode())


@given(st.lists(st.text(alphabet='ab"\\\n\u4e2d\U0001f600', max_size=12), max_size=12))
def test_the_escaped_texts_are_counted_as_they_are(texts: list[str]) -> None:
    content = json.dumps(texts).encode()
    wide = [text for text in texts if not text.isascii()]
    counted = json_text._count_escaped(content)
    assert counted >= sum(map(len, wide))
    assert counted <= sum(len(json.dumps(text)) - 1 for text in wide) + len(wide)
    assert json.loads(decode_json(content)) == texts
