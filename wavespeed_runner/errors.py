"""The two things that can go wrong, and how each is said in one line.

`ConfigError` (exit status 2): what was asked for is wrong; nothing was loaded and nothing written.
`RunError` (exit status 1): it was right, and failed while running; the record says where.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ConfigError(Exception):
    """The configuration is wrong. The message names the key, the value, what is allowed, and the way out."""


class Unfit(ConfigError):
    """A rule refuses these settings for this model, mostly in combination: a sweep leaves the job out and says why, a
    single run is refused."""


class RunError(Exception):
    """A stage failed for a reason that the user can mend; the message says how."""


def did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or the valid names when none is near; empty when there are none."""
    names = sorted(set(valid))
    near = get_close_matches(wrong.lower(), names, n=1, cutoff=0.6)
    # `treshold` for `residual_diff_threshold`
    near = near or [name for name in names if get_close_matches(wrong.lower(), name.split("_"), cutoff=0.8)]
    if near:
        return f" (did you mean '{near[0]}'?)"
    return f" (allowed: {', '.join(names)})" if names else ""


def make_printable(text: str) -> str:
    """One line without control characters: what comes from a file may hold codes that a terminal obeys."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def format_error(error: BaseException) -> str:
    """An exception's message on one line, or its type when it has none."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
