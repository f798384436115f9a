"""Cells of the CSV files: formulas are marked as text, and no control characters reach the terminal through `cat`."""

from __future__ import annotations

from typing import Any

from ..errors import hide_controls

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters of what spreadsheets evaluate, https://owasp.org/www-community/attacks/CSV_Injection."""


def make_cell(value: Any) -> Any:
    """A value as a cell: yes and no as 1 and 0; an apostrophe before text that begins like a formula, `?` for controls.

    Numbers stay as they are, also those that are text in a config, such as -1.
    """
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, str):
        return value
    is_formula = value.startswith(FORMULA) and not _is_number(value)
    return ("'" if is_formula else "") + hide_controls(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii()
