"""What a column of `results.csv` is: a name, its meaning, and how its value is read from a row of the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..records.record import Record
from .rows import Row


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of `results.csv`."""

    name: str
    meaning: str
    value: Callable[[Row], Any]
    """Returns the value for a row. None gives an empty cell, a bool 1 or 0."""


def get_record(row: Row) -> Record:
    """The record of a row.

    Raises:
        LookupError: there is none, so the cell stays empty.
    """
    if row.record is None:
        raise LookupError
    return row.record
