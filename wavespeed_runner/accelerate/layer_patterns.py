"""Regular expressions that name layers, checked so that no config can make matching take forever."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ..errors import ConfigError

LONGEST = 200
"""Characters of a pattern."""
MOST_REPEATS = 4
"""`*`, `+` and the like in a row. The time to match grows with the name's length to this power."""


def check_patterns(key: str, patterns: Iterable[str]) -> None:
    """Refuses what is no regular expression, or could take forever to match.

    Raises:
        ConfigError: names the key and the pattern.
    """
    for pattern in patterns:
        if len(pattern) > LONGEST:
            raise ConfigError(f"{key}={pattern[:40]}...: {len(pattern)} characters; at most {LONGEST}; use several")
        try:
            re.compile(pattern)
            repeats = _count_repeats(_parse(pattern))
        except (re.error, RecursionError, OverflowError) as error:
            raise ConfigError(f"{key}={pattern}: not a regular expression: {error}; `.*to_q` is one") from None
        if repeats > MOST_REPEATS:
            raise ConfigError(
                f"{key}={pattern}: more than {MOST_REPEATS} repetitions in a row, or one inside of another, can take "
                "forever to match; use several patterns"
            )


def _parse(pattern: str) -> Any:
    """The pattern as a tree, by the parser of the standard library."""
    import re._parser as parser  # type: ignore[import-not-found]

    return parser.parse(pattern)


def _count_repeats(node: Any) -> int:
    """The most repetitions that follow each other in a tree; a repetition around another counts as too many."""
    total = 0
    for operation, argument in node:
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            total += MOST_REPEATS + 1 if _count_repeats(argument[2]) else 1
        elif name == "BRANCH":
            total += max(_count_repeats(branch) for branch in argument[1])
        elif name in ("SUBPATTERN", "ASSERT", "ASSERT_NOT"):
            total += _count_repeats(argument[-1])
        elif name in ("ATOMIC_GROUP",):
            total += _count_repeats(argument)
        elif name in ("GROUPREF", "GROUPREF_EXISTS"):
            total += MOST_REPEATS + 1
    return total
