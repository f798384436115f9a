"""Makes the scheduler: the table's class, with the model's own configuration and the options."""

from __future__ import annotations

from functools import lru_cache, wraps
from inspect import signature
from typing import Any

from ..errors import RunError
from ..models.weights.hub import diffusers_class
from .table import COGVIDEOX, DIFFUSION, FLOW, SAMPLERS, Sigmas

OF_MODEL = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")
"""What a model was trained with. `from_config` leaves out values that the first scheduler had by default, and classes
have other defaults: DDIMScheduler() ends at beta 0.02, HeunDiscreteScheduler() at 0.012."""

OF_NOISE = ("rescale_betas_zero_snr", "snr_shift_scale")
"""What changes the noise levels of training: a class that has no such key would start from the wrong noise."""

SPACINGS = {spacing: f"use_{spacing.value}_sigmas" for spacing in Sigmas if spacing is not Sigmas.uniform}


def build_scheduler(pipe: Any, options: Any) -> Any:
    """The scheduler for `options`, made from the configuration of `pipe.scheduler`, which must be the model's own.

    As `CLASS.from_config(pipe.scheduler.config, ...)` makes it, but nothing of the model's is lost on the way: its
    betas, and on flow models its shift (which has two names in diffusers), also where it follows the image's size.

    options: of a class made in `options.py`.

    Raises:
        RunError: the model's own scheduler is of a kind for which the sampler has no class.
    """

    sampler, own = SAMPLERS[options.name], pipe.scheduler.config
    kind = find_model_kind(pipe.scheduler)
    if kind not in sampler.classes:
        raise RunError(
            f"sampler={options.name}: the model's own {type(pipe.scheduler).__name__} is for {kind} models, and "
            f"{options.name} is for {', '.join(sampler.classes)}; sampler=default takes the model's own"
        )
    found = diffusers_class(sampler.classes[kind])
    spacing = _spacing(options, own)
    given = {**_kept(own), **sampler.fixed, **_given(options), **_spaced(spacing)}
    if kind == FLOW:
        return _made(*_for_flow(own, given, found, options.shift, spacing))
    _refuse_lost(options.name, found, own)
    eta = sampler.options.get("eta")
    return _made(given, _on_diffusion(found, getattr(options, "eta", None) if eta and kind in eta.kinds else None))


def find_model_kind(scheduler: Any) -> str:
    """Kind of the models that a scheduler steps, as `Family.schedule` has it; or the beginning of its class's name
    where only that class steps them."""
    name, config = type(scheduler).__name__, scheduler.config
    flow = ("FlowMatch", "LTXEuler")
    if name.startswith(flow) or config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        return FLOW
    if name.startswith("CogVideoX"):
        return COGVIDEOX
    return DIFFUSION if "beta_start" in config else name.removesuffix("Scheduler")


def _kept(own: Any) -> dict[str, Any]:
    """The model's configuration as `from_config` reads it, with those of its values that stand for the model."""
    defaults = [key for key in own.get("_use_default_values", ()) if key not in OF_MODEL]
    kept = {key: value for key, value in own.items() if key not in defaults and not key.startswith("_")}
    # Latents are not bounded. Some classes clip to -1..1 by default, and pipelines undo it in their first scheduler.
    return {"clip_sample": False, **kept}


def _made(given: dict[str, Any], found: Any) -> Any:
    """The scheduler. What is not for its class stays readable in its configuration: pipelines reckon the shift for a
    image's size with the keys of any scheduler."""
    takes = signature(found.__init__).parameters
    scheduler = found(**{key: value for key, value in given.items() if key in takes})
    scheduler.register_to_config(**{key: value for key, value in given.items() if key not in takes})
    return scheduler


def _given(options: Any) -> dict[str, Any]:
    """Options that are arguments of the class."""
    names = {"order": "solver_order", "stochastic": "stochastic_sampling", "eta": "eta"}
    return {key: getattr(options, name) for name, key in names.items() if hasattr(options, name)}


def _spacing(options: Any, own: Any) -> Sigmas:
    """As the options say; null: as the model's own scheduler has it."""
    chosen = getattr(options, "sigmas", None)
    if chosen is not None:
        return Sigmas(chosen)
    return next((one for one, key in SPACINGS.items() if own.get(key)), Sigmas.uniform)


def _spaced(spacing: Sigmas) -> dict[str, bool]:
    return {key: spacing is one for one, key in SPACINGS.items()}


def _refuse_lost(name: str, found: Any, own: Any) -> None:
    takes = signature(found.__init__).parameters
    for key in OF_NOISE:
        if own.get(key) and key not in takes:
            raise RunError(
                f"sampler={name}: the model was trained with {key}={own[key]}, which {found.__name__} does not know; "
                "take sampler=default or another sampler"
            )


def _for_flow(
    own: Any, given: dict[str, Any], found: Any, shift: float | None, spacing: Sigmas
) -> tuple[dict[str, Any], Any]:
    """Configuration and class for a flow model."""
    if shift is not None:  # schedulers ignore a fixed shift while it follows the size
        given |= {"use_dynamic_shifting": False}
    else:
        shift = given.get("shift", given.get("flow_shift", 1.0))
    takes = signature(found.__init__).parameters
    # Pipelines read `use_flow_sigmas`: where it is on, they leave the noise levels to the scheduler.
    given |= {"shift": shift, "flow_shift": shift, "use_flow_sigmas": "use_flow_sigmas" in takes}
    given |= {"prediction_type": "flow_prediction"}
    if "use_flow_sigmas" in takes:
        return given | _spaced(Sigmas.uniform), _solver_on_flow(found, spacing)
    even = bool(own.get("use_flow_sigmas"))
    return given, found if "use_dynamic_shifting" in takes and not even else _with_levels(found, even)


