"""Even spacings of ComfyUI's and A1111's schedulers, and more words of theirs: what is named is accepted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.command_line import CommandLine


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


TRAILING, EVEN = "sampler=euler sampler.timestep_spacing=trailing", "sampler=euler sampler.sigmas=uniform"
# sgm_uniform and simple as in diffusers' table, docs/source/en/api/schedulers/overview.md.
WAYS = {
    "model=sd15 scheduler=sgm_uniform": TRAILING,
    "model=sd15 scheduler='SGM Uniform'": TRAILING,
    "model=sd15 scheduler=simple": TRAILING,
    "model=sd15 scheduler=normal": "sampler=euler sampler.timestep_spacing=linspace",
    "model=sd15 scheduler=ddim_uniform": "sampler=euler sampler.timestep_spacing=leading",
    "model=flux scheduler=sgm_uniform": EVEN,
    "model=flux scheduler=simple": EVEN,
    "model=flux sampler=simple": EVEN,
    "model=sd15 sampler=sgm_uniform": TRAILING,
    "model=sd15 sampler=dpmpp_2m_sgm_uniform": "sampler=dpmpp_2m sampler.timestep_spacing=trailing",
    "model=flux sampler=dpmpp_2m_simple": "sampler=dpmpp_2m sampler.sigmas=uniform",
    "model=sd15 sampler=dpmpp_2m scheduler=sgm_uniform": "sampler.timestep_spacing=trailing",
    "model=sd15 sampler=euler sampler.scheduler=sgm_uniform": "sampler.timestep_spacing=trailing",
    "model=sd15 sampler.scheduler=sgm_uniform": TRAILING,
}


@pytest.mark.parametrize(("typed", "way"), WAYS.items(), ids=WAYS)
def test_an_even_spacing_is_the_key_of_the_models_kind(command: CommandLine, typed: str, way: str) -> None:
    given = shlex.split(typed)
    said = command.refuses("model.init=tiny", *given)
    assert said.strip().endswith(f": here it is {way}") or said.strip().endswith(f"no such key; here it is {way}"), said
    keys = {each.partition("=")[0] for each in way.split(" ")}
    given = [each for each in given[:-1] if each.partition("=")[0] not in keys]
    command.plans("model.init=tiny", *given, *way.split(" "))


OTHERS = {
    "model=flux scheduler=beta": r"sampler=euler sampler\.sigmas=beta \(not ComfyUI's beta: .*training times",
    "model=sdxl sampler=euler sampler.scheduler=beta": r"sampler\.sigmas=beta \(not ComfyUI's beta: ",
    "model=flux scheduler=normal": r"sampler=euler sampler\.sigmas=uniform \(ComfyUI's simple; its normal, .*cannot",
    "model=flux sampler=dpmpp_2m_normal": r"sampler=dpmpp_2m sampler\.sigmas=uniform \(ComfyUI's simple; ",
}


@pytest.mark.parametrize(("typed", "says"), OTHERS.items(), ids=OTHERS)
def test_a_spacing_that_has_other_noise_levels_there_is_told_so(command: CommandLine, typed: str, says: str) -> None:
    assert re.search(says, command.refuses("model.init=tiny", *typed.split(" ")))


def test_only_what_differs_is_told(command: CommandLine) -> None:
    for typed in ("model=flux scheduler=simple", "model=sd15 scheduler=normal", "model=sdxl scheduler=karras"):
        assert "(" not in command.refuses("model.init=tiny", *typed.split(" ")), typed


REFUSED = {
    "model=sd15 sampler=lcm_sgm_uniform": r"refused: .*LCMScheduler.*; without it: sampler=lcm$",
    "model=flux scheduler=ddim_uniform": r"refused: sampler\.timestep_spacing=leading could not.*without it: sampler",
    "sampler=ddim_uniform": r"did you mean 'ddim'",
    "sampler=dpmpp_sde_sgm_uniform": r"dpmpp_sde needs the package torchsde",
}
WORDS = {
    "vae_name=x/y": r"vae_name: no such key; here it is model\.vae=x/y$",
    "hires_upscale=2": r"here it is graph=hires_fix graph\.stages\.upscale\.options\.scale=2$",
    "hr_scale=2": r"here it is graph=hires_fix graph\.stages\.upscale\.options\.scale=2$",
    "cache_threshold=0.1": r"here it is cache=fbcache cache\.residual_diff_threshold=0\.1$",
    "control_after_generate=increment": r"seeds are swept: -m seed=0,1,2",
    "sampler_index=euler_a": r"here it is sampler=euler_ancestral$",
    "fp8=true device=cpu": r"here it is quant=fp8_wo$",  # fp8_dq has no kernels there
    "hydra.launcher.nodes=2": r"but of hydra/launcher=slurm: -m hydra/launcher=slurm hydra\.launcher\.nodes=2$",
}


@pytest.mark.parametrize(("typed", "says"), [*REFUSED.items(), *WORDS.items()], ids=[*REFUSED, *WORDS])
def test_other_words(command: CommandLine, typed: str, says: str) -> None:
    assert re.search(says, command.refuses(*typed.split(" ")).strip())


def test_the_form_that_a_launchers_key_is_answered_with_is_accepted(command: CommandLine) -> None:
    way = re.search(r": (-m .*)$", command.refuses("hydra.launcher.nodes=2").strip())
    assert way
    command.plans(*way[1].split(" "))
