"""Building a scheduler: the settings of the model are kept, and what does not fit is refused."""

from __future__ import annotations

import logging
from inspect import signature
from typing import Any

import pytest
import torch

from tests.models.shipped import config_of
from tests.samplers.tiny_pipelines import TinyPipeline, options_of
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.samplers import (
    SAMPLERS,
    Sigmas,
    fitting_samplers,
    why_unusable,
)
from wavespeed_runner.samplers.build import build_scheduler
from wavespeed_runner.samplers.options import sampler_keys
from wavespeed_runner.samplers.table import TimestepSpacing


def test_the_models_training_is_kept_quietly(unet: TinyPipeline) -> None:
    """Including values that are defaults of the model's scheduler but not of the new class."""
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("diffusers").addHandler(handler)

    class Pipe:
        scheduler: Any = DDIMScheduler(prediction_type="v_prediction")

    try:
        for name in SAMPLERS:
            if "diffusion" in SAMPLERS[name].classes:
                made = build_scheduler(Pipe, options_of(name))
                assert made.config.prediction_type == "v_prediction", name
                assert torch.equal(made.betas, Pipe.scheduler.betas), name
        Pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, base_shift=1.5, use_dynamic_shifting=True)
        for name in SAMPLERS:
            if "flow" in SAMPLERS[name].classes:
                made = build_scheduler(Pipe, options_of(name))
                assert made.config.base_shift == 1.5 and made.config.use_dynamic_shifting, name
    finally:
        logging.getLogger("diffusers").removeHandler(handler)
    assert not records


def test_the_models_own_spacing_is_kept_unless_chosen() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    class Pipe:
        scheduler = FlowMatchEulerDiscreteScheduler(use_beta_sigmas=True)

    def levels(name: str, sigmas: Sigmas | None) -> Any:
        scheduler = build_scheduler(Pipe, options_of(name, sigmas=sigmas))
        scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
        return scheduler.sigmas.unique()

    for name in ("euler", "heun", "dpmpp_2m", "unipc"):
        assert torch.equal(levels(name, None), levels(name, Sigmas.beta)), name
        assert not torch.equal(levels(name, None), levels(name, Sigmas.uniform)), name


def test_what_does_not_fit_says_why(flow: TinyPipeline, unet: TinyPipeline) -> None:
    assert "pndm makes no flow steps, only diffusion" in why_unusable(flow.family, options_of("pndm"))
    assert "sampler.shift=2.0 could not take effect" in why_unusable(unet.family, options_of("euler", shift=2.0))
    assert "sampler.sigmas=karras" in why_unusable(unet.family, options_of("lcm", sigmas=Sigmas.karras))
    assert "sampler.eta=0.5" in why_unusable(unet.family, options_of("euler_ancestral", eta=0.5))
    assert why_unusable(flow.family, options_of("euler", shift=2.0)) == ""
    assert {"euler", "dpmpp_2m", "unipc", "heun"} <= set(fitting_samplers(flow.family)) & set(
        fitting_samplers(unet.family)
    )
    with pytest.raises(RunError, match="PNDMScheduler is for diffusion models"):
        build_scheduler(unet.pipe, options_of("cogvideox_dpm"))


def test_noise_that_a_class_does_not_know_is_refused() -> None:
    from diffusers import DDIMScheduler

    class Pipe:
        scheduler = DDIMScheduler(rescale_betas_zero_snr=True)

    assert build_scheduler(Pipe, options_of("euler")).config.rescale_betas_zero_snr
    with pytest.raises(RunError, match="sampler=heun: the model was trained with rescale_betas_zero_snr=True"):
        build_scheduler(Pipe, options_of("heun"))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("euler", {"shift": 0.0}),
        ("unipc", {"shift": -1.0}),
        ("unipc", {"order": 7}),
        ("deis", {"order": 0}),
        ("ddim", {"eta": -0.1}),
    ],
)
def test_values_out_of_range_are_refused(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"sampler\.{next(iter(values))}="):
        options_of(name, **values)


SPACED = [(name, kind) for name, of in SAMPLERS.items() for kind in ("diffusion", "cogvideox") if kind in of.classes]


@pytest.mark.parametrize(("name", "kind"), SPACED)
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_timesteps_are_spaced_as_diffusers_spaces_them(name: str, kind: str, spacing: str) -> None:
    """The timesteps are those of table 2 of the paper, up to the multistep solvers' rounding; where the class has none
    of its own, the option is not there."""
    import diffusers

    own = {"diffusion": diffusers.DDIMScheduler, "cogvideox": diffusers.CogVideoXDDIMScheduler}[kind]

    class Pipe:
        scheduler: Any = own(beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1)

    if SAMPLERS[name].own_timesteps:
        assert "timestep_spacing" not in sampler_keys(SAMPLERS[name])
        return
    made = build_scheduler(Pipe, options_of(name, timestep_spacing=TimestepSpacing(spacing)))
    made.set_timesteps(10)
    trained = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear", "steps_offset": 1}
    accepted = signature(type(made).__init__).parameters
    wanted = {**trained, **SAMPLERS[name].fixed, "timestep_spacing": spacing}
    theirs = type(made)(**{key: value for key, value in wanted.items() if key in accepted})
    theirs.set_timesteps(10)
    assert made.timesteps.tolist() == theirs.timesteps.tolist()
    first = {"linspace": 999, "leading": 901, "trailing": 999}[spacing]
    assert abs(float(made.timesteps[0]) - first) <= 1
    kept = build_scheduler(Pipe, options_of(name))
    kept.set_timesteps(10)
    assert abs(float(kept.timesteps[0]) - 901) <= 1, "the model's own spacing"


def test_timestep_spacing_of_flow_models_is_refused() -> None:
    spaced = options_of("euler", timestep_spacing=TimestepSpacing.trailing)
    family = find_implementation("model", config_of("flux"))
    text = "sampler.timestep_spacing=trailing could not take effect: FlowMatchEulerDiscreteScheduler has no such option"
    assert why_unusable(family, spaced) == text
    assert why_unusable(find_implementation("model", config_of("sdxl")), spaced) == ""