@lru_cache(maxsize=32)
def _solver_on_flow(solver: Any, spacing: Sigmas) -> Any:
    """A solver of diffusion equations as pipelines of flow models call it.

    diffusers' solvers know flow models by `use_flow_sigmas`. What is added here: the shift for the image's size
    (`mu`), which not all of them take, and the end of the shift, which only UniPC does; other spacings, which they
    reckon for diffusion models; the end of the last step, which DEIS and SA-Solver, unable to reach 0, put where it
    began, so that its noise stays in the image; and `scale_noise`, by which image-to-image starts.
    """
    import numpy as np
    import torch

    class OnFlow(solver):
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
                self._end_shift()
            if spacing is not Sigmas.uniform:
                convert = getattr(self, f"_convert_to_{spacing.value}")
                self._take(convert(in_sigmas=self.sigmas[:-1], num_inference_steps=len(self.sigmas) - 1))
            if self.sigmas[-1] > 0:
                self.sigmas[-1] = 1 / self.config.num_train_timesteps
            _start_at_first(self)

        def _end_shift(self) -> None:
            end = self.config.get("shift_terminal")
            if end:
                rest = 1 - self.sigmas[:-1].double()
                self._take(1 - rest * (1 - end) / rest[-1])

        def _take(self, levels: Any) -> None:
            levels = torch.as_tensor(levels).double()
            self.sigmas = torch.cat([levels, self.sigmas[-1:].double()]).float()
            self.timesteps = (levels * self.config.num_train_timesteps).to(self.timesteps)

        def scale_noise(self, sample: Any, timestep: Any, noise: Any) -> Any:
            return _noised(self, sample, timestep, noise)

    return _named(OnFlow, solver)


@lru_cache(maxsize=8)
def _with_levels(stepper: Any, even: bool) -> Any:
    """A flow scheduler on the noise levels that FlowMatchEulerDiscreteScheduler would take. Pipelines hand over levels
    and the shift for the image's size, and not every scheduler takes them.

    even: where the pipeline hands over none, those of diffusers' solvers, in equal steps to 0. The model's own is one.
    FlowMatchEulerDiscreteScheduler would spend its last step on next to nothing.
    """
    import numpy as np
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    takes = signature(FlowMatchEulerDiscreteScheduler.__init__).parameters

    class WithLevels(stepper):
        def set_timesteps(
            self, num_inference_steps: int | None = None, device: Any = None, sigmas: Any = None, mu: Any = None
        ) -> None:
            if even and sigmas is None:
                sigmas = np.linspace(1, 1 / self.config.num_train_timesteps, int(num_inference_steps or 0) + 1)[:-1]
            if "use_dynamic_shifting" in signature(stepper.__init__).parameters:
                return super().set_timesteps(num_inference_steps, device=device, sigmas=sigmas, mu=mu)
            levels = FlowMatchEulerDiscreteScheduler(**{k: v for k, v in self.config.items() if k in takes})
            levels.set_timesteps(num_inference_steps, device=device, sigmas=sigmas, mu=mu)
            self.sigmas, self.timesteps = levels.sigmas, levels.timesteps
            self.num_inference_steps = levels.num_inference_steps
            if stepper.order == 2:
                # Every level but the first and the last is met twice: at the end of a step and at the next one's start.
                self.sigmas = torch.cat([self.sigmas[:1], self.sigmas[1:-1].repeat_interleave(2), self.sigmas[-1:]])
                self.timesteps = torch.cat([self.timesteps[:1], self.timesteps[1:].repeat_interleave(2)])
                self.prev_derivative = self.dt = None
            self._step_index = self._begin_index = None

        def scale_noise(self, sample: Any, timestep: Any, noise: Any) -> Any:
            return _noised(self, sample, timestep, noise)

    return _named(WithLevels, stepper)


@lru_cache(maxsize=32)
def _on_diffusion(stepper: Any, eta: float | None) -> Any:
    """A scheduler that starts at its first step, and one whose steps have this `eta`: an argument of every step, for
    which pipelines hand over 0 if anything."""

    class OnDiffusion(stepper):
        @wraps(stepper.set_timesteps)
        def set_timesteps(self, *args: Any, **options: Any) -> None:
            super().set_timesteps(*args, **options)
            _start_at_first(self)

        if eta is not None:

            @wraps(stepper.step)
            def step(self, *args: Any, **options: Any) -> Any:
                return super().step(*args, **{**options, "eta": eta})

    return _named(OnDiffusion, stepper)


def _noised(scheduler: Any, sample: Any, timestep: Any, noise: Any) -> Any:
    """`sample` as far on its way to `noise` as the scheduler is; before its first step, as `timestep` says."""
    known = scheduler.begin_index if scheduler.step_index is None else scheduler.step_index
    if known is None:
        known = scheduler.index_for_timestep(timestep.flatten()[0])
    level = scheduler.sigmas[known].to(sample)
    return level * noise + (1 - level) * sample


def _start_at_first(scheduler: Any) -> None:
    """Times are rounded to whole ones. Where the first two become one, a scheduler that is not told would begin at the
    second, and run out of steps at the end."""
    times = scheduler.timesteps
    if len(times) > 1 and times[0] == times[1] and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)


def _named(made: Any, after: Any) -> Any:
    """diffusers reads a scheduler's class by its name."""
    made.__name__ = made.__qualname__ = after.__name__
    return made
