"""Counts the denoiser's calls and its blocks, which the window and the parts of a cache strategy are about."""

from __future__ import annotations

from math import ceil

from ..accelerate.parallel.geometry import find_geometry
from ..caching.criteria.schedule import explain_misfit, is_schedule, list_scheduled_steps
from ..caching.predictors import step_weights
from ..caching.window import count_head_blocks
from ..config.schema import Config, Window
from ..models.family import Blocks, Family
from ..samplers import count_denoiser_calls, resolve_sampler
from .graph import find_denoise_stages, takes_strength


def count_calls(c: Config, f: Family) -> int:
    """Counts the denoiser's calls in one guidance branch."""
    return count_denoiser_calls(resolve_sampler(f, c.model, c.sampler), c.steps or 0)


def count_calls_by_stage(c: Config, f: Family) -> list[int]:
    """Counts the denoiser's calls of each denoise stage."""
    sampler = resolve_sampler(f, c.model, c.sampler)
    return [count_denoiser_calls(sampler, steps) for steps in count_steps_by_stage(c, f)] or [count_calls(c, f)]


def count_steps_by_stage(c: Config, f: Family) -> list[int]:
    """Counts the steps that each denoise stage runs: one that starts from an image leaves the first ones out.

    Flow models round what is left up, the others down: `get_timesteps` of diffusers' pipelines.
    """
    counts = []
    for stage in find_denoise_stages(c):
        own = stage.options if isinstance(stage.options, dict) else {}
        part = own.get("strength", c.strength) if takes_strength(stage, f) else 1.0
        steps = own.get("steps", c.steps) or 0
        if isinstance(part, int | float) and isinstance(steps, int):
            kept = min(steps * part, steps)
            counts.append(ceil(kept) if f.schedule == "flow" else int(kept))
    return counts


def explain_unfit_schedule(c: Config, f: Family) -> str:
    """Says why the criterion has no schedule for the steps of some stage; empty if it has."""
    return next((why for steps in count_calls_by_stage(c, f) if (why := explain_misfit(c.cache.criterion, steps))), "")


def explain_unfit_weights(c: Config, f: Family) -> str:
    """Says why weights for each step do not fit the steps that are skipped; empty if they do, or if there are none."""
    predictor, criterion = c.cache.predictor, c.cache.criterion
    if not isinstance(predictor, step_weights.StepWeights) or predictor.weights is None or criterion is None:
        return ""
    if not is_schedule(criterion):
        return (
            f"cache/predictor=step_weights with cache/criterion={criterion.name}: there are weights for steps that are "
            "known before, and this criterion decides by what it measures"
        )
    if c.cache.window is not Window.steps:
        return (
            f"cache.window={c.cache.window.value}: there are weights for steps that are known before, and those inside "
            "this window are not"
        )
    for steps in count_calls_by_stage(c, f):
        if len(predictor.weights) != steps:
            return f"cache.predictor.weights: they are for {len(predictor.weights)} steps, and {steps} are run"
        computed = [] if explain_misfit(criterion, steps) else list_scheduled_steps(criterion, steps, c.cache)
        if computed and (why := step_weights.explain_misfit(predictor.weights, computed)):
            return f"cache.predictor.weights: {why}"
    return ""


def count_always_run(c: Config) -> int:
    """Blocks of a transformer that run at every step."""
    return count_head_blocks(c.cache) + c.cache.tail_blocks


def count_blocks(c: Config, f: Family) -> int | None:
    """Repeated blocks of a transformer; None where that is not known before it is loaded."""
    if not isinstance(f.blocks, Blocks) or c.width is None or c.height is None:
        return None
    geometry = find_geometry(c.model, width=c.width, height=c.height, num_frames=c.num_frames)
    return geometry.blocks if geometry else None
