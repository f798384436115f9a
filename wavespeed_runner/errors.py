"""The exceptions of the program, and helpers for their one-line messages.

`ConfigError` (exit status 2): the configuration is wrong; nothing was loaded and nothing written.
`RunError` (exit status 1): the configuration is right, but something failed while running; the record says where.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

INTERRUPTED_MESSAGE = "interrupted; run the same command again to continue from the stored results"
"""The message of every interrupted command."""

KEPT = "\n\t\u200b\u200c\u200d"
"""Characters without a picture that text on several lines may have: ends of lines, tabs, joiners."""


class ConfigError(Exception):
    """The configuration is wrong. The message names the key, the value, what is allowed, and the way out."""


class Unfit(ConfigError):
    """These settings do not fit together, or not this model.

    A single run is refused; a sweep leaves the job out and says why.
    """


class RunError(Exception):
    """Something failed while running for a reason that the user can fix; the message says how."""


def is_panic(error: BaseException) -> bool:
    """True for a panic of a library in Rust, such as tokenizers, which is no `Exception`.

    https://docs.rs/pyo3/latest/pyo3/panic/struct.PanicException.html
    """
    return not isinstance(error, Exception | KeyboardInterrupt | SystemExit | GeneratorExit)


def did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    """Suggests the nearest valid name: ` (did you mean 'x'?)`; lists all valid names if none is near."""
    names = sorted(set(valid))
    near = get_close_matches(wrong.lower(), names, n=1, cutoff=0.6)
    # `treshold` for `residual_diff_threshold`
    near = near or [name for name in names if get_close_matches(wrong.lower(), name.split("_"), cutoff=0.8)]
    if near:
        return f" (did you mean '{near[0]}'?)"
    return f" (allowed: {', '.join(names)})" if names else ""


def make_printable(text: str) -> str:
    """One line without control characters: text from a file may hold escape codes for the terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def hide_controls(text: str) -> str:
    """The text with its lines, for pages and tables: without what a terminal acts on or what turns the writing around.

    Joiners stay: scripts and emoji have some.
    """
    return "".join(c if c.isprintable() or c in KEPT else " " if c.isspace() else "?" for c in text)


def format_error(error: BaseException) -> str:
    """An exception's message on one line, or its type if it has no message."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def refuse_undecodable(what: str, text: str) -> None:
    """Refuses a name that is not UTF-8: a record that holds it would not be valid Unicode, and could not be read.

    Raises:
        ConfigError: says so; `what` is what holds the name.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(f"{what}: a name that is not UTF-8, which no record can hold; rename it") from None
