"""Cells of the CSV files: text that a spreadsheet would take for a formula is marked as text."""

from __future__ import annotations

from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters of what spreadsheets evaluate, https://owasp.org/www-community/attacks/CSV_Injection."""


def make_cell(value: Any) -> Any:
    """A value as a cell: yes and no as 1 and 0; an apostrophe before text that begins like a formula.

    Numbers stay as they are, also those that are text in a config, such as -1.
    """
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and value.startswith(FORMULA) and not _is_number(value):
        return f"'{value}"
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii()
