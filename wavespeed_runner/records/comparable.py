"""Which jobs can be compared with each other: same model, prompts, seeds, reference and hardware."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from ..config.lossy import LOSSY_GROUPS, LOSSY_MEMORY_KEYS
from ..config.schema import Seeds
from .record import Record
from .reference import reference_sampler, reference_steps

SETTINGS = (
    *("cache", "quant", "attention", "compile", "accelerate", "memory", "parallel", "batch_size", "measure", "steps"),
    *("sampler", "metrics"),
)
"""Top-level keys of a config in which two jobs may differ and still be compared with each other. The sampler and the
steps of their references may not differ."""
NO_PART = ("claim", "outputs", "dry_run", "rerun")
"""Top-level keys that have no influence on a run."""


def identify_comparable(record: Record) -> str:
    """Equal for jobs that can be compared."""
    return _hash(_comparable(record))


def identify_rivals(record: Record) -> str:
    """Equal for comparable jobs with the same rivals: with the same batch size and memory options as well."""
    return _hash([_comparable(record), *_timing_options(record.config)])


def _comparable(record: Record) -> list[Any]:
    """What a job is compared with, on which prompts and which hardware."""
    config = {key: value for key, value in record.config.items() if key not in (*SETTINGS, *NO_PART)}
    stages = {
        name: {**stage, "options": _without_lossy_groups(stage["options"])}
        for name, stage in config["graph"]["stages"].items()
    }
    config["graph"] = {**config["graph"], "stages": stages}
    if config.get("seeds") == Seeds.same.value:  # records of earlier versions do not have the key
        del config["seeds"]
    reference = [reference_sampler(record), reference_steps(record)]
    return [config, *reference, record.plan.prompts, record.environment.device_name]


def _timing_options(config: dict[str, Any]) -> list[Any]:
    """Options that change the time of the reference and its rivals as much as that of a setting."""
    memory = {key: value for key, value in (config.get("memory") or {}).items() if key not in LOSSY_MEMORY_KEYS}
    return [config.get("batch_size"), memory]


def _hash(data: list[Any]) -> str:
    return sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


def _without_lossy_groups(options: Any) -> Any:
    if not isinstance(options, dict):
        return options
    return {key: value for key, value in options.items() if key not in LOSSY_GROUPS}
