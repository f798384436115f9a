"""Fits samplers and caches to what the model's own full run makes, see docs/fitted_sampling.md.

For each number of evaluations or computed steps: what needs no fit is tried, the best of it is where the fit begins,
and the loss of images that the fit has not seen decides which of its states is kept. So that is never worse than there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..artifacts import SEEDS, Latents, Sample
from ..caching.calibration.data import Calibration, FittedSolver, FittedWeights
from ..config.denoise_options import DenoiseOptions
from ..planning.graph import Node
from ..planning.plan import Plan
from ..stages.denoise import denoise_batch
from .denoising import run_denoising
from .fit_cache import build_cache_target
from .fit_images import choose_images, key_images, take_images
from .fit_loop import Settings, Target, fit
from .fit_memory import choose_together
from .fit_references import FullRun, make_full_run
from .fit_sampler import build_sampler_target
from .student import Student, build_student, freeze

Tell = Callable[[str], None]
Found = FittedSolver | FittedWeights
Keep = Callable[[int, Found, bool], None]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be fitted."""

    evaluations: Sequence[int] = ()
    """Samplers, by their number of evaluations."""
    computed: Sequence[int] = ()
    """Caches, by their number of computed steps."""
    calibration: Calibration | None = None
    """Of the full runs; needed for caches."""


def fit_all(plan: Plan, wanted: Wanted, settings: Settings, tell: Tell, keep: Keep) -> None:
    """Fits a sampler for each number of evaluations, and a cache for each number of computed steps.

    Args:
        plan: of the full runs: the model's own sampler and steps, uncached.
        wanted: what to fit; numbers are below the plan's steps.
        settings: how to fit.
        tell: called with lines on what is found.
        keep: called with each result as soon as there is one, and with whether Ctrl-C ended its fit.

    Raises:
        KeyboardInterrupt: during a fit; its best numbers so far were kept.
        RunError: a stage fails, or nothing can be fitted.
        Unfit: the pipeline cannot be differentiated.
    """
    samples = list_samples(plan, settings)
    build = partial(build_student, checkpointing=settings.checkpointing)

    def denoise_and_fit(options: DenoiseOptions, inputs: list[dict[str, Any]]) -> list[Latents]:
        student, keys = _take_images(plan, samples, settings, build(options, inputs), tell)
        run = make_full_run(student, keys, plan.store, fitted_on=settings.images, probed=settings.batch, tell=tell)
        how = settings
        if settings.gradients:
            skipped = options.steps - min(wanted.computed) if wanted.computed else 0
            together, line = choose_together(student, max([*wanted.evaluations, *wanted.computed]), skipped)
            tell(line)
            how = replace(settings, together=together)
        with freeze(student.modules):
            for build_target, count in _list_targets(run, wanted):
                found, interrupted = fit(run, build_target(), how, plan.store, tell, again=plan.config.rerun)
                keep(count, found, interrupted)
                if interrupted:
                    raise KeyboardInterrupt
        return denoise_batch(replace(options, warmup=0, repeats=1, batch_size=1), inputs[:1]) * len(inputs)

    def change(node: Node) -> Node:
        # Never stored: the latents do not count, and the store would skip the fit.
        return replace(node, lasting=False, stage=replace(node.stage, batch=denoise_and_fit))

    run_denoising(plan, change, [samples])


def _list_targets(run: FullRun, wanted: Wanted) -> Iterator[tuple[Callable[[], Target[Any, Any]], int]]:
    """A function that builds each target, and its number; each is built only when the one before is fitted."""
    for count in wanted.evaluations:
        yield partial(build_sampler_target, run, count), count
    for count in wanted.computed:
        assert wanted.calibration, "the command has found or made one"
        yield partial(build_cache_target, run, wanted.calibration, count), count


def _take_images(
    plan: Plan, samples: Sequence[Sample], settings: Settings, student: Student, tell: Tell
) -> tuple[Student, list[str]]:
    """The student with the images that the fit takes, and their keys."""
    keys = key_images(plan, samples)
    chosen = choose_images(
        student, keys, plan.store, candidates=settings.count_candidates(), images=settings.images, tell=tell
    )
    return take_images(student, chosen), [keys[index] for index in chosen]


def list_samples(plan: Plan, settings: Settings) -> list[Sample]:
    """As many samples as are wanted: the plan's prompts in turn, with the seeds seed, seed + 1, ..."""
    first, count = plan.samples[0].seed, settings.count_candidates() + settings.held_out
    prompts = list(dict.fromkeys(sample.prompt for sample in plan.samples))
    return [
        replace(plan.samples[0], prompt=prompts[index % len(prompts)], seed=(first + index) % SEEDS)
        for index in range(count)
    ]
