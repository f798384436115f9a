"""Load, encode and denoise of a composed configuration, stage by stage, on whatever ranks there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wavespeed_runner.artifacts import Latents
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.planning.plan import Plan, build_plan

BASE = ("model.init=tiny", "prompt=a red circle", "measure=none", "steps=2", "measure.warmup=1")


def plan_of(folder: Path, *overrides: str) -> Plan:
    with composer(None):
        given = [*BASE, f"outputs={folder}", *overrides]
        return build_plan(compose_job(given, given))


def denoise_plan(plan: Plan) -> Latents:
    """The latents of the plan's first sample."""
    nodes, values = plan.graph.nodes, {"sample": plan.samples[0]}
    for name in ("load", "encode", "denoise"):
        node = nodes[name]
        inputs: dict[str, Any] = {key: values[source] for key, source in node.inputs.items()}
        values[name] = node.stage.function(node.options, **inputs)  # type: ignore[assignment]
    latents: Latents = values["denoise"]  # type: ignore[assignment]
    return latents
