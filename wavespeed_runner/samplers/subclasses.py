"""Subclasses of diffusers' schedulers that close the gaps between a scheduler and the pipelines that call it."""

from __future__ import annotations

from functools import lru_cache, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

from .table import Sigmas

if TYPE_CHECKING:
    import torch


@lru_cache(maxsize=32)
def step_flow_model(solver: Any, spacing: Sigmas) -> Any:
    """Subclasses a multistep solver so that pipelines of flow models can call it.

    diffusers' solvers support flow models with `use_flow_sigmas`. Added here:

    - the shift for the image size (`mu`), which not every solver accepts, and `shift_terminal`, which only UniPC does;
    - the spacings, which the solvers compute for diffusion models only;
    - the end of the last step: DEIS and SA-Solver cannot reach 0 and end where the step began, which leaves its noise
      in the image;
    - `scale_noise`, with which image-to-image starts.
    """
    import numpy as np
    import torch

    class FlowSolver(solver):
        sigmas: Any
        timesteps: Any

        def set_timesteps(
            self, num_inference_steps: int | None = None, device: Any = None, sigmas: Any = None, mu: Any = None
        ) -> None:
            mu = mu if self.config.get("use_dynamic_shifting") else None
            if solver.__name__ == "UniPCMultistepScheduler":
                sigmas = None if sigmas is None else np.asarray(sigmas)
                super().set_timesteps(num_inference_steps, device=device, sigmas=sigmas, mu=mu)
            else:
                if mu is not None:
                    linear = self.config.get("time_shift_type") == "linear"
                    self.register_to_config(flow_shift=float(mu if linear else np.exp(mu)))
                super().set_timesteps(num_inference_steps or len(sigmas), device=device)
                self._apply_terminal_shift()
            if spacing is not Sigmas.uniform:
                convert = getattr(self, f"_convert_to_{spacing.value}")
                self._set_levels(convert(in_sigmas=self.sigmas[:-1], num_inference_steps=len(self.sigmas) - 1))
            if self.sigmas[-1] > 0:
                self.sigmas[-1] = 1 / self.config.num_train_timesteps
            _begin_at_first_step(self)

        def _apply_terminal_shift(self) -> None:
            end = self.config.get("shift_terminal")
            if end:
                rest = 1 - self.sigmas[:-1].double()
                self._set_levels(1 - rest * (1 - end) / rest[-1])

        def _set_levels(self, levels: Any) -> None:
            levels = torch.as_tensor(levels).double()
            self.sigmas = torch.cat([levels, self.sigmas[-1:].double()]).float()
            self.timesteps = (levels * self.config.num_train_timesteps).to(self.timesteps)

        def scale_noise(self, sample: torch.Tensor, timestep: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            return _add_noise(self, sample, timestep, noise)

    return _rename_like(FlowSolver, solver)


@lru_cache(maxsize=8)
def use_flow_noise_levels(stepper: Any, even: bool) -> Any:
    """Subclasses a flow scheduler to run on the noise levels of FlowMatchEulerDiscreteScheduler.

    Pipelines pass noise levels and the shift for the image size, and not every scheduler accepts them.

    Args:
        stepper: the scheduler's class.
        even: where the pipeline passes no levels, take equal steps to 0, as diffusers' solvers do (the model's own
            scheduler is one of them). FlowMatchEulerDiscreteScheduler's own levels would make the last step almost
            empty.
    """
    import numpy as np
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    accepted = signature(FlowMatchEulerDiscreteScheduler.__init__).parameters

    class FlowStepper(stepper):
        def set_timesteps(
            self, num_inference_steps: int | None = None, device: Any = None, sigmas: Any = None, mu: Any = None
        ) -> None:
            if even and sigmas is None:
                sigmas = np.linspace(1, 1 / self.config.num_train_timesteps, int(num_inference_steps or 0) + 1)[:-1]
            if "use_dynamic_shifting" in signature(stepper.__init__).parameters:
                return super().set_timesteps(num_inference_steps, device=device, sigmas=sigmas, mu=mu)
            levels = FlowMatchEulerDiscreteScheduler(**{k: v for k, v in self.config.items() if k in accepted})
            levels.set_timesteps(num_inference_steps, device=device, sigmas=sigmas, mu=mu)
            self.sigmas, self.timesteps = levels.sigmas, levels.timesteps
            self.num_inference_steps = levels.num_inference_steps
            if stepper.order == 2:
                # Each inner level is used twice: at the end of one step and at the start of the next.
                self.sigmas = torch.cat([self.sigmas[:1], self.sigmas[1:-1].repeat_interleave(2), self.sigmas[-1:]])
                self.timesteps = torch.cat([self.timesteps[:1], self.timesteps[1:].repeat_interleave(2)])
                self.prev_derivative = self.dt = None
            self._step_index = self._begin_index = None

        def scale_noise(self, sample: torch.Tensor, timestep: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            return _add_noise(self, sample, timestep, noise)

    return _rename_like(FlowStepper, stepper)


@lru_cache(maxsize=32)
def start_at_first_step(stepper: Any, eta: float | None) -> Any:
    """Subclasses a diffusion scheduler so that it always starts at its first step, and steps with this `eta`.

    `eta` is an argument of every step, for which pipelines pass 0 if anything. None leaves it to them.
    """

    class DiffusionStepper(stepper):
        @wraps(stepper.set_timesteps)
        def set_timesteps(self, *args: Any, **options: Any) -> None:
            super().set_timesteps(*args, **options)
            _begin_at_first_step(self)

        if eta is not None:

            @wraps(stepper.step)
            def step(self, *args: Any, **options: Any) -> Any:
                return super().step(*args, **{**options, "eta": eta})

    return _rename_like(DiffusionStepper, stepper)


def _add_noise(scheduler: Any, sample: torch.Tensor, timestep: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """`sample` with noise at the scheduler's current level; before its first step, at the level of `timestep`."""
    index = scheduler.begin_index if scheduler.step_index is None else scheduler.step_index
    if index is None:
        index = scheduler.index_for_timestep(timestep.flatten()[0])
    level = scheduler.sigmas[index].to(sample)
    return level * noise + (1 - level) * sample


def _begin_at_first_step(scheduler: Any) -> None:
    """Makes the scheduler begin at its first step where the first two timesteps are equal.

    Timesteps are rounded to whole numbers. Where the first two round to the same one, a scheduler looks up the second,
    and runs out of steps at the end.
    """
    times = scheduler.timesteps
    if len(times) > 1 and times[0] == times[1] and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)


def _rename_like(subclass: Any, parent: Any) -> Any:
    """Gives a subclass its parent's name, because diffusers compares schedulers by class name."""
    subclass.__name__ = subclass.__qualname__ = parent.__name__
    return subclass
