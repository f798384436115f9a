"""`sampler=fitted`: a multistep solver of a few evaluations, its coefficients fitted to what many steps end at.

`config/solver.py` has the formula. Its outputs are those of the denoiser as they are: velocity, epsilon or v. Every
linear multistep solver (Euler, DDIM, DPM-Solver++ 2M and 3M, DEIS, UniPC) is a set of such coefficients, so a fit
starts from the best of them, and ends at one that is made for this model and number of evaluations. Nothing is added to
a step: it costs what a plain one costs.

The family of solvers is that of Bespoke Non-Stationary Solvers, https://arxiv.org/abs/2403.01329. `tuning/fit_sampler`
finds the numbers; a calibration carries them.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..config.schema import SamplerConfig
from ..config.solver import NAME, Solver
from ..errors import ConfigError, RunError
from ..registry import register
from .noise_levels import MAX_LEVEL
from .table import COGVIDEOX, DIFFUSION, FLOW

if TYPE_CHECKING:
    import torch

CLASSES = {FLOW: "FlowMatchEulerDiscreteScheduler", DIFFUSION: "DDIMScheduler", COGVIDEOX: "CogVideoXDDIMScheduler"}
"""Kind of model -> the diffusers scheduler that pipelines take the fitted one for."""
NUMBERS = ("timesteps", "noise_weights", "output_weights")
FILLED_IN = (*NUMBERS, "noise_scale", "calibrated_for")
"""Keys that a calibration fills in: too much for a title, and the same for all that have its name and steps."""


@dataclass(kw_only=True)
class FittedSampler(SamplerConfig):
    """Options of `sampler=fitted`."""

    name: str = NAME
    calibration: str | None = None
    """A file that has the numbers for this model and number of steps; null: the run's own calibration or a shipped one
    is found by what it is for."""
    timesteps: list[float] | None = None
    """What the denoiser is told at each evaluation: training timesteps, descending. The numbers below and this one are
    filled in from the calibration."""
    noise_weights: list[float] | None = None
    """a_n: the weight of the initial noise in the state after each evaluation."""
    output_weights: list[list[float]] | None = None
    """c_nj: the weights of the outputs so far in that state; row n (from 0) has n + 1 numbers."""
    noise_scale: float = 1.0
    """What the initial noise is multiplied with before the first evaluation."""
    calibrated_for: str | None = None
    """The run that the numbers were fitted for."""

    def __post_init__(self) -> None:
        """Refuses numbers that are no coefficients of a solver."""
        given = [name for name in NUMBERS if getattr(self, name) is not None]
        if given and len(given) < len(NUMBERS):
            missing = next(name for name in NUMBERS if name not in given)
            raise ConfigError(f"sampler.{missing}=null: needed with sampler.{given[0]}; leave all of them out instead")
        if (solver := self.solver) and (problem := solver.find_problem()):
            raise ConfigError(f"sampler.{problem}; copy the numbers unchanged from a calibration, or leave them out")

    @property
    def solver(self) -> Solver | None:
        """The numbers; None before they are filled in."""
        if self.timesteps is None or self.noise_weights is None or self.output_weights is None:
            return None
        return Solver(
            timesteps=self.timesteps,
            noise_weights=self.noise_weights,
            output_weights=self.output_weights,
            noise_scale=self.noise_scale,
        )


def why_unfit(kind: str) -> str:
    """Why no solver can be fitted for a kind of model, `Family.schedule`; empty: one can."""
    if kind == "unknown":
        return "it is not known what its steps compute, so no sampler can be fitted"
    return "" if kind in CLASSES else f"fitted makes no {kind} steps, only {', '.join(CLASSES)} steps"


@register("sampler", NAME, FittedSampler)
def build_fitted_scheduler(pipe: Any, options: FittedSampler) -> Any:
    """Builds the scheduler with the configuration of the model's own.

    Raises:
        RunError: the numbers are missing.
    """
    from .build import find_model_kind

    if not options.solver:
        raise RunError("sampler=fitted: its numbers are missing; planning fills them in from a calibration")
    return create_scheduler(pipe, find_model_kind(pipe.scheduler)).use_solver(options.solver)


def create_scheduler(pipe: Any, kind: str) -> Any:
    """A fitted scheduler without numbers yet, see `use_solver` and `use_tensors`. kind: see `CLASSES`."""
    from ..models.weights.hub import get_diffusers_class
    from .build import instantiate, read_model_config

    return instantiate(read_model_config(pipe.scheduler.config), build_class(get_diffusers_class(CLASSES[kind]), kind))


@lru_cache(maxsize=8)
def build_class(parent: Any, kind: str) -> Any:
    """The fitted scheduler as a subclass of the one that pipelines of this kind of model expect."""
    return type(parent.__name__, (FittedSteps, parent), {"kind": kind, "order": 1})


class FittedSteps:
    """What a fitted scheduler does otherwise than the diffusers scheduler that it stands for."""

    config: Any
    kind: str
    alphas_cumprod: torch.Tensor
    _first: int = 0

    def use_solver(self, solver: Solver) -> Any:
        """Takes a solver's numbers."""
        return self.use_tensors(*to_tensors(solver), solver.noise_scale)

    def use_tensors(
        self, times: torch.Tensor, noise: torch.Tensor, weights: torch.Tensor, noise_scale: float = 1.0
    ) -> Any:
        """The same as tensors of shape (K,), (K,) and (K, K), which may require gradients."""
        import torch

        # As steps from state to state, because a generation may begin in the middle and be changed on the way.
        ratios = noise / torch.cat([noise.new_ones(1), noise[:-1]])
        before = torch.cat([weights.new_zeros(1, len(noise)), weights[:-1]])
        self._times, self._ratios, self._weights = times, ratios, weights - ratios[:, None] * before
        self.init_noise_sigma = noise_scale
        return self

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
        timesteps: Any = None,
    ) -> None:
        """Takes the fitted timesteps; noise levels that a pipeline computes for another solver play no part."""
        import torch

        count, wanted = len(self._times), num_inference_steps or len(sigmas if timesteps is None else timesteps)
        if wanted != count:
            raise RunError(
                f"sampler=fitted: its numbers are for {count} evaluations, and the pipeline asks for {wanted}"
            )
        self.num_inference_steps = count
        self.timesteps = self._times.to(device, torch.float32)
        levels = self._read_levels(self._times.detach())
        self.sigmas = torch.cat([levels, levels.new_zeros(1)]).float().to(device)
        self._step_index: int | None = None
        self._begin_index: int | None = None
        self._outputs: list[torch.Tensor] = []
        self._state: torch.Tensor | None = None
        self._given: torch.Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A scheduler with the same numbers and a state of its own: numbers in a graph of gradients have no copies."""
        new = copy(self)
        new._outputs = []
        return new

    def set_begin_index(self, begin_index: int = 0) -> None:
        """The evaluation that a generation from an image begins with."""
        self._begin_index = begin_index

    def scale_model_input(self, sample: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """The sample itself: states are what the denoiser sees."""
        return sample

    def step(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, return_dict: bool = True) -> Any:
        """x_(n+1) from x_n and the outputs so far, in float32."""
        from diffusers.schedulers.scheduling_utils import SchedulerOutput

        if self._step_index is None:
            self._step_index = self._first = self._begin_index or 0
        n = self._step_index
        self._outputs.append(model_output.float())
        # Between two steps a pipeline may have changed the sample (inpainting does).
        state = self._state if self._state is not None and sample is self._given else sample.float()
        weights = _select_weights(self._weights[n, : n + 1], self._first).to(state)
        new = self._ratios[n].to(state) * state
        for weight, output in zip(weights, self._outputs, strict=True):
            new = new + weight * output
        self._step_index, self._state, self._given = n + 1, new, new.to(model_output.dtype)
        given = self._given
        if n + 1 == len(self._times):
            self._outputs, self._state, self._given = [], None, None
        return SchedulerOutput(prev_sample=given) if return_dict else (given,)

    def scale_noise(self, sample: torch.Tensor, timestep: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """`sample` with noise at the level of a timestep, for flow models: where image-to-image starts."""
        level = self._read_levels(timestep.flatten()[:1]).to(sample)
        return level * noise + (1 - level) * sample

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The same for diffusion models."""
        level = self._read_levels(timesteps.flatten()[:1])
        alpha = 1 / (1 + level**2).sqrt()
        return alpha.to(original_samples) * original_samples + (level * alpha).to(original_samples) * noise

    def _read_levels(self, times: torch.Tensor) -> torch.Tensor:
        """Noise levels of timesteps, float64: sigma of flow matching, else sqrt((1 - abar) / abar), interpolated."""
        import numpy as np
        import torch

        count = self.config.num_train_timesteps
        if self.kind == FLOW:
            return times.double().cpu() / count
        abar = np.interp(times.double().cpu().numpy(), np.arange(count), self.alphas_cumprod.double().cpu().numpy())
        return torch.from_numpy(np.sqrt((1 - abar) / abar.clip(1e-30))).clamp(max=MAX_LEVEL)


def to_tensors(solver: Solver) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Timesteps (K,), noise weights (K,) and output weights (K, K) of a solver, float64."""
    import torch

    count = len(solver.timesteps)
    weights = torch.zeros(count, count, dtype=torch.float64)
    for n, row in enumerate(solver.output_weights):
        weights[n, : n + 1] = torch.tensor(row, dtype=torch.float64)
    times, noise = (torch.tensor(values, dtype=torch.float64) for values in (solver.timesteps, solver.noise_weights))
    return times, noise, weights


def _select_weights(row: torch.Tensor, first: int) -> torch.Tensor:
    """The weights of the outputs from `first` on, where a generation that starts from an image begins.

    The outputs before it are unknown and taken as the first known one, which is exact where the output is constant.
    """
    import torch

    return torch.cat([row[first : first + 1] + row[:first].sum(), row[first + 1 :]])
