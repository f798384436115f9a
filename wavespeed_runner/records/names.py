"""What models and settings are called, in tables and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config.lossy import lossy_names


def model_name(model: dict[str, Any]) -> str:
    """`demo`, `FLUX.1-dev`, `flux (tiny)`: what was loaded."""
    if model.get("init", "pretrained") != "pretrained":
        return f"{model['name']} ({model['init']})"
    return Path(str(model.get("repo") or model["name"])).stem or model["name"]


def setting(record: dict[str, Any]) -> str:
    """What the accelerated column is called: `fbcache`, `no cache`, `no cache, 12 steps against 24`."""
    fewer = f", {record['config']['steps']} steps" if fewer_than_reference(record["config"]) else ""
    return (" + ".join(lossy_names(record["config"])) or "no cache") + fewer


def fewer_than_reference(config: dict[str, Any]) -> str:
    """The reference's own number of steps, where it is another."""
    steps = (config.get("measure") or {}).get("reference_steps")
    return f" against {steps}" if steps not in (None, config["steps"]) else ""
