"""Fits a sampler of a few evaluations so that what comes out is what the model's own sampler makes of all its steps.

For each number of evaluations: the plain solvers are tried, the best one is where the fit begins, and images that the
fit has not seen decide which of its states is kept. So the result is never worse than the best plain solver there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..artifacts import SEEDS, Latents, Sample
from ..caching.calibration.data import FittedSolver
from ..config.denoise_options import DenoiseOptions
from ..config.environment import read_versions
from ..metrics.quality import compare_images
from ..planning.graph import Node
from ..registry import find_implementation
from ..samplers.build import find_model_kind
from ..samplers.fitted import create_scheduler
from ..stages.denoise import denoise_batch
from .calibrate import run_denoising
from .fit_differences import Rollout, fit_by_differences
from .fit_gradient import fit_by_gradient
from .fit_numbers import Numbers, from_solver, robust_loss, to_solver
from .fit_starts import find_starts
from .student import Student, build_student, relative_errors

if TYPE_CHECKING:
    from torch import Tensor

    from ..planning.plan import Plan

FORK = 0.9
"""SSIM below which an image counts as another one."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to fit."""

    images: int = 96
    """Images that are fitted on, each with a seed of its own."""
    held_out: int = 32
    """Further images, which choose what is kept and whose quality is reported."""
    iterations: int = 120
    batch: int = 16
    """Images of an iteration, with gradients."""
    gradients: bool = True
    """False: by finite differences, for models that cannot be differentiated."""
    checkpointing: bool = True
    """See `student.Student`."""
    check_every: int = 10
    """Iterations between looks at the images that are not fitted on."""


Tell = Callable[[str], None]
Keep = Callable[[int, FittedSolver], None]


def fit_samplers(plan: Plan, evaluations: Sequence[int], settings: Settings, tell: Tell, keep: Keep) -> None:
    """Fits one sampler for each number of evaluations.

    Args:
        plan: of the full runs: the model's own sampler and steps, uncached.
        evaluations: numbers of evaluations, each below the plan's steps.
        settings: how to fit.
        tell: called with a line on what was found.
        keep: called with each result as soon as there is one.

    Raises:
        KeyboardInterrupt: during a fit; its best numbers so far were kept.
        RunError: a stage fails, or no solver works.
        Unfit: the pipeline cannot be differentiated.
    """

    def denoise_and_fit(options: DenoiseOptions, inputs: list[dict[str, Any]]) -> list[Latents]:
        student = build_student(options, inputs, checkpointing=settings.checkpointing)
        fit = _Fit(student=student, settings=settings, steps=options.steps, tell=tell)
        for count in evaluations:
            found, interrupted = fit.run(count)
            keep(count, found)
            if interrupted:
                raise KeyboardInterrupt
        return denoise_batch(replace(options, warmup=0, repeats=1, batch_size=1), inputs[:1]) * len(inputs)

    def change(node: Node) -> Node:
        # Never stored: the latents do not count, and the store would skip the fit.
        return replace(node, lasting=False, stage=replace(node.stage, batch=denoise_and_fit))

    run_denoising(plan, change, [list_samples(plan, settings)])


def list_samples(plan: Plan, settings: Settings) -> list[Sample]:
    """As many samples as are wanted: the plan's prompts in turn, with the seeds seed, seed + 1, ..."""
    first, count = plan.samples[0].seed, settings.images + settings.held_out
    prompts = list(dict.fromkeys(sample.prompt for sample in plan.samples))
    return [
        replace(plan.samples[0], prompt=prompts[index % len(prompts)], seed=(first + index) % SEEDS)
        for index in range(count)
    ]


