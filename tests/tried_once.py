"""A text that a tokenizer has read in a child process is read in none again by the same tokenizer, loaded once more.

Tests load the same tiny folders again and again, and a child of a process with all those libraries takes longer than
what it does. What a child refuses, and the first time of everything, stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from wavespeed_runner.models.weights import tokenizer_bounds

_read: set[tuple[str, str]] = set()


def _call_once(call: Callable[..., Any], function: Callable[..., Any], *args: Any, **bounds: Any) -> Any:
    """`call_bounded`, unless these texts went well before."""
    tokenizer = getattr(args[0], "__self__", None)
    if function is not tokenizer_bounds._try_encode or not hasattr(tokenizer, "backend_tokenizer"):
        return call(function, *args, **bounds)
    key = (tokenizer.backend_tokenizer.to_str(), repr(args[1:]))
    if key not in _read:
        call(function, *args, **bounds)
        _read.add(key)
    return None


def remember_texts() -> None:
    """From now on, in this process."""
    tokenizer_bounds.call_bounded = partial(_call_once, tokenizer_bounds.call_bounded)
