"""Measures what an error at each step costs in the end: `cache=planned` chooses its steps by it.

A skipped step's residual is off by so much, and the final latents then by so much. Where an image may still turn into
another one, an error costs more than that of the residual tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..artifacts import Latents, Sample
from ..caching.calibration.data import Calibration
from ..caching.predictors.fitted import to_symmetric
from ..config.denoise_options import DenoiseOptions
from ..planning.graph import Node
from ..registry import find_implementation
from ..stages.denoise import denoise_batch
from .denoising import run_denoising
from .fit_cache import Weights, build_cache, list_histories
from .student import Student, build_student, relative_errors

if TYPE_CHECKING:
    from ..planning.plan import Plan

LEAST_STEPS = 3
"""With fewer there is no step between the first and the last one."""
PROBES = 12
"""Steps that are tried at most; those between are interpolated."""
DIGITS = 4


def measure_importance(plan: Plan, calibration: Calibration, samples: Sequence[Sample]) -> list[float]:
    """For each step: relative error of the final latents, per relative error of the step's residual.

    Up to `PROBES` steps are skipped one at a time, the last residual reused, in runs of all `samples` together. Both
    errors are roots of mean squares; the median of the images counts.

    Args:
        plan: of uncached runs.
        calibration: of the same runs; tells by how much each residual is off.
        samples: images that it is measured on.

    Raises:
        RunError: a stage fails.
    """
    found: list[float] = []

    def denoise_and_probe(options: DenoiseOptions, inputs: list[dict[str, Any]]) -> list[Latents]:
        found.extend(_probe(build_student(options, inputs, checkpointing=False), calibration))
        return denoise_batch(replace(options, warmup=0, repeats=1, batch_size=1), inputs[:1]) * len(inputs)

    def change(node: Node) -> Node:
        # Never stored: the latents do not count, and the store would skip the probes.
        return replace(node, lasting=False, stage=replace(node.stage, batch=denoise_and_probe))

    run_denoising(plan, change, [samples])
    return found


def _probe(student: Student, calibration: Calibration) -> list[float]:
    import numpy as np
    from tqdm import tqdm

    steps, images = calibration.steps, range(len(student.requests))
    gram = to_symmetric(calibration.gram[0])
    reference = _generate(student, None, images).result
    probed = sorted(set(np.linspace(1, max(1, steps - 2), PROBES).round().astype(int).tolist()))
    logs = []
    for step in tqdm(probed, desc="importance of steps", leave=False, disable=None):
        result = _generate(student, skip_one(step, steps), images).result
        # The median: one image at the point of becoming another one would hide what all others show.
        end = float(relative_errors(result, reference).median()) ** 0.5
        change = gram[step, step] + gram[step - 1, step - 1] - 2 * gram[step, step - 1]
        residual = float(np.sqrt(max(change, 0.0) / gram[step, step])) if gram[step, step] > 0 else 0.0
        logs.append(np.log(max(end, 1e-9) / max(residual, 1e-9)))
    curve = np.exp(np.interp(range(steps), probed, logs))
    # Latents that are not finite tell nothing.
    return [float(f"{value:.{DIGITS}g}") for value in curve] if np.isfinite(curve).all() else []


def skip_one(step: int, steps: int) -> Weights:
    """Weights with which one step reuses the residual before it, and all others are computed."""
    import torch

    schedule = tuple(other for other in range(steps) if other != step)
    length = len(dict(list_histories(schedule, steps))[step])
    return Weights(
        schedule=schedule, steps=steps, values=torch.tensor([0.0] * (length - 1) + [1.0], dtype=torch.float64)
    )


def _generate(student: Student, weights: Weights | None, images: Sequence[int]) -> Any:
    options = student.options
    full = find_implementation("sampler", options.sampler)(student.pipeline.pipe, options.sampler)
    return student.generate(full, options.steps, images, cache=build_cache(weights) if weights else None)
