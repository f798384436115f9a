"""What models and settings are called, in tables and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config.lossy import lossy_names
from .record import Record


def model_name(model: dict[str, Any]) -> str:
    """`demo`, `FLUX.1-dev`, `flux (tiny)`: what was loaded."""
    if model.get("init", "pretrained") != "pretrained":
        return f"{model['name']} ({model['init']})"
    return Path(str(model.get("repo") or model["name"])).stem or model["name"]


def setting_name(record: Record) -> str:
    """The accelerated column: `fbcache`, `fbcache + fp8_dq`, `no cache`, `no cache, 12 steps`."""
    config = record.config
    against = against_reference_steps(config)
    steps = f", {config['steps']} steps" if against else ""
    return (" + ".join(lossy_names(config)) or "no cache") + steps


def against_reference_steps(config: dict[str, Any]) -> str:
    """` against 28`: the number of steps of the reference, where it is another one; else empty."""
    steps = (config.get("measure") or {}).get("reference_steps")
    return f" against {steps}" if steps not in (None, config["steps"]) else ""


def describe_failure(record: Record) -> str:
    """`stage denoise: OutOfMemoryError: ...`: why a run failed, on one line; empty where it did not."""
    error = record.error
    if error is None:
        return "failed without a reason" if record.status == "failed" else ""
    where = f"stage {error.stage}: " if error.stage else ""
    # The message of a RunError was written for people; of anything else, the type says more than the message.
    kind = "" if error.type in ("RunError", "KeyboardInterrupt", error.message) else f"{error.type}: "
    return f"{where}{kind}{' '.join(error.message.split())}"
