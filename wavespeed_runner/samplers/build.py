"""Builds a sampler's diffusers scheduler from the model's own scheduler configuration and the options."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from ..models.weights.hub import get_diffusers_class
from .subclasses import start_at_first_step, step_flow_model, use_flow_noise_levels
from .table import COGVIDEOX, DIFFUSION, FLOW, SAMPLERS, Sigmas, TimestepSpacing

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, SchedulerMixin

TRAINING_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
)
"""What the model was trained with. `from_config` drops values that equal the first scheduler's defaults, but defaults
differ between classes: DDIMScheduler() ends at beta 0.02, HeunDiscreteScheduler() at 0.012."""

TRAINING_NOISE_KEYS = ("rescale_betas_zero_snr", "snr_shift_scale")
"""Keys that change the noise levels of training. A class without them would start from the wrong noise level."""

SPACING_KEYS = {spacing: f"use_{spacing.value}_sigmas" for spacing in Sigmas if spacing is not Sigmas.uniform}
"""Spacing -> the scheduler argument that switches it on."""

ARGUMENTS = {"order": "solver_order", "stochastic": "stochastic_sampling", "eta": "eta"}
"""Our option -> the scheduler argument of the same meaning."""


def build_scheduler(pipe: DiffusionPipeline, options: Any) -> SchedulerMixin:
    """Builds the scheduler for a sampler's options from the configuration of `pipe.scheduler`.

    Like `CLASS.from_config(pipe.scheduler.config, ...)`, but the model's training settings survive: its betas and, on
    flow models, its shift (which has two names in diffusers), also where the shift depends on the image size.

    Args:
        pipe: its scheduler must be the one that the model came with.
        options: an instance of one of the classes in `options.OPTIONS`.

    Raises:
        RunError: the sampler has no class for this kind of model, or its class would ignore how the model was trained.
    """
    sampler, model_config = SAMPLERS[options.name], pipe.scheduler.config
    kind = find_model_kind(pipe.scheduler)
    if kind not in sampler.classes:
        raise RunError(
            f"sampler={options.name}: the model's own {type(pipe.scheduler).__name__} is for {kind} models, but "
            f"{options.name} is for {', '.join(sampler.classes)}; sampler=default uses the model's own"
        )
    scheduler_class = get_diffusers_class(sampler.classes[kind])
    spacing = _resolve_spacing(options, model_config)
    arguments = {
        **read_model_config(model_config),
        **sampler.fixed,
        **{key: getattr(options, name) for name, key in ARGUMENTS.items() if hasattr(options, name)},
        **_spacing_arguments(spacing),
    }
    if (chosen := getattr(options, "timestep_spacing", None)) is not None:
        arguments |= {"timestep_spacing": TimestepSpacing(chosen).value}
    if (terminal := getattr(options, "shift_terminal", None)) is not None:
        arguments |= {"shift_terminal": terminal or None}
    if kind == FLOW:
        return instantiate(*_prepare_flow(model_config, arguments, scheduler_class, options.shift, spacing))
    _check_training_noise(options.name, scheduler_class, model_config)
    eta = sampler.options.get("eta")
    step_eta = options.eta if eta and kind in eta.kinds else None
    return instantiate(arguments, start_at_first_step(scheduler_class, step_eta))


def find_model_kind(scheduler: SchedulerMixin) -> str:
    """The kind of model that a scheduler steps: flow, diffusion, cogvideox, as in `Family.schedule`.

    For a scheduler that belongs to one model only, the start of its class name.
    """
    name, config = type(scheduler).__name__, scheduler.config
    flow = ("FlowMatch", "LTXEuler")
    if name.startswith(flow) or config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        return FLOW
    if name.startswith("CogVideoX"):
        return COGVIDEOX
    return DIFFUSION if "beta_start" in config else name.removesuffix("Scheduler")


def read_model_config(model_config: Any) -> dict[str, Any]:
    """The model's configuration as `from_config` reads it, without losing what it was trained with."""
    defaults = [key for key in model_config.get("_use_default_values", ()) if key not in TRAINING_KEYS]
    config = {key: value for key, value in model_config.items() if key not in defaults and not key.startswith("_")}
    # Latents have no bounds. Some classes clip to -1..1 by default; pipelines undo that, but only in the scheduler
    # that they were loaded with.
    return {"clip_sample": False, **config}


def instantiate(arguments: dict[str, Any], scheduler_class: Any) -> SchedulerMixin:
    """Creates the scheduler from the arguments that its class knows; the others stay readable in its `config`.

    Pipelines compute the shift for an image size from keys in the config, whichever scheduler it belongs to.
    """
    accepted = signature(scheduler_class.__init__).parameters
    scheduler = scheduler_class(**{key: value for key, value in arguments.items() if key in accepted})
    scheduler.register_to_config(**{key: value for key, value in arguments.items() if key not in accepted})
    return scheduler


def _resolve_spacing(options: Any, model_config: Any) -> Sigmas:
    """The spacing that the options ask for; null: that of the model's own scheduler."""
    chosen = getattr(options, "sigmas", None)
    if chosen is not None:
        return Sigmas(chosen)
    return next((spacing for spacing, key in SPACING_KEYS.items() if model_config.get(key)), Sigmas.uniform)


def _spacing_arguments(spacing: Sigmas) -> dict[str, bool]:
    return {key: spacing is option for option, key in SPACING_KEYS.items()}


def _check_training_noise(name: str, scheduler_class: Any, model_config: Any) -> None:
    """Refuses a class that would ignore how the model's training noise was changed."""
    accepted = signature(scheduler_class.__init__).parameters
    for key in TRAINING_NOISE_KEYS:
        if model_config.get(key) and key not in accepted:
            raise RunError(
                f"sampler={name}: the model was trained with {key}={model_config[key]}, which "
                f"{scheduler_class.__name__} does not support; use sampler=default or another sampler"
            )


def _prepare_flow(
    model_config: Any, arguments: dict[str, Any], scheduler_class: Any, shift: float | None, spacing: Sigmas
) -> tuple[dict[str, Any], Any]:
    """Arguments and class of the scheduler for a flow model."""
    if shift is not None:  # schedulers ignore a fixed shift while the shift depends on the image size
        arguments |= {"use_dynamic_shifting": False}
    else:
        shift = arguments.get("shift", arguments.get("flow_shift", 1.0))
    accepted = signature(scheduler_class.__init__).parameters
    is_solver = "use_flow_sigmas" in accepted
    # Pipelines read `use_flow_sigmas`: where it is set they leave the noise levels to the scheduler.
    arguments |= {"shift": shift, "flow_shift": shift, "use_flow_sigmas": is_solver}
    arguments |= {"prediction_type": "flow_prediction"}
    if is_solver:
        return arguments | _spacing_arguments(Sigmas.uniform), step_flow_model(scheduler_class, spacing)
    even = bool(model_config.get("use_flow_sigmas"))
    if "use_dynamic_shifting" in accepted and not even:
        return arguments, scheduler_class
    return arguments, use_flow_noise_levels(scheduler_class, even)
