"""Reads and writes calibrations as YAML files, checking every value that is read.

Loads no torch, because the plan reads calibrations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ...errors import ConfigError, format_error, make_printable
from ...inputs.files import CALIBRATION, InputError, read_head, read_text
from ...inputs.limits import MAX_CALIBRATION_HEAD_BYTES, MAX_CALIBRATION_NODES
from ...inputs.yaml_documents import parse_yaml
from ...storage.atomic import write_text
from ...storage.yaml_text import dump_yaml
from ..predictors.fitted import find_problem
from .data import Calibration, Key, ModelTrace, Polynomial, Triangle
from .file_solvers import read_caches, read_solvers
from .file_values import InvalidValue, read_count, read_items, read_mapping, read_numbers, read_steps, read_triangle

SCHEMA_VERSION = 1
T = TypeVar("T")
LARGEST = 1e12
"""Of a calibration's ratios."""
FileVersion = tuple[int, ...] | None
WAY_OUT = "make it again with python -m wavespeed_runner calibrate"


def save(calibration: Calibration, path: Path) -> None:
    """Writes a calibration, atomically.

    Raises:
        RunError: the file cannot be written.
    """
    data = {"schema_version": SCHEMA_VERSION, "for": calibration.key, "made": calibration.made}
    data |= {name: value for name, value in asdict(calibration).items() if name not in ("key", "made")}
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = dump_yaml(data, dumper, default_flow_style=None, width=120)
    text = f"# Written by python -m wavespeed_runner calibrate\n{text}"
    write_text(path, text, way_out="choose another place with out=FILE")


def load_key(path: Path) -> Key:
    """The key of a calibration file; reads its first lines only, where it is written as we do.

    Raises:
        ConfigError: the file cannot be read, or is not a calibration.
    """
    return _load_key(path, _get_version(path))


@lru_cache(maxsize=256)
def _load_key(path: Path, version: FileVersion) -> Key:
    try:
        data = _read(path, _read_first_lines)
    except ConfigError:
        data = None
    if not isinstance(data, dict) or not {"schema_version", "for"} <= data.keys():
        data = _read(path, _read_whole)  # its keys are in another order than we write them
    return _check(path, lambda: _read_key(data))


def load(path: Path) -> Calibration:
    """A whole calibration file, with every value checked.

    Raises:
        ConfigError: the file cannot be read, or a value in it is wrong; the message says which.
    """
    return _load(path, _get_version(path))


@lru_cache(maxsize=16)
def _load(path: Path, version: FileVersion) -> Calibration:
    data = _read(path, _read_whole)
    return _check(path, lambda: _read_calibration(data))


