"""Values that a program gives, checked for what Python or a library would fail over later without naming the key."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError

HALF = re.compile("[\ud800-\udfff]")
"""Half of a character: valid in Python and as an escape in JSON, and nowhere else."""


def show_shortened(value: Any) -> str:
    """A value of any kind for a message, shortened."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes no number of thousands of digits
        return type(value).__name__


def refuse_halves(key: str, value: Any) -> None:
    """Raises ConfigError for a text, or one in a list, with half of a character: no tokenizer and no record has it."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    for text in texts:
        if isinstance(text, str) and HALF.search(text):
            raise ConfigError(
                f"{key}={show_shortened(text)}: not valid Unicode, it has half of a character (a surrogate)"
            )


def read_value(key: str, value: Any) -> Any:
    """A value of a call. Raises ConfigError for one that no key of a call has."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if key in ("image", "mask") and not isinstance(value, str):
        raise ConfigError(f"{key}: the path of a file is needed, not {type(value).__name__}")
    if isinstance(value, str) and "${" in value:
        raise ConfigError(f"{key}={value}: no interpolation at a call; write it out")
    if isinstance(value, Mapping):
        raise ConfigError(f"{key}: a value is needed, not {type(value).__name__}")
    refuse_unreadable(key, value)
    return value


def refuse_unreadable(key: str, value: Any) -> None:
    """Raises ConfigError for what Python itself fails over, later and without a word of which key it was."""
    refuse_halves(key, value)
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, int) and abs(each) >= 2**64:
            raise ConfigError(f"{key}: a number of {each.bit_length()} bits; at most 64 are read")
        if isinstance(each, list | tuple | dict | set | bytes) and each is not value:
            raise ConfigError(f"{key}: a value, or a list of values, is needed, not {type(each).__name__} in a list")
