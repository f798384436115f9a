"""Prompt markup: what weighs how much, what is refused, and that no prompt takes long to read."""

from __future__ import annotations

import contextlib
import time

import pytest

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.text.markup import NETWORK, find_foreign, find_markup, parse_markup, refuse_unsupported


def parsed(text: str) -> list[list[tuple[str, float]]]:
    return [[(f.text, pytest.approx(f.weight)) for f in segment] for segment in parse_markup(text)]


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        # The examples that A1111's documentation gives of its syntax, with the weights that it gives.
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("\\(literal\\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [("a ", 1.0), ("house", 1.3 * 1.1**2), (" ", 1.1), ("on", 1.0), (" a ", 1.1), ("hill", 0.5 * 1.1),
             (", sun, ", 1.1), ("sky", 1.1**4), (".", 1.1)],
        ),
        ("(word)", [("word", 1.1)]),
        ("((word))", [("word", 1.21)]),
        ("[word]", [("word", 1 / 1.1)]),
        ("(word:1.5)", [("word", 1.5)]),
        ("(word:0.25)", [("word", 0.25)]),
        ("(word: 1.5 )", [("word", 1.5)]),
        ("(word:-1)", [("word", -1.0)]),
        ("word\\(s\\)", [("word(s)", 1.0)]),
        ("at 12:30, 2:1", [("at 12:30, 2:1", 1.0)]),
        ("a) b:1.3) c]", [("a) b:1.3) c]", 1.0)]),
        ("", []),
    ],
)  # fmt: skip
def test_words_weigh_what_a1111_says(text: str, fragments: list[tuple[str, float]]) -> None:
    assert parsed(text) == [[(part, pytest.approx(weight)) for part, weight in fragments]]


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("a BREAK b", [["a"], ["b"]]),
        ("a\nBREAK\n (b:2) BREAK", [["a"], ["b"]]),
        ("a BREAK BREAK b", [["a"], [], ["b"]]),
        ("BREAKFAST", [["BREAKFAST"]]),
        ("(a BREAK b:2)", [["a"], ["b"]]),
    ],
)
def test_a_break_begins_another_chunk(text: str, segments: list[list[str]]) -> None:
    assert [[fragment.text for fragment in segment] for segment in parse_markup(text)] == segments


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a [cat:dog:0.5]", "changes from step to step"), ("a [cat:5]", "changes from step to step"),
        ("a [cat|dog]", "changes from step to step"), ("a [(x:1.2)|dog]", "several in one"),
        ("[a:[b]:0.5]", "changes"), ("a cat AND a dog", "'AND' is a prompt"), ("(x:1.2.3)", "the weight is no number"),
        ("(x:101)", "the weight of 'x' is 101"), ("(" * 60 + "x", "the weight of 'x' is 304"),
        (f"(x:{'9' * 400})", "the weight of 'x' is inf"),
    ],
)  # fmt: skip
def test_what_weighting_cannot_give_effect_to_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        refuse_unsupported(text)


@pytest.mark.parametrize("text", ["a \\[b|c\\]", "[a (x:1.3) b]", "AND1", "a|b", "12:30]"[:5], "(a:0.5)"])
def test_what_only_looks_like_it_is_not(text: str) -> None:
    refuse_unsupported(text)


@pytest.mark.parametrize(
    ("text", "clip", "other"),
    [
        ("a (red:1.3) cat", "(red:1.3)", "(red:1.3)"), ("a ((red)) cat", "((red)", "((red)"),
        ("a BREAK b", "BREAK", "BREAK"),
        ("a (red) cat", "(red)", ""), ("a [red] cat", "[red]", ""), ("a cat \\(cute\\)", "\\(", ""),
        ("a cat at 12:30", "", ""), ("a smile :)", "", ""), ("<sunset>", "", ""), ("breakfast", "", ""),
    ],
)  # fmt: skip
def test_markup_is_found_in_what_is_written_for_clip_and_the_certain_kind_everywhere(
    text: str, clip: str, other: str
) -> None:
    assert (find_markup(text, clip=True), find_markup(text, clip=False)) == (clip, other)


@pytest.mark.parametrize(
    ("text", "piece", "way"),
    [
        ("a cat, embedding:EasyNegative, x", "embedding:EasyNegative", "adapters=textual_inversion"),
        ("(embedding:a/b.pt:1.2)", "embedding:a/b.pt", "adapters=textual_inversion"),
        ("a {red|blue} {x} cat", "{red|blue}", "one prompt for each choice"),
        ("a __color__ cat", "__color__", "one prompt for each word"), ("__a/b-*__", "__a/b-*__", "one prompt for each"),
        ("{a|b} __c__", "{a|b}", "one prompt for each choice"),
        ("a {red} cat", "", ""), ("____", "", ""), ("snake_case", "", ""), ("embedding: x", "", ""), ("|", "", ""),
    ],
)  # fmt: skip
def test_what_other_tools_replace_is_found(text: str, piece: str, way: str) -> None:
    for clip in (True, False):
        found = find_foreign(text, clip=clip)
        assert found[0] == piece and found[1].startswith(way)


@pytest.mark.parametrize(
    ("text", "piece", "way"),
    [
        ("a cat::2 a dog", "::2", "prompts.weighting=a1111 and (words:2)"),
        ("a cat:: -.5", ":: -.5", "prompts.weighting=a1111"),
        ("a cat --ar 16:9", "--ar", "keys beside the prompt"),
        ("a cat, --no dogs", "--no", "keys beside the prompt"),
        ("[a::0.5]", "", ""), ("std::vector", "", ""), ("a -- no", "", ""), ("x--ar", "", ""), ("--arm", "", ""),
    ],
)  # fmt: skip
def test_weights_and_parameters_of_midjourney_are_found(text: str, piece: str, way: str) -> None:
    found = find_foreign(text, clip=True)
    assert found[0] == piece and found[1].startswith(way)
    other = find_foreign(text, clip=False)
    assert other[0] == piece and (not piece.startswith("::") or other[1].startswith("leave it out"))


def test_and_is_a_word_for_a_language_model() -> None:
    assert find_foreign("a cat AND a dog", clip=True)[0] == "AND"
    assert find_foreign("a cat AND a dog", clip=False) == find_foreign("SAND", clip=True) == ("", "")


@pytest.mark.parametrize(
    "piece",
    [
        "{",
        "{a|",
        "__",
        "__a",
        "embedding:",
        "(",
        ")",
        "[",
        "|",
        ":",
        "::1",
        "::",
        " --ar",
        "\\",
        "(a:1",
        ":1",
        "((",
        "[a|",
        "1",
        " ",
        "BREAK",
        "<lora:",
        "(a",
    ],
)
def test_a_long_prompt_is_read_in_no_time(piece: str) -> None:
    """A stranger's prompt file may have any; twice the length takes about twice the time."""
    for text in (piece * 20_000, "(" + piece * 20_000, "[" + piece * 20_000, ":" + piece * 20_000):
        began = time.perf_counter()
        find_markup(text, clip=True)
        find_foreign(text, clip=True)
        NETWORK.search(text)
        with contextlib.suppress(ConfigError):
            refuse_unsupported(text)
        assert time.perf_counter() - began < 5, text[:20]
