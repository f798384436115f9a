"""Reads and writes record.json, strictly: a damaged or a hostile file is refused in one line.

Keys that are not known are ignored, so that a record of a later release with the same schema version can be read.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ConfigError, format_error
from ..inputs.documents import parse_json, refuse_many
from ..inputs.files import read_file
from ..inputs.limits import (
    MAX_CONFIG_BYTES,
    MAX_OVERRIDES,
    MAX_PROMPTS,
    MAX_RECORD_BYTES,
    MAX_RECORD_VALUES,
    MAX_REPORT_BYTES,
    MAX_REPORT_VALUES,
    MAX_STEP_RECORDS,
    MAX_TIMINGS,
    MIB,
)
from ..storage.atomic import write_text
from .record import SCHEMA_VERSION, Record

FILE = "record.json"
JUDGE = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
"""The name of a judge, which stands in pages, tables and experiment files."""


@dataclass
class Allowance:
    """What all records of one report may have together: they stay in memory."""

    size: int = MAX_REPORT_BYTES
    values: int = MAX_REPORT_VALUES

    def take(self, content: bytes) -> None:
        """Takes a record from it. Raises ValueError if it would need more."""
        values = content.count(b",")
        if len(content) > self.size or values > self.values:
            raise ValueError(
                f"not read: with it the records would have more than {MAX_REPORT_BYTES // MIB} MiB, or "
                f"{MAX_REPORT_VALUES} values; give a folder with fewer of them"
            )
        self.size, self.values = self.size - len(content), self.values - values


def read_record(path: Path, allowance: Allowance | None = None) -> Record:
    """Reads a record of this or an earlier schema version.

    Args:
        path: the file.
        allowance: what this and other records may have together.

    Raises:
        ConfigError: it cannot be read, or is not a record of a known version; names the first field that is wrong.
    """
    try:
        content = read_file(path, MAX_RECORD_BYTES)
        if allowance:
            allowance.take(content)
        return parse_record(content)
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path}: not a readable record: {format_error(error)}") from None


def parse_record(content: bytes) -> Record:
    """Decodes, upgrades and checks the content of a record.json.

    Raises:
        ValueError, RecursionError, msgspec.MsgspecError: not JSON, or not a record of a known version.
    """
    return record_from_data(parse_json(content, most=MAX_RECORD_VALUES))


def record_from_data(data: Any) -> Record:
    """Checks plain data, such as decoded JSON, and makes a record of it.

    Raises:
        ValueError: it is not a record of a known version.
        msgspec.ValidationError: a field is missing, of the wrong type, or out of bounds.
    """
    version = data.get("schema_version") if isinstance(data, dict) else None
    if type(version) is not int:  # true is 1 to Python
        raise ValueError(f"schema_version {version}: a whole number is needed")
    if version == 1:
        data = _upgrade_from_1(data)
    elif version != SCHEMA_VERSION:
        raise ValueError(f"schema_version {version}; this release reads versions 1 to {SCHEMA_VERSION}")
    record = msgspec.convert(data, Record)
    if max(len(record.plan.prompts or ()), len(record.samples)) > MAX_PROMPTS:
        raise ValueError(f"more than {MAX_PROMPTS} prompts or images")
    for index, sample in enumerate(record.samples):
        if max(len(sample.raw_seconds), len(sample.reference_raw_seconds or ())) > MAX_TIMINGS:
            raise ValueError(f"samples[{index}]: more than {MAX_TIMINGS} repetitions")
        if len(sample.steps) > MAX_STEP_RECORDS:
            raise ValueError(f"samples[{index}]: more than {MAX_STEP_RECORDS} steps")
    _refuse_names(record)
    refuse_many(record.config)
    refuse_many(record.overrides, MAX_OVERRIDES)
    if sum(map(len, record.overrides)) > MAX_CONFIG_BYTES:  # Hydra takes long for each character
        raise ValueError(f"more than {MAX_CONFIG_BYTES} characters of overrides")
    return record


def _refuse_names(record: Record) -> None:
    """Raises ValueError for names that could not be those of packages and judges."""
    if not all(name.isprintable() for name in record.environment.versions):
        raise ValueError("environment.versions: a name with control characters")
    names = [*(record.metrics or {}), *(name for sample in record.samples for name in sample.metrics or {})]
    if wrong := next((name for name in names if not JUDGE.fullmatch(name)), None):
        raise ValueError(f"metrics: {wrong[:40]!r} is the name of no judge")


def record_data(record: Record) -> dict[str, Any]:
    """The record as plain data, with the keys of the file."""
    data: dict[str, Any] = msgspec.to_builtins(record)
    return data


def write_record(folder: Path, record: Record) -> None:
    """Writes record.json into a folder, whole or not at all.

    Raises:
        ValueError: a number in it is not finite.
        RunError: it cannot be written.
    """
    # Not msgspec's encoder, which would turn NaN and infinity into null.
    write_text(folder / FILE, json.dumps(record_data(record), indent=1, allow_nan=False) + "\n")


def _upgrade_from_1(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 called the predicted steps `cache.foretold`."""
    cache = data.get("cache")
    if isinstance(cache, dict) and "foretold" in cache:
        kept = {key: value for key, value in cache.items() if key != "foretold"}
        cache = {**kept, "predicted": cache["foretold"]}
    return {**data, "schema_version": 2, "cache": cache}
