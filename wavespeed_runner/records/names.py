"""What models and settings are called, in tables and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config.lossy import lossy_names
from .record import Record
from .reference import against_reference, find_solver, name_steps


def model_name(model: dict[str, Any]) -> str:
    """`demo`, `FLUX.1-dev`, `flux (tiny)`: what was loaded."""
    if model.get("init", "pretrained") != "pretrained":
        return f"{model['name']} ({model['init']})"
    return Path(str(model.get("repo") or model["name"])).stem or model["name"]


def setting_name(record: Record) -> str:
    """The accelerated column: `fbcache`, `fbcache + fp8_dq`, `no cache`, `no cache, unipc 12 steps`."""
    steps = f", {name_steps(find_solver(record), record.config['steps'])}" if against_reference(record) else ""
    return (" + ".join(lossy_names(record.config)) or "no cache") + steps


def describe_failure(record: Record) -> str:
    """`stage denoise: OutOfMemoryError: ...`: why a run failed, on one line; empty where it did not."""
    error = record.error
    if error is None:
        return "failed without a reason" if record.status == "failed" else ""
    where = f"stage {error.stage}: " if error.stage else ""
    # The message of a RunError was written for people; of anything else, the type says more than the message.
    kind = "" if error.type in ("RunError", "KeyboardInterrupt", error.message) else f"{error.type}: "
    return f"{where}{kind}{' '.join(error.message.split())}"
