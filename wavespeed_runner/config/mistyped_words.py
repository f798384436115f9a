"""Explains words of the command line whose keys are right or missing: a value for an option's name, a word alone."""

from __future__ import annotations

import re
from pathlib import Path

from .familiar import list_meant
from .paths import list_groups
from .unknown_keys import OWNERS, list_shipped_options

VALUE = re.compile(r"true|false|null|[+-]?[\d._]+(e[+-]?\d+)?", re.IGNORECASE)
"""What Hydra reads as no text."""


def explain_value_as_option(overrides: list[str]) -> str:
    """Explains `compile=true` or `parallel=2`, which Hydra reads as a value and not as an option's name."""
    for group, _, value in (override.partition("=") for override in overrides):
        if group in list_groups() and VALUE.fullmatch(value):
            options = list_shipped_options(group)
            if value.lower() in ("false", "null", "0") and "none" in options:
                return f"{group}={value}: the name of an option is needed; without any: {group}=none"
            return f"{group}={value}: the name of an option is needed (allowed: {', '.join(options)})"
    return ""


def describe_bare_word(word: str) -> str:
    """`, such as model=flux` for a word that is an option's name, or begins some; empty for any other.

    Of a file or folder it is said how its settings are taken.
    """
    if _is_file(word) or _is_file(f"{word}/record.json"):
        return f"; from={word} takes the settings of an image, a video, a run's folder, or a config or an experiment"
    for group in ("model", *(group for group in list_groups() if "/" not in group)):
        if meant := list_meant(group, word, list_shipped_options(group)):
            return f", such as {' or '.join(f'{group}={option}' for option in meant[:OWNERS])}"
    return ""


def _is_file(name: str) -> bool:
    """False too of a text that no file can be called: it is too long, or has a zero byte."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False
