"""Regular expressions that name layers, checked so that no config can make matching take forever."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import comb
from typing import Any

from ..errors import ConfigError

LONGEST = 200
"""Characters of a pattern."""
NAME_LENGTH = 64
"""Characters of a long layer name; the time to match is estimated for it."""
MOST_REPEATS = 4
"""`*`, `+` and the like in a row."""
MOST_TRIES = 800_000
"""Of matching all patterns of a key with one such name, which takes a few hundredths of a second. Four repetitions in
a row need 766,480, two need 2,080."""


def check_patterns(key: str, patterns: Iterable[str]) -> None:
    """Refuses what is no regular expression, or could take forever to match; also all patterns of a key together.

    Raises:
        ConfigError: names the key and the pattern.
    """
    total = 0
    for pattern in patterns:
        if len(pattern) > LONGEST:
            raise ConfigError(f"{key}={pattern[:40]}...: {len(pattern)} characters; at most {LONGEST}; use several")
        try:
            re.compile(pattern)
            total += _count_steps(*_measure(_parse(pattern)))
        except (re.error, RecursionError, OverflowError) as error:
            raise ConfigError(f"{key}={pattern}: not a regular expression: {error}; `.*to_q` is one") from None
        if total > MOST_TRIES:
            raise ConfigError(
                f"{key}={pattern}: more than 4 repetitions in a row, one inside of another, alternatives inside of "
                "one, or many alternatives in a row can take forever to match; use fewer, or simpler patterns"
            )


def _parse(pattern: str) -> Any:
    """The pattern as a tree, by the parser of the standard library."""
    import re._parser as parser  # type: ignore[import-not-found]

    return parser.parse(pattern)


def _count_steps(repeats: int, ways: int) -> int:
    """Steps of matching a name in vain: all places where repetitions may end, in each way through alternatives."""
    return ways * comb(NAME_LENGTH + repeats - 1, repeats) if repeats <= MOST_REPEATS else MOST_TRIES + 1


def _measure(node: Any) -> tuple[int, int]:
    """The most repetitions that follow each other in a tree, and the number of ways through its alternatives."""
    total, ways = 0, 1
    for operation, argument in node:
        name, repeats, more = str(operation), 0, 1
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            repeats, more = _measure_repetition(*argument)
        elif name == "BRANCH":
            branches = [_measure(branch) for branch in argument[1]]
            repeats, more = max(count for count, _ in branches), sum(count for _, count in branches)
        elif name in ("SUBPATTERN", "ASSERT", "ASSERT_NOT"):
            repeats, more = _measure(argument[-1])
        elif name in ("ATOMIC_GROUP",):
            repeats, more = _measure(argument)
        elif name in ("GROUPREF", "GROUPREF_EXISTS"):
            repeats = MOST_REPEATS + 1
        total, ways = total + repeats, ways * more
    return total, ways


def _measure_repetition(least: int, most: int, node: Any) -> tuple[int, int]:
    """As `_measure`; what repeats something that can itself match in several ways counts as too many."""
    repeats, ways = _measure(node)
    if most <= 1:
        return repeats, ways + 1
    # What matches nothing at all can be repeated a billion times.
    return (MOST_REPEATS + 1 if repeats or ways > 1 or least > LONGEST else 1), 1
