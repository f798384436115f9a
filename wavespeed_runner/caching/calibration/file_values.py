"""Checks the values of a calibration file: mappings, counts, lists of finite numbers, triangles."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Any


class InvalidValue(Exception):
    """A value in the file is wrong; the message says which."""


def read_mapping(value: Any, where: str) -> dict[Any, Any]:
    """The value if it is a mapping. `where` is the key that messages name, here and below."""
    if not isinstance(value, dict):
        raise InvalidValue(f"{where}: must be a mapping")
    return value


def read_items(data: dict[str, Any], name: str) -> Iterable[tuple[Any, Any]]:
    """The items of a mapping that may be missing."""
    return read_mapping(data.get(name) or {}, name).items()


def read_count(value: Any, where: str) -> int:
    """A whole number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidValue(f"{where}: its keys must be whole numbers")
    return value


def read_numbers(values: Any, where: str, *, count: int | None = None, gaps: bool = False) -> list[Any]:
    """Finite numbers as floats; with `gaps`, None is allowed among them."""
    if not isinstance(values, list) or (count is not None and len(values) != count):
        raise InvalidValue(f"{where}: must be a list of {'' if count is None else f'{count} '}numbers")
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
        if not (number or (gaps and value is None)):
            raise InvalidValue(f"{where}: the numbers must be finite")
    return [None if value is None else float(value) for value in values]


def read_steps(value: Any, where: str, most: int) -> list[int]:
    """Steps in ascending order, counted from 1, the first one among them."""
    valid = isinstance(value, list) and all(isinstance(step, int) and not isinstance(step, bool) for step in value)
    if not (valid and value and value[0] == 1 and value == sorted(set(value)) and value[-1] <= most):
        raise InvalidValue(f"{where}: must be steps in ascending order, each once, from 1 to at most {most}")
    return list(value)


def read_triangle(rows: Any, where: str, count: int, *, gaps: bool = False) -> list[list[Any]]:
    """So many rows of numbers, each one longer than the row before."""
    if not isinstance(rows, list) or len(rows) != count:
        raise InvalidValue(f"{where}: must have {count} rows")
    return [read_numbers(row, f"{where}, row {i}", count=i + 1, gaps=gaps) for i, row in enumerate(rows)]
