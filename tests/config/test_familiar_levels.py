"""Karras and exponential levels, which ComfyUI calls schedulers: what is named has ComfyUI's noise levels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import CommandLine
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.models.weights.hub import get_diffusers_class
from wavespeed_runner.samplers.build import build_scheduler


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


WHOLE = "sampler.timestep_spacing=linspace"
SAID = {
    "model=sdxl sampler=euler scheduler=karras": f"here it is sampler.sigmas=karras {WHOLE}",
    "model=sdxl sampler=heun scheduler=exponential": f"here it is sampler.sigmas=exponential {WHOLE}",
    "model=sd15 sampler=euler schedule_type=Karras": f"here it is sampler.sigmas=karras {WHOLE}",
    "model=sdxl sampler=euler sampler.scheduler=karras": f"here it is sampler.sigmas=karras {WHOLE}",
    "model=sdxl sampler=dpmpp_2m scheduler=karras": "here it is sampler.sigmas=karras",
    "model=sdxl sampler=euler scheduler='karras'": f"here it is sampler.sigmas=karras {WHOLE}",
    "model=sdxl scheduler=karras": f"here it is sampler=euler sampler.sigmas=karras {WHOLE}",
    "model=sdxl sampler=euler use_karras_sigmas=true": "here it is sampler.sigmas=karras",
    "model=sdxl use_exponential_sigmas=true": "here it is sampler=euler sampler.sigmas=exponential",
    "model=sdxl sampler=ddim scheduler=karras": "no karras noise levels here (sampler=ddim has no such choice); "
    "without them it is sampler=ddim",
}


@pytest.mark.parametrize(("typed", "way"), SAID.items(), ids=SAID)
def test_the_typed_sampler_is_kept(command: CommandLine, typed: str, way: str) -> None:
    said = command.refuses("model.init=tiny", *typed.split(" "))
    assert said.endswith(f"no such key; {way}"), said


SAMPLERS = {"euler": True, "heun": True, "lms": True, "dpmpp_2m": False, "deis": False, "unipc": False}
"""Sampler -> whether its levels are those of `timestep_spacing`, so that linspace has to be named."""


@pytest.mark.parametrize("spacing", ["karras", "exponential"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_named_has_the_levels_of_comfyui(command: CommandLine, sampler: str, spacing: str) -> None:
    said = command.refuses("model=sdxl", f"sampler={sampler}", f"scheduler={spacing}")
    way = re.search(r"here it is (.*)$", said)
    assert way and (WHOLE in way[1]) == SAMPLERS[sampler]
    found = list_levels(f"sampler={sampler}", *way[1].split(" "))
    assert np.allclose(found, list_levels_of_comfyui(spacing, len(found)), rtol=1e-3)
    without = list_levels(f"sampler={sampler}", f"sampler.sigmas={spacing}")
    assert np.allclose(found, without, rtol=1e-3) != SAMPLERS[sampler]


def list_levels(*overrides: str) -> Any:
    """Noise levels of 20 steps of SDXL, from the highest on, without the zero at the end."""
    with composer(None):
        config = resolve_config(compose_job(["model=sdxl", "steps=20", *overrides], []))

    class Pipe:
        scheduler = get_diffusers_class("EulerDiscreteScheduler")(**TRAINED)

    scheduler: Any = build_scheduler(Pipe(), config.sampler)  # type: ignore[arg-type]
    scheduler.set_timesteps(20)
    levels = np.unique(np.asarray(scheduler.sigmas))[::-1]
    return levels[levels > 0]


TRAINED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
TRAINED |= {"timestep_spacing": "leading"}
"""scheduler/scheduler_config.json of SDXL base."""


def list_levels_of_comfyui(spacing: str, steps: int) -> Any:
    """ComfyUI's `get_sigmas_karras` and `_exponential` by their description: between the ends of the training."""
    alphas = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    lowest, *_, highest = np.sqrt((1 - alphas) / alphas)
    ramp = np.linspace(0, 1, steps)
    if spacing == "exponential":
        return np.exp(np.log(highest) + ramp * (np.log(lowest) - np.log(highest)))
    return (highest ** (1 / 7) + ramp * (lowest ** (1 / 7) - highest ** (1 / 7))) ** 7


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_on_flow_models_it_is_told_that_the_levels_are_others(command: CommandLine, sampler: str) -> None:
    """`ModelSamplingFlux` has 10000 levels, and Karras levels there end at the lowest of them."""
    said = command.refuses("model=flux", f"sampler={sampler}", "scheduler=karras")
    assert "here it is sampler.sigmas=karras (not ComfyUI's karras, which goes down to the lowest noise level" in said
    with composer(None):
        config = resolve_config(compose_job([f"sampler={sampler}", "sampler.sigmas=karras"], []))

    class Pipe:
        scheduler = get_diffusers_class("FlowMatchEulerDiscreteScheduler")(shift=3.0)

    scheduler: Any = build_scheduler(Pipe(), config.sampler)  # type: ignore[arg-type]
    scheduler.set_timesteps(sigmas=list(np.linspace(1, 1 / 20, 20)))
    assert scheduler.sigmas[-2] > 0.1
