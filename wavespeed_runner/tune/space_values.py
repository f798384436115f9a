"""Reads the values of a space's file: mappings, lists, keys, and the numbers along a ladder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil, floor, isfinite
from typing import Any

from ..config.compose import find_key
from ..config.trust import is_reserved
from ..errors import ConfigError, did_you_mean

MOST_VALUES = 64
GROUPS = (
    "sampler",
    "steps",
    "cache",
    "quant",
    "compile",
    "attention",
    "accelerate",
    "memory",
    "parallel",
    "batch_size",
)
"""What a space may set: nothing that changes the reference."""
KEY = re.compile(r"[a-z_]\w*(?:[./]\w+)*", re.ASCII)
FEWEST_STEPS = 2
"""With fewer, most solvers give no image."""
Scalar = str | int | float | bool | None


def read_values(data: Any, where: str, steps: int) -> list[Scalar]:
    """The values of a ladder, from fast to slow."""
    if isinstance(data, list):
        return read_list(data, where)
    content = read_mapping(data, where)
    if set(content) == {"of_steps"}:
        low, high = _read_numbers(content["of_steps"], f"{where}.of_steps", 2)
        if not 0 < low <= high <= 1:
            raise ConfigError(
                f"{where}.of_steps={[low, high]}: shares of the model's steps are needed, 0 < LOW <= HIGH <= 1"
            )
        fewest = max(FEWEST_STEPS, ceil(low * steps - 1e-9))
        return list(range(fewest, max(fewest, floor(high * steps + 1e-9)) + 1))
    if set(content) == {"from", "to", "count"}:
        first, last = _read_numbers([content["from"], content["to"]], where, 2)
        count = content["count"]
        if type(count) is not int or not 2 <= count <= MOST_VALUES or first <= 0 or last <= 0:
            raise ConfigError(f"{where}: from and to above 0, and a count of 2 to {MOST_VALUES}, are needed")
        return [float(f"{first * (last / first) ** (index / (count - 1)):.3g}") for index in range(count)]
    raise ConfigError(f"{where}: a list, {{from: , to: , count: }} or {{of_steps: [LOW, HIGH]}} is needed")


def read_mapping(data: Any, where: str) -> dict[str, Any]:
    """A mapping whose keys are names."""
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ConfigError(f"{where}: a mapping of names is needed, not {data!s:.60}")
    return data


def refuse_unknown(content: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Raises ConfigError for a key that is not one of those known."""
    for key in content:
        if key not in known:
            raise ConfigError(f"{where}: {key}: no such key{did_you_mean(key, known)} (there are {', '.join(known)})")


def read_key(key: str, where: str) -> str:
    """A key of the configuration that makes a run faster, and leaves what is asked for as it is."""
    if is_reserved(key) or not KEY.fullmatch(key) or re.split(r"[./]", find_key(key))[0] not in GROUPS:
        raise ConfigError(
            f"{where}.{key}: a space may not set it, only {', '.join(GROUPS)}; type it on the command line"
        )
    return key


def read_list(data: Any, where: str) -> list[Scalar]:
    """A list of plain values, not empty."""
    if not isinstance(data, list) or not 0 < len(data) <= MOST_VALUES:
        raise ConfigError(f"{where}: a list of 1 to {MOST_VALUES} values is needed")
    return [read_scalar(value, where) for value in data]


def read_scalar(value: Any, where: str) -> Scalar:
    """A plain value."""
    if not isinstance(value, str | int | float | bool | None):
        raise ConfigError(f"{where}: {value!s:.60}: a text, a number, true, false or null is needed")
    if isinstance(value, float) and not isfinite(value):
        raise ConfigError(f"{where}: {value}: a finite number is needed")
    return value


EXPONENT = re.compile(r"[+-]?\d{1,20}(\.\d{0,20})?[eE][+-]?\d{1,3}", re.ASCII)
"""A number that YAML takes for a text, for it wants a point and a sign in it: `8e-1`."""


def _read_numbers(data: Any, where: str, count: int) -> list[float]:
    if isinstance(data, list):
        data = [float(one) if isinstance(one, str) and EXPONENT.fullmatch(one) else one for one in data]
    is_right = isinstance(data, list) and len(data) == count
    if not is_right or not all(type(one) in (int, float) and isfinite(one) for one in data):
        raise ConfigError(f"{where}: {count} numbers are needed, not {data!s:.60}")
    return [float(one) for one in data]
