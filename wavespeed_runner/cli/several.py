"""Answers all words of a command line that are another tool's, and not the first of them alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .commands import COMMANDS, RUN
from .trial import find_error, make_trial

MOST = 8
"""Words that one message answers."""
COUNTED = 24
"""Words that are looked for; to find each takes a plan without those before it."""
REFUSED = "which is refused: "
ALLOWED = re.compile(r" \(allowed: [^)]*\)$")
"""What is said of a word that nobody knows, and is too long where others are answered beside it."""


def explain_words(error: Exception, arguments: Sequence[str]) -> str | None:
    """Explains an error of a command line; where it is a word that is none here, the others like it, too.

    Args:
        error: that the command ended with.
        arguments: of the command.

    Returns:
        One line; None for an error that no wrong configuration raises.
    """
    from ..config.error_messages import EXPLAINED, explain
    from ..config.suggestions import trying

    if not isinstance(error, EXPLAINED):
        return None
    wrong = _list_wrong(error, arguments)
    answered = wrong[:MOST]
    texts: dict[str, str] = {}
    ways: dict[str, list[str]] = {}
    for word, mistake in (*answered, *answered[:-1]):
        if word in texts and REFUSED not in texts[word]:
            continue  # a second time only what may be accepted with what the words after it mean
        # What is suggested is tried without the other wrong words, for they would be refused first.
        others = {other: ways.get(other, []) for other, _ in wrong if other != word}
        with trying(make_trial(_replace(arguments, others)), arguments) as accepted:
            texts[word] = explain(mistake)
            ways[word] = accepted[0] if accepted else []
    told: list[str] = []
    for text in texts.values():
        told.append(text if len(wrong) == 1 else _shorten(text, told))
    if more := len(wrong) - len(answered):
        told.append(f"and {more} more{' at least' if len(wrong) == COUNTED else ''}")
    return "; ".join(told)


def _shorten(text: str, told: Sequence[str]) -> str:
    """A text beside others, without what they say already."""
    text = ALLOWED.sub("", text)
    notes = (text[found.start() :] for found in re.finditer(r" \(", text))
    if repeated := next((note for note in notes if any(other.endswith(note) for other in told)), ""):
        text = text.removesuffix(repeated)
    return text.replace(": no such key; ", ": ", 1) if told else text


def _list_wrong(error: Exception, arguments: Sequence[str]) -> list[tuple[str, Exception]]:
    """The words that are none here, each with the error of the command without those before; one, if it is no word."""
    from ..config.error_messages import find_word

    found: list[tuple[str, Exception]] = []
    current = error
    while (word := find_word(current, arguments)) and len(found) < COUNTED and word not in dict(found):
        found.append((word, current))
        if arguments[0] in COMMANDS and arguments[0] != RUN:
            break  # only runs can be planned without a word
        later = find_error(_replace(arguments, {word: [] for word, _ in found}))
        if later is None:
            break
        current = later
    return found or [("", error)]


def _replace(arguments: Sequence[str], words: Mapping[str, list[str]]) -> list[str]:
    """The arguments with other overrides in the place of some words; an option's name, without any, as it is meant.

    Args:
        arguments: of the command.
        words: a word, which may be of one job of a sweep, -> what it is here.
    """
    from ..config.familiar import list_meant
    from ..config.paths import list_groups
    from ..config.unknown_keys import list_shipped_options

    instead = [override for ours in words.values() for override in ours]
    keys, kept = {word.partition("=")[0] for word in (*words, *instead)}, []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in keys:
            kept.append(argument)
        elif key in list_groups() and (meant := list_meant(key, value, list_shipped_options(key))):
            kept.append(f"{key}={meant[0]}")
    return [*kept, *instead]
