"""Calibrations as YAML files: written whole, read with every value checked. No torch: the plan reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from functools import lru_cache
from itertools import takewhile
from math import isfinite
from pathlib import Path
from typing import Any, cast

import yaml

from ...errors import ConfigError, one_line
from ...storage.atomic import write_text
from .data import Calibration, Key, ModelTrace, Polynomial, Triangle

SCHEMA_VERSION = 1
Version = tuple[int, ...] | None
AGAIN = "make it again with python -m wavespeed_runner calibrate"


def save(calibration: Calibration, path: Path) -> None:
    """Writes the file, whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    data = {"schema_version": SCHEMA_VERSION, "for": calibration.key, "made": calibration.made}
    data |= {name: value for name, value in asdict(calibration).items() if name not in ("key", "made")}
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(data, Dumper=dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    text = f"# Written by python -m wavespeed_runner calibrate\n{text}"
    write_text(path, text, way_out="choose another place with out=FILE")


def load_key(path: Path) -> Key:
    """What a file belongs to: its first lines alone are read.

    Raises:
        ConfigError: it cannot be read, or is none of ours.
    """
    return _head(path, _version(path))


@lru_cache(maxsize=256)
def _head(path: Path, version: Version) -> Key:
    data = _parsed(path, _text(path, until="made:"))
    return cast(Key, _checked(path, lambda: _key(data)))


def load(path: Path) -> Calibration:
    """A whole file, checked.

    Raises:
        ConfigError: it cannot be read, or something in it is not as it should be; says what.
    """
    return _loaded(path, _version(path))


@lru_cache(maxsize=16)
def _loaded(path: Path, version: Version) -> Calibration:
    data = _parsed(path, _text(path))
    return cast(Calibration, _checked(path, lambda: _calibration(data)))


def _version(path: Path) -> Version:
    """What changes when a file does: the plans of a sweep read each version once."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino


class _Bad(Exception):
    """Something in a file is not as it should be; the message says what."""


def _checked(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except _Bad as error:
        raise ConfigError(f"{path}: not a calibration: {error}; {AGAIN}") from None


def _text(path: Path, until: str | None = None) -> str:
    """Of the file; or of its lines before the one that begins so."""
    if not path.is_file():
        raise ConfigError(f"cache.calibration={path}: no such file; {AGAIN}")
    try:
        with path.open(encoding="utf-8") as file:
            return "".join(takewhile(lambda line: until is None or not line.startswith(until), file))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a calibration: not UTF-8 text; {AGAIN}") from None


def _parsed(path: Path, text: str) -> Any:
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else type(error).__name__
        raise ConfigError(f"{path}: not a calibration: broken YAML, {where}; {AGAIN}") from None


def _key(data: Any) -> Key:
    data = _mapping(data, "the file")
    if data.get("schema_version") != SCHEMA_VERSION:
        raise _Bad(f"schema_version is not {SCHEMA_VERSION}")
    key = _mapping(data.get("for"), "for")
    for name in ("model", "repo", "init", "sampler", "steps"):
        if name not in key:
            raise _Bad(f"for.{name} is missing")
    for name, value in key.items():
        if not (isinstance(name, str) and isinstance(value, str | int | float)):
            raise _Bad("for: names and plain values are needed")
    return key


def _calibration(data: Any) -> Calibration:
    key = _key(data)
    known = {"schema_version", "for"} | {one.name for one in fields(Calibration)} - {"key"}
    if unknown := set(map(str, data)) - known:
        raise _Bad(f"no part of it is called {min(unknown)[:40]!r}")
    sigmas = _numbers(data.get("sigmas"), "sigmas")
    n = len(sigmas)
    if not n:
        raise _Bad("sigmas: a number for each step is needed")
    signals = {
        name: {branch: _triangle(rows, f"signals.{name}.{branch}", n - 1, gaps=True) for branch, rows in one.items()}
        for name, one in ((name, _mapping(one, f"signals.{name}")) for name, one in _part(data, "signals"))
    }
    schedules = {
        _count(at, "schedules"): _schedule(steps, f"schedules.{at}", n) for at, steps in _part(data, "schedules")
    }
    if any(count != len(steps) for count, steps in schedules.items()):
        raise _Bad("schedules: each must have as many steps as it says")
    ratios = _numbers(data.get("ratios") or [], "ratios", count=n if data.get("ratios") else 0)
    if any(ratio <= 0 for ratio in ratios):
        raise _Bad("ratios: all must be above 0")
    return Calibration(
        key=key,
        made=_mapping(data.get("made"), "made"),
        sigmas=sigmas,
        signals=signals,
        model={branch: _model(trace, f"model.{branch}", n - 1) for branch, trace in _part(data, "model")},
        polynomial=_polynomial(data["polynomial"]) if data.get("polynomial") is not None else None,
        ratios=ratios,
        gram={_count(at, "gram"): _gram(rows, f"gram.{at}", n) for at, rows in _part(data, "gram")},
        schedules=schedules,
    )


def _mapping(value: Any, where: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _Bad(f"{where}: names and their values are needed")
    return value


def _part(data: dict[str, Any], name: str) -> Iterable[tuple[Any, Any]]:
    return _mapping(data.get(name) or {}, name).items()


def _count(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Bad(f"{where}: whole numbers are needed as names")
    return value


def _numbers(values: Any, where: str, *, count: int | None = None, gaps: bool = False) -> list[Any]:
    """Finite numbers as floats; with `gaps` also None."""
    if not isinstance(values, list) or (count is not None and len(values) != count):
        raise _Bad(f"{where}: {'' if count is None else f'{count} '}numbers are needed")
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
        if not (number or (gaps and value is None)):
            raise _Bad(f"{where}: finite numbers are needed")
    return [None if value is None else float(value) for value in values]


def _triangle(rows: Any, where: str, count: int, *, gaps: bool = False) -> list[list[Any]]:
    if not isinstance(rows, list) or len(rows) != count:
        raise _Bad(f"{where}: {count} rows are needed")
    return [_numbers(row, f"{where}, row {i}", count=i + 1, gaps=gaps) for i, row in enumerate(rows)]


def _gram(rows: Any, where: str, steps: int) -> Triangle:
    triangle = _triangle(rows, where, steps)
    if any(row[-1] < 0 for row in triangle):
        raise _Bad(f"{where}: the last number of a row is a square, and not negative")
    return triangle


def _model(trace: Any, where: str, count: int) -> ModelTrace:
    trace = _mapping(trace, where)
    return ModelTrace(
        input=_numbers(trace.get("input"), f"{where}.input", count=count, gaps=True),
        rate=_triangle(trace.get("rate"), f"{where}.rate", count, gaps=True),
    )


def _polynomial(data: Any) -> Polynomial:
    data = _mapping(data, "polynomial")
    coefficients = _numbers(data.get("coefficients"), "polynomial.coefficients")
    lowest, highest = _numbers(data.get("range"), "polynomial.range", count=2)
    if not coefficients or not 0 <= lowest <= highest:
        raise _Bad("polynomial: coefficients, and 0 <= lowest <= highest as its range")
    (error,) = _numbers([data.get("error")], "polynomial.error")
    points = _count(data.get("points"), "polynomial.points")
    return Polynomial(coefficients=coefficients, range=[lowest, highest], error=error, points=points)


def _schedule(steps: Any, where: str, of: int) -> list[int]:
    valid = isinstance(steps, list) and all(isinstance(s, int) and not isinstance(s, bool) for s in steps)
    if not (valid and steps and steps[0] == 1 and steps == sorted(set(steps)) and steps[-1] <= of):
        raise _Bad(f"{where}: steps in order, each once, from 1 to at most {of}")
    return list(steps)
