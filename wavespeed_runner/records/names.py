"""What models and settings are called, in tables and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LOSSY = ("cache", "quant")
"""Config groups whose options name the accelerated column."""


def model_name(model: dict[str, Any]) -> str:
    """`demo`, `FLUX.1-dev`, `flux (tiny)`: what was loaded."""
    if model.get("init", "pretrained") != "pretrained":
        return f"{model['name']} ({model['init']})"
    return Path(str(model.get("repo") or model["name"])).stem or model["name"]


def setting(record: dict[str, Any]) -> str:
    """What the accelerated column is called: `fbcache`, `fbcache + fp8_dq`, `no cache`, `no cache, 12 steps`."""
    names = [(record["config"].get(group) or {}).get("name", "none") for group in LOSSY]
    casting = (record["config"].get("memory") or {}).get("layerwise_casting")
    names.append(f"{casting} weights" if casting else "none")
    fewer = f", {record['config']['steps']} steps" if fewer_than_reference(record["config"]) else ""
    return (" + ".join(name for name in names if name != "none") or "no cache") + fewer


def fewer_than_reference(config: dict[str, Any]) -> str:
    """The reference's own number of steps, where it is another."""
    steps = (config.get("measure") or {}).get("reference_steps")
    return f" against {steps}" if steps not in (None, config["steps"]) else ""
