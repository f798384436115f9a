"""What a rule is: a condition on a configuration, and what to say if it is true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..config.schema import Config
from ..models.family import Family

Verdict = Literal["good", "bad", "unverified"]
Text = str | Callable[[Config, Family], str]
"""A format string, or a function that returns the whole text."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Applies if `when(config, family)` is true.

    Its texts are formatted with `c` (the configuration) and `f` (the facts of the model family).
    """

    id: str
    verdict: Verdict
    """good: known to work; bad: refused; unverified: runs, with a warning."""
    when: Callable[[Config, Family], bool]
    message: Text
    fix: Text = ""
    source: str = ""
    """A paper, an issue, or a test of ours."""


def suggest_own(c: Config, key: str, otherwise: str) -> str:
    """Suggests the model's own value of a top-level key; where that is the refused one, the model's key.

    Args:
        c: the configuration.
        key: `steps`, for example; `model.steps` has the model's own.
        otherwise: a value that is allowed, for that key.
    """
    own = getattr(c.model, key)
    if own != getattr(c, key):
        return f"{key}={own} is the model's own"
    return f"it is the model's own, model.{key}; {key}={otherwise}, or leave model.{key} out"
