"""Reads the coefficients of a linear multistep solver off a diffusers scheduler, by running it on unit vectors.

What a deterministic scheduler makes of the noise x_0 and the outputs m_j is a weighted sum, and the weights depend on
its noise levels only. So they come out exactly if x_0 and each output is a unit vector of its own.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from ..config.solver import Solver
from ..errors import Unfit

if TYPE_CHECKING:
    import torch


class _Ready(Exception):
    """The pipeline has set the timesteps and asks for its first step."""


def capture_schedule(scheduler: Any, run: Any) -> Any:
    """A copy of the scheduler as a pipeline has set it, right before its first step.

    Pipelines compute noise levels and a shift for the image size by themselves, so only they can set a scheduler.

    Args:
        scheduler: the pipeline's.
        run: calls the pipeline, which ends at its first step.
    """
    original = type(scheduler)
    found: list[Any] = []

    class Stopping(original):  # type: ignore[valid-type,misc]
        def step(self, *args: Any, **options: Any) -> Any:
            self.__class__ = original
            found.append(deepcopy(self))
            raise _Ready

    Stopping.__name__ = original.__name__
    scheduler.__class__ = Stopping
    try:
        run()
    except _Ready:
        return found[0]
    finally:
        scheduler.__class__ = original
    raise Unfit("the pipeline took no step")


def read_coefficients(scheduler: Any) -> Solver:
    """The coefficients of a scheduler whose timesteps are set, in the convention of `sampler=fitted`.

    There a state is what the denoiser sees: schedulers that keep it at another scale (`scale_model_input`) are
    converted.

    Raises:
        Unfit: it is no linear multistep solver: fresh noise, thresholds, or two evaluations at one timestep.
    """
    import torch

    scheduler = deepcopy(scheduler)
    times = [float(t) for t in scheduler.timesteps]
    if times != sorted(set(times), reverse=True):
        raise Unfit(f"{type(scheduler).__name__} evaluates some timestep twice: no multistep solver")
    unit = torch.eye(len(times) + 1, dtype=torch.float64)
    rows = _run(scheduler, unit[0], list(unit[1:]))
    noise_scale = rows.pop(0)[0]
    return Solver(
        timesteps=times,
        noise_weights=[float(row[0]) for row in rows],
        output_weights=[row[1 : n + 2].tolist() for n, row in enumerate(rows)],
        noise_scale=float(noise_scale),
    )


def check_linear(scheduler: Any, solver: Solver) -> None:
    """Raises `Unfit` where the scheduler makes something else of other vectors than the coefficients say."""
    import torch

    generator = torch.Generator().manual_seed(0)
    count = len(solver.timesteps)
    x, *outputs = torch.randn(count + 1, 64, generator=generator, dtype=torch.float64)
    last = _run(deepcopy(scheduler), x, list(outputs))[-1]
    weights = zip(solver.output_weights[-1], outputs, strict=True)
    expected = solver.noise_weights[-1] * x + sum(weight * output for weight, output in weights)
    if not torch.allclose(last, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
        raise Unfit(f"{type(scheduler).__name__} is not linear: it draws noise or clips")


def _run(scheduler: Any, x: torch.Tensor, outputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """What the denoiser would see: (noise scale, ...), then after each step. The last one is the result as it is."""
    times, scale = scheduler.timesteps, getattr(scheduler, "scale_model_input", None)

    def see(state: torch.Tensor, n: int) -> torch.Tensor:
        return scale(state, times[n]) if scale and n < len(times) else state

    one = x.new_ones(1, len(x), 1, 1)
    factor = see(one, 0).flatten()[0]
    states = [(factor * _initial_scale(scheduler)).expand(len(x))]
    state = x[None, :, None, None] / factor
    for n, output in enumerate(outputs):
        if n:
            see(state, n)  # some schedulers want to be asked before each step
        state = scheduler.step(output[None, :, None, None], times[n], state, return_dict=False)[0].double()
        states.append(see(state, n + 1).flatten())
    return states


def _initial_scale(scheduler: Any) -> float:
    return float(getattr(scheduler, "init_noise_sigma", 1.0))
