"""Searches which steps to compute, by the quality of the images: `cache=planned` takes the schedules that are found.

For each number of computed steps the search begins with the schedule that the calibration suggests and moves single
steps as long as the images' mean SSIM to the uncached ones grows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..artifacts import Latents
from ..caching.calibration.best_schedule import find_best_schedule
from ..caching.calibration.data import Calibration
from ..caching.calibration.schedule_search import Schedule, search_schedule
from ..caching.criteria.step_lists import Steps
from ..caching.predictors.fitted import Fitted
from ..caching.signals.block_signals import NoSignal
from ..caching.strategies import Planned
from ..config.denoise_options import DenoiseOptions
from ..errors import ConfigError
from ..metrics.quality import compare_images
from ..planning.graph import Node
from ..stages.decode import decode_latents
from ..stages.denoise import denoise_batch
from .denoising import run_denoising
from .fit_images import choose_images, key_images
from .student import build_student

if TYPE_CHECKING:
    import numpy as np

    from ..planning.plan import Plan

BATCH = 8
"""Images that are denoised together. Faster than one at a time, and as good for choosing between schedules."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The best schedule that was tried."""

    steps: list[int]
    """The computed steps, counted from 1."""
    ssim: float
    """Mean over the images, to the uncached ones."""


def search_schedules(
    plan: Plan,
    calibration: Calibration,
    budgets: list[int],
    tries: int,
    tell: Callable[[str], None],
    images: int | None = None,
) -> dict[int, SearchResult]:
    """Finds the best steps to compute, for each number of computed steps.

    Args:
        plan: of uncached runs; its prompts do not count.
        calibration: of the same run; its prompts and seeds are what the schedules are judged on.
        budgets: numbers of computed steps.
        tries: how many schedules are tried for each of them, at most.
        tell: called with one line for each schedule that was tried.
        images: so many of the calibration's images, half of them for being fragile; None: all.

    Returns:
        Number of computed steps -> the best schedule.

    Raises:
        ConfigError: a number of computed steps is not below the run's steps.
        RunError: a stage fails.
    """
    if too_many := [budget for budget in budgets if budget >= calibration.steps]:
        raise ConfigError(f"computed={too_many[0]}: fewer than the run's {calibration.steps} steps are needed")
    results: dict[int, SearchResult] = {}

    def denoise_and_search(options: DenoiseOptions, inputs: list[dict[str, Any]]) -> list[Latents]:
        batch_size = BATCH if inputs[0]["pipeline"].family.supports_batches else 1
        once = replace(options, warmup=0, repeats=1, batch_size=batch_size)
        chosen = inputs
        if images is not None:
            student = build_student(options, inputs, checkpointing=False)
            keys = key_images(plan, samples)
            taken = choose_images(student, keys, plan.store, candidates=len(keys), images=images, tell=tell)
            chosen = [inputs[index] for index in taken]
        latents, reference = _denoise_and_decode(once, chosen)

        def loss_of(budget: int, schedule: Schedule) -> float:
            _, made = _denoise_and_decode(_follow_schedule(once, calibration, budget, schedule), chosen)
            return 1 - _mean_ssim(made, reference)

        for budget in budgets:
            results[budget] = _best_schedule(calibration, budget, tries, loss_of, tell)
        return latents[:1] * len(inputs)

    def change(node: Node) -> Node:
        # Never stored: the latents do not count, and the store would skip the search.
        return replace(node, lasting=False, stage=replace(node.stage, batch=denoise_and_search))

    drawn = zip(calibration.made["prompts"], calibration.made["seeds"], strict=True)
    samples = [replace(plan.samples[0], prompt=prompt, seed=seed) for prompt, seed in drawn]
    run_denoising(plan, change, [samples])
    return results


def _best_schedule(
    calibration: Calibration,
    budget: int,
    tries: int,
    loss_of: Callable[[int, Schedule], float],
    tell: Callable[[str], None],
) -> SearchResult:
    """The best schedule of the search for one number of computed steps."""
    tried = 0

    def cost(schedule: Schedule) -> float:
        nonlocal tried
        tried += 1
        loss = loss_of(budget, schedule)
        tell(f"{budget} of {calibration.steps}, try {tried}: SSIM {1 - loss:.4f}")
        return loss

    gram, earlier = calibration.gram[0], calibration.schedules.get(budget)
    starts = [
        tuple(find_best_schedule(gram, budget, first=first, importance=importance))
        for importance in dict.fromkeys((calibration.schedule_weights, None))
        for first in (1, 2, 3)
        if first < budget
    ]
    starts += [tuple(step - 1 for step in earlier)] if earlier else []
    best, loss = search_schedule(cost, starts, calibration.steps, tries=tries)
    return SearchResult(steps=[step + 1 for step in best], ssim=1 - loss)


def _follow_schedule(
    options: DenoiseOptions, calibration: Calibration, budget: int, schedule: Schedule
) -> DenoiseOptions:
    """The denoising stage's options with `cache=planned` on a schedule, whose steps are counted from 0."""
    steps = Steps(computed=[step + 1 for step in schedule], of=calibration.steps)
    fitted = Fitted(gram=calibration.gram[0])
    return replace(options, cache=Planned(computed=budget, signal=NoSignal(), criterion=steps, predictor=fitted))


def _denoise_and_decode(
    options: DenoiseOptions, inputs: list[dict[str, Any]]
) -> tuple[list[Latents], list[np.ndarray]]:
    """Latents of every sample, and the images or frames: uint8 arrays of shape (height, width, 3)."""
    latents = denoise_batch(options, inputs)
    pixels = [decode_latents(inputs[0]["pipeline"], one) for one in latents]
    return latents, [image for several in pixels for image in several.reshape(-1, *several.shape[-3:])]


def _mean_ssim(images: list[np.ndarray], reference: list[np.ndarray]) -> float:
    """Mean SSIM of images, or of all frames of videos."""
    values = [compare_images(image, other)["ssim"] for image, other in zip(images, reference, strict=True)]
    return sum(value for value in values if value is not None) / len(values)
