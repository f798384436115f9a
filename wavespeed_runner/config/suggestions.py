"""Tries the overrides that a message is about to suggest: what is refused as well is no way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Trial = Callable[[str, list[str]], str]
"""An override as typed, and those to put in its place -> why the command would be refused then; empty: it would not."""

MOST = 40
"""Suggestions that are tried for one message; each is planned in some hundredths of a second."""

_trials: list[Trial] = []


@contextmanager
def trying(trial: Trial) -> Iterator[None]:
    """Within it suggestions are tried by `trial`, on the command line that was typed."""
    _trials.append(trial)
    try:
        yield
    finally:
        _trials.pop()


def choose_accepted(typed: str, ways: Sequence[list[str]]) -> tuple[list[str], str]:
    """The first of several ways out that is accepted.

    Args:
        typed: the override that is wrong; empty where it stands in a file, so that nothing can be tried.
        ways: overrides to put in its place, each with the value as typed.

    Returns:
        The overrides, and, where every way is refused, why the first one is.
    """
    if not typed or not _trials:
        return ways[0], ""
    trial, whys = _trials.pop(), []  # what fails while it is tried must not be tried in turn
    try:
        otherwise = trial(typed, [])  # something else in the command is refused
        for way in ways[:MOST]:
            whys.append(trial(typed, way))
            if whys[-1] in ("", otherwise):
                return way, ""
    finally:
        _trials.append(trial)
    return ways[0], whys[0]