def _get_version(path: Path) -> FileVersion:
    """Changes whenever the file does, so that the plans of a sweep parse each version of it once."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino


def _check(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except InvalidValue as error:
        raise ConfigError(f"{path}: not a calibration: {error}; {WAY_OUT}") from None


def _read(path: Path, read: Callable[[Path], str]) -> Any:
    """Reads a file, or a part of it, and parses it."""
    if not path.is_file():
        raise ConfigError(f"cache.calibration={path}: no such file; {WAY_OUT}")
    try:
        return parse_yaml(read(path), MAX_CALIBRATION_NODES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or format_error(error)}") from None
    except InputError as error:
        raise ConfigError(f"{path}: not a calibration: {error}; {WAY_OUT}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else type(error).__name__
        problem = make_printable(getattr(error, "problem", None) or "")[:80]
        raise ConfigError(f"{path}: not a calibration: broken YAML, {where}: {problem}; {WAY_OUT}") from None


def _read_whole(path: Path) -> str:
    return read_text(path, CALIBRATION.max_bytes)


def _read_first_lines(path: Path) -> str:
    """The lines before `made:`, which are all that tells what a calibration is for."""
    try:
        return read_head(path, b"\nmade:", MAX_CALIBRATION_HEAD_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("not UTF-8 text") from None


def _read_key(data: Any) -> Key:
    data = read_mapping(data, "the file")
    version = data.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:  # true is 1 to Python
        raise InvalidValue(f"schema_version is not {SCHEMA_VERSION}")
    key = read_mapping(data.get("for"), "for")
    for name in ("model", "repo", "init", "sampler", "steps"):
        if name not in key:
            raise InvalidValue(f"for.{name} is missing")
    for name, value in key.items():
        if not (isinstance(name, str) and isinstance(value, str | int | float)):
            raise InvalidValue("for: must map names to plain values")
    return key


def _read_calibration(data: Any) -> Calibration:
    key = _read_key(data)
    known = {"schema_version", "for"} | {part.name for part in fields(Calibration)} - {"key"}
    if unknown := set(map(str, data)) - known:
        raise InvalidValue(f"unknown key {min(unknown)[:40]!r}")
    samplers = read_solvers(data)
    sigmas = read_numbers(data.get("sigmas") or [], "sigmas")
    n = len(sigmas)
    if not n and not samplers:
        raise InvalidValue("sigmas: must have a number for each step")
    return Calibration(
        key=key,
        made=read_mapping(data.get("made"), "made"),
        sigmas=sigmas,
        signals={name: _read_signal(traces, f"signals.{name}", n) for name, traces in read_items(data, "signals")},
        model={branch: _read_model_trace(t, f"model.{branch}", n - 1) for branch, t in read_items(data, "model")},
        polynomial=_read_polynomial(data["polynomial"]) if data.get("polynomial") is not None else None,
        ratios=_read_positive(data.get("ratios") or [], n, "ratios"),
        gram={read_count(at, "gram"): _read_gram(rows, f"gram.{at}", n) for at, rows in read_items(data, "gram")},
        importance=_read_positive(data.get("importance") or [], n, "importance"),
        schedules=_read_schedules(data, n),
        samplers=samplers,
        caches=read_caches(data, n),
    )


def _read_signal(traces: Any, where: str, steps: int) -> dict[str, list[list[float | None]]]:
    branches = read_mapping(traces, where).items()
    return {branch: read_triangle(rows, f"{where}.{branch}", steps - 1, gaps=True) for branch, rows in branches}


def _read_model_trace(trace: Any, where: str, count: int) -> ModelTrace:
    trace = read_mapping(trace, where)
    return ModelTrace(
        input=read_numbers(trace.get("input"), f"{where}.input", count=count, gaps=True),
        rate=read_triangle(trace.get("rate"), f"{where}.rate", count, gaps=True),
    )


def _read_polynomial(data: Any) -> Polynomial:
    data = read_mapping(data, "polynomial")
    coefficients = read_numbers(data.get("coefficients"), "polynomial.coefficients")
    lowest, highest = read_numbers(data.get("range"), "polynomial.range", count=2)
    if not coefficients or not 0 <= lowest <= highest:
        raise InvalidValue("polynomial: must have coefficients, and a range with 0 <= lowest <= highest")
    (error,) = read_numbers([data.get("error")], "polynomial.error")
    points = read_count(data.get("points"), "polynomial.points")
    return Polynomial(coefficients=coefficients, range=[lowest, highest], error=error, points=points)


def _read_positive(values: Any, steps: int, where: str) -> list[float]:
    numbers = read_numbers(values, where, count=steps if values else 0)
    if any(not 0 < number < LARGEST for number in numbers):
        raise InvalidValue(f"{where}: all must be above 0, and below {LARGEST:g}")
    return numbers


def _read_gram(rows: Any, where: str, steps: int) -> Triangle:
    triangle = read_triangle(rows, where, steps)
    if problem := find_problem(triangle):
        raise InvalidValue(f"{where}: {problem}")
    return triangle


def _read_schedules(data: dict[str, Any], steps: int) -> dict[int, list[int]]:
    schedules = {}
    for name, value in read_items(data, "schedules"):
        count = read_count(name, "schedules")
        schedules[count] = read_steps(value, f"schedules.{name}", steps)
        if count != len(schedules[count]):
            raise InvalidValue("schedules: each must have as many steps as its key says")
    return schedules
