"""Tries the overrides that a message is about to suggest: what is refused as well is no way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

Trial = Callable[[str, list[str]], str]
"""An override as typed, and those to put in its place -> why the command would be refused then; empty: it would not."""

LEAST, SECONDS = 5, 0.8
"""Suggestions that are always tried for one message, and how long more of them are: each one is planned, which takes a
tenth of a second or more."""

_trials: list[Trial] = []
_given: list[Sequence[str]] = []
_accepted: list[list[str]] = []
"""Ways that were accepted within the innermost `trying`."""


@contextmanager
def trying(trial: Trial, given: Sequence[str] = ()) -> Iterator[list[list[str]]]:
    """Within it suggestions are tried by `trial`, on the command line `given`; yields those that are accepted."""
    _accepted.clear()
    _trials.append(trial)
    _given.append(given)
    try:
        yield _accepted
    finally:
        _trials.pop()
        _given.pop()


def find_given(key: str) -> str:
    """What the command line has for a key; empty where it has nothing, or an experiment or a file may."""
    values = [
        argument.partition("=")[2] for argument in (_given[-1] if _given else ()) if argument.startswith(f"{key}=")
    ]
    return values[-1].partition(",")[0] if values else ""


def knows_command() -> bool:
    """Whether the command line is known: `find_given` then finds all that was typed."""
    return bool(_given)


def choose_accepted(typed: str, ways: Sequence[list[str]]) -> tuple[list[str], str]:
    """The first of several ways out that is accepted, of as many as there is time for.

    Args:
        typed: the override that is wrong; empty where it stands in a file, so that nothing can be tried.
        ways: overrides to put in its place, each with the value as typed.

    Returns:
        The overrides, and, where every way that was tried is refused, why the first one is.
    """
    if not typed or not _trials:
        return ways[0], ""
    whys: list[str] = []
    trial = _trials.pop()  # what fails while it is tried must not be tried in turn
    try:
        begun = perf_counter()
        otherwise = trial(typed, [])  # something else in the command is refused
        for way in ways:
            if len(whys) >= LEAST and perf_counter() - begun > SECONDS:
                break
            whys.append(trial(typed, way))
            if whys[-1] in ("", otherwise):
                _accepted.append(way)
                return way, ""
    finally:
        _trials.append(trial)
    return ways[0], whys[0]
