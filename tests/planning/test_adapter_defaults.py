"""LoRAs for few steps: the run follows what they were distilled for, unless it is told otherwise, and says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler

from tests.accelerate.random_adapters import generate, load_tiny
from tests.command_line import CommandLine
from wavespeed_runner.accelerate.adapters import apply_adapters, collect_evidence
from wavespeed_runner.config.arguments import parse_arguments
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.samplers.build import build_scheduler
from wavespeed_runner.sweeps.jobs import plan_jobs

PRESETS = {
    "sdxl_lightning": ("sdxl", 4, 1.0),
    "sdxl_hyper": ("sdxl", 8, 1.0),
    "sdxl_lcm": ("sdxl", 4, 1.0),
    "sd15_lcm": ("sd15", 4, 1.0),
    "flux_hyper": ("flux", 8, 3.5),
    "flux_turbo": ("flux", 8, 3.5),
    "qwen_lightning": ("qwen_image", 8, 1.0),
    "wan22_lightning": ("wan22", 4, 1.0),
}
"""Preset -> model, steps and guidance scale, as their authors give them."""
TINY = ("model.init=tiny", "device=cpu", "measure=none", "prompt=x")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def plan(*overrides: str) -> Plan:
    (job,) = plan_jobs(parse_arguments([*TINY, *overrides]))
    assert job.plan is not None
    return job.plan


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_brings_its_steps_scale_and_sampler_and_no_rule_minds(command: CommandLine, name: str) -> None:
    model, steps, scale = PRESETS[name]
    found = plan(f"model={model}", f"adapters={name}")
    assert (found.config.steps, found.config.guidance_scale) == (steps, scale)
    set_here = {change.key: change.value for change in found.changes}
    assert set_here["steps"] == steps and set_here["guidance_scale"] == scale and "adapters.path" in set_here
    assert not [v for v in found.verdicts if v.rule.startswith("adapters") or v.rule.startswith("sampler")]


def test_what_is_given_wins(command: CommandLine) -> None:
    given = ("steps=6", "guidance_scale=1.5", "sampler=ddim", "sampler.timestep_spacing=trailing")
    found = plan("model=sdxl", "adapters=sdxl_hyper", *given)
    c: Any = found.config
    assert (c.steps, c.guidance_scale, c.sampler.name) == (6, 1.5, "ddim")
    assert [change.key for change in found.changes if "distilled" in change.why] == []


def test_the_plan_says_it(command: CommandLine) -> None:
    printed = command.plans(*TINY, "model=sdxl", "adapters=sdxl_lightning")
    for line in ("steps=4", "sampler=euler", "sampler.timestep_spacing=trailing"):
        assert f"  {line}: what ByteDance/SDXL-Lightning was distilled for" in printed
    assert "adapters.path=ByteDance/SDXL-Lightning: model.init=tiny" in printed


def test_another_model_and_a_wrong_sampler_are_refused(command: CommandLine) -> None:
    assert "it is for sdxl, and the model is flux" in command.refuses(*TINY, "model=flux", "adapters=sdxl_lightning")
    wrongs = {
        "{name: oiler}": "adapters.sampler.name=oiler",
        "{timestep_spacing: up}": "adapters.sampler.timestep_spacing",
    }
    for wrong, words in wrongs.items():
        with pytest.raises(ConfigError, match=words):
            plan("model=sdxl", "adapters=sdxl_lightning", f"adapters.sampler={wrong}")


def theirs(name: str, own: Any) -> Any:
    """The scheduler that the authors' own example sets."""
    trailing = {"timestep_spacing": "trailing"}
    return {
        "sdxl_lightning": lambda: EulerDiscreteScheduler.from_config(own, **trailing),
        "sdxl_hyper": lambda: DDIMScheduler.from_config(own, **trailing),
        "sdxl_lcm": lambda: LCMScheduler.from_config(own),
        "qwen_lightning": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
    }[name]()


@pytest.mark.parametrize("name", ["sdxl_lightning", "sdxl_hyper", "sdxl_lcm", "qwen_lightning"])
def test_its_noise_levels_are_those_of_the_authors(command: CommandLine, name: str) -> None:
    model, steps, _ = PRESETS[name]
    found, (_, _, pipe) = plan(f"model={model}", f"adapters={name}"), load_tiny(model)
    ours, expected = build_scheduler(pipe, found.config.sampler), theirs(name, pipe.scheduler.config)
    for scheduler in (ours, expected):
        given = {"sigmas": [1 - i / steps for i in range(steps)]} if model == "qwen_image" else {}
        scheduler.set_timesteps(**given or {"num_inference_steps": steps})
    assert torch.equal(ours.timesteps, expected.timesteps)


@pytest.mark.parametrize("name", PRESETS)
def test_a_tiny_model_runs_with_random_updates_in_every_layer_of_attention(command: CommandLine, name: str) -> None:
    model = PRESETS[name][0]
    adapters = plan(f"model={model}", f"adapters={name}").config.adapters
    _, _, pipe = load_tiny(model)
    before = generate(model, pipe)
    apply_adapters(pipe, adapters, stand_in=True)
    changed = generate(model, pipe)
    assert torch.isfinite(changed).all() and not torch.equal(before, changed)
    layers = (collect_evidence(pipe, adapters) or {})["layers"]
    denoisers = {"wan22": {"transformer", "transformer_2"}, "flux": {"transformer"}}.get(model)
    assert all(layers.values()) and (denoisers is None or set(layers) == denoisers)
