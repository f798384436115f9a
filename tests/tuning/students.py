"""A loaded model as fits see it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from wavespeed_runner.artifacts import Latents
from wavespeed_runner.config.denoise_options import DenoiseOptions
from wavespeed_runner.stages.denoise import denoise_batch
from wavespeed_runner.tuning.calibrate import plan_uncached_runs
from wavespeed_runner.tuning.denoising import run_denoising
from wavespeed_runner.tuning.student import Student, build_student, freeze


def with_student(
    overrides: list[str], folder: Path, work: Callable[[Student], Any], *, checkpointing: bool = True
) -> Any:
    """What `work` makes of the student of a run."""
    plan = plan_uncached_runs(Namespace(overrides=[*overrides, f"outputs={folder}"], config_dir=None, multirun=False))
    results: list[Any] = []

    def batch(options: DenoiseOptions, inputs: list[dict[str, Any]]) -> list[Latents]:
        student = build_student(options, inputs, checkpointing=checkpointing)
        parameters = [parameter for module in student.modules for parameter in module.parameters()]
        for parameter in parameters:
            parameter.requires_grad = True  # as in a model that was loaded
        with freeze(student.modules):
            results.append(work(student))
        assert all(parameter.grad is None for parameter in parameters)
        return denoise_batch(replace(options, warmup=0, repeats=1), inputs)

    run_denoising(
        plan, lambda node: replace(node, lasting=False, stage=replace(node.stage, batch=batch)), [plan.samples]
    )
    return results[0]