class _Fit:
    """The full run of all images, and fits to it."""

    def __init__(self, *, student: Student, settings: Settings, steps: int, tell: Tell) -> None:
        import torch

        self.student, self.settings, self.tell = student, settings, tell
        pipe = student.pipeline.pipe
        self.kind = find_model_kind(pipe.scheduler)
        self.fitted_on = list(range(settings.images))
        self.held_out = list(range(settings.images, settings.images + settings.held_out))
        full = find_implementation("sampler", student.options.sampler)(pipe, student.options.sampler)
        made = student.generate(full, steps, self.fitted_on)
        shown = student.generate(full, steps, self.held_out)
        self.reference: Tensor = torch.cat([made.result, shown.result])
        self.shown = student.decode(shown.latents)

    def run(self, count: int) -> tuple[FittedSolver, bool]:
        """The best solver of so many evaluations, and whether Ctrl-C ended its fit."""
        tried = find_starts(self.student, self.reference, count, self.fitted_on[: self.settings.batch])
        start = from_solver(tried[0].solver)
        begun = self._measure(start)
        self.tell(f"{count} evaluations: begins at {tried[0].name}, SSIM {begun['ssim']['mean']:.4f}")
        best, done, interrupted = self._improve(start)
        found = self._measure(best)
        self.tell(f"{count} evaluations: SSIM {found['ssim']['mean']:.4f} on {self.settings.held_out} images held out")
        made = {
            "start": tried[0].name,
            "quality": {"start": begun, "fitted": found},
            **{name: value for name, value in asdict(self.settings).items() if name in MADE},
            "iterations": done,
            "versions": {name: read_versions()[name] for name in ("wavespeed_runner", "diffusers", "torch")},
        }
        return FittedSolver(solver=to_solver(best), made=made), interrupted

    def _improve(self, start: Numbers) -> tuple[Numbers, int, bool]:
        """The numbers that are best on the images held out, the iterations made, and whether Ctrl-C ended them."""
        from tqdm import tqdm

        best, least, done, total = start, self._loss(start), 0, self.settings.iterations
        with tqdm(total=total, desc=f"{start.count} evaluations", leave=False, disable=None) as progress:
            try:
                for done, numbers in enumerate(self._iterate(start), 1):
                    progress.update()
                    if self.settings.gradients and done % self.settings.check_every and done != total:
                        continue
                    loss = self._loss(numbers)
                    if loss < least:
                        best, least = numbers, loss
                    progress.set_postfix_str(f"held out {loss:.4f}, best {least:.4f}")
            except KeyboardInterrupt:
                return best, done, True
        return best, done, False

    def _iterate(self, start: Numbers) -> Iterator[Numbers]:
        settings = self.settings
        if settings.gradients:
            return fit_by_gradient(
                start, self._errors, images=settings.images, iterations=settings.iterations, batch=settings.batch
            )
        reference = self.reference[: settings.images]
        return fit_by_differences(start, self._roll_out, reference, iterations=settings.iterations)

    def _generate(self, numbers: Numbers, images: Sequence[int], **options: bool) -> Any:
        scheduler = create_scheduler(self.student.pipeline.pipe, self.kind)
        scheduler.use_tensors(numbers.times, numbers.noise, numbers.weights, numbers.noise_scale)
        return self.student.generate(scheduler, numbers.count, images, **options)

    def _errors(self, numbers: Numbers, images: Sequence[int]) -> Tensor:
        result: Tensor = self._generate(numbers, images, gradients=True).result
        return relative_errors(result, self.reference[list(images)])

    def _roll_out(self, numbers: Numbers) -> Rollout:
        made = self._generate(numbers, self.fitted_on, outputs=True)
        return Rollout(noise=made.noise, outputs=made.outputs, result=made.result)

    def _loss(self, numbers: Numbers) -> float:
        result = self._generate(numbers, self.held_out).result
        return float(robust_loss(relative_errors(result, self.reference[self.held_out])).mean())

    def _measure(self, numbers: Numbers) -> dict[str, Any]:
        """Quality of the images that are not fitted on: SSIM to those of the full run."""
        import numpy as np

        images = self.student.decode(self._generate(numbers, self.held_out).latents)
        pairs = zip(images, self.shown, strict=True)
        values = np.array([float(compare_images(*pair)["ssim"] or 0) for pair in pairs])
        round_ = partial(round, ndigits=4)
        return {
            "ssim": {
                "mean": round_(float(values.mean())),
                "median": round_(float(np.median(values))),
                "p10": round_(float(np.quantile(values, 0.1))),
            },
            "forks": int((values < FORK).sum()),
        }


MADE = ("images", "held_out", "gradients")
"""Settings that a calibration tells."""
