"""Where a fit begins: the best of the plain solvers and their spacings at a number of evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.schema import SamplerConfig
from ..config.solver import Solver
from ..errors import RunError, Unfit
from ..models.family import Family
from ..registry import lookup
from ..samplers import is_stochastic, why_unusable
from ..samplers.build import build_scheduler
from ..samplers.coefficients import capture_schedule, check_linear, read_coefficients
from ..samplers.table import Sigmas, TimestepSpacing
from .fit_numbers import robust_loss
from .student import Student, relative_errors

SOLVERS = ("euler", "ddim", "dpmpp_2m", "dpmpp_3m", "deis", "unipc")
"""Linear multistep solvers of `samplers/table.py`."""
SHIFTS = (None, 1.0, 2.0, 3.0, 5.0)
"""Of flow models; None: the model's own."""
SPACINGS: tuple[dict[str, Any], ...] = (
    {},
    {"timestep_spacing": TimestepSpacing.trailing},
    {"sigmas": Sigmas.karras},
)
"""Of other models; empty: the model's own."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """A plain solver that a fit can begin with."""

    name: str
    """As it would be typed: `unipc`, `unipc shift=3`."""
    solver: Solver
    loss: float
    """Mean `robust_loss` on the images that it was tried on."""


def find_starts(student: Student, reference: Any, evaluations: int, images: Sequence[int]) -> list[Start]:
    """Every plain solver and spacing that can be fitted, the best one first.

    Args:
        student: the model and the images.
        reference: (images, D), the states that the full run ends at.
        evaluations: how many the solvers take.
        images: indices of those that they are tried on.

    Raises:
        RunError: none of them is linear on this model.
    """
    starts = []
    for name, options in list_candidates(student.pipeline.family):
        try:
            solver = read_solver(student, options, evaluations)
        except (Unfit, ValueError, IndexError):  # diffusers refuses some combinations by ValueError
            continue
        scheduler = build_scheduler(student.pipeline.pipe, options)
        errors = relative_errors(student.generate(scheduler, evaluations, images).result, reference[list(images)])
        loss = float(robust_loss(errors).mean())
        if loss == loss:
            starts.append(Start(name=name, solver=solver, loss=loss))
    if not starts:
        raise RunError(f"evaluations={evaluations}: no plain solver works on this model with so few")
    return sorted(starts, key=lambda start: start.loss)


def list_candidates(family: Family) -> Iterator[tuple[str, SamplerConfig]]:
    """(name, options) of each solver with each spacing that the family takes."""
    spacings: list[dict[str, Any]] = [dict(spacing) for spacing in SPACINGS]
    if family.schedule == "flow":
        spacings = [{} if shift is None else {"shift": shift} for shift in SHIFTS]
    for name in SOLVERS:
        for spacing in spacings:
            try:
                options = lookup("sampler", name).options(**spacing)
            except TypeError:  # it has no such option
                continue
            if not why_unusable(family, options) and not is_stochastic(options):
                typed = (f"{key}={getattr(value, 'value', value)}" for key, value in spacing.items())
                yield " ".join([name, *typed]), options


def read_solver(student: Student, options: SamplerConfig, evaluations: int) -> Solver:
    """The coefficients of a plain solver, as the pipeline sets it for the first image.

    Raises:
        Unfit: it is no linear multistep solver.
    """
    scheduler = build_scheduler(student.pipeline.pipe, options)
    captured = capture_schedule(scheduler, lambda: student.generate(scheduler, evaluations, [0]))
    solver = read_coefficients(captured)
    check_linear(captured, solver)
    if problem := solver.find_problem():
        raise Unfit(problem)
    return solver
