"""Values of a scheduler's configuration: numbers within bounds, known words, and yes or no."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from tests.models.tiny_families import tiny
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.config_gate import refuse_values
from wavespeed_runner.models.weights.scheduler_gate import WORDS, explain_class
from wavespeed_runner.planning.plan import build_plan

SCHEDULER = {
    "shift": (3.0, [0, -1, float("inf"), 1e5, True]),
    "flow_shift": (17, [0, "5"]),
    "snr_shift_scale": (3.0, [0]),
    "shift_terminal": (0.1, [1.0, 0.99, 1, -1, 2, True, "0.1"]),
    "base_shift": (0.5, [1e5, -800]),
    "max_shift": (2.05, [-800, 10**400]),
    "beta_start": (0.00085, [0, -0.1, 1]),
    "beta_end": (0.012, [0, 1, 1.5]),
    "trained_betas": ([0.1] * 1000, [[0.1, 1.0], [0.1, "x"], [[0.1, 0]]]),
    "dynamic_thresholding_ratio": (0.995, [-0.1, 1.1]),
    "clip_sample_range": (1.0, [0]),
    "sample_max_value": (1.0, [0]),
    "timestep_scaling": (10.0, [0]),
    "sigma_min": (0.002, [0, -1]),
    "sigma_max": (80.0, [0, 1e9]),
    "sigma_data": (0.5, [0]),
    "rho": (7.0, [0]),
    "steps_offset": (1, [-1, 5000]),
    "original_inference_steps": (50, [0, 10**6]),
    "solver_order": (3, [0, 99, True]),
    "predictor_order": (2, [0, 9]),
    "corrector_order": (0, [-1, 9]),
    "lambda_min_clipped": (-5.1, [1e9, 0, float("nan")]),
    "s_noise": (1.0, [0, 1e3]),
    "eta": (1.0, [-1, 5]),
}


@pytest.mark.parametrize("key", SCHEDULER)
def test_numbers_of_a_scheduler_are_bounded(key: str) -> None:
    usual, wrong = SCHEDULER[key]
    refuse_values("x", {key: usual})
    refuse_values("x", {key: None})
    for value in wrong:
        with pytest.raises(ConfigError, match=rf"^x: {key} = .*(is out of bounds; .+ to .+|is no number|is too large)"):
            refuse_values("x", {key: value})


@pytest.mark.parametrize("key", WORDS)
def test_words_of_a_scheduler_are_known_ones(key: str) -> None:
    refuse_values("x", {key: None})
    for word in WORDS[key]:
        refuse_values("x", {key: word})
    for value in ("evil", "", 1, [WORDS[key][0]], True):
        with pytest.raises(ConfigError, match=rf"^x: {key} = .* is unknown; allowed: {re.escape(WORDS[key][0])}, "):
            refuse_values("x", {key: value})


def test_words_are_all_that_the_schedulers_of_diffusers_say_they_take() -> None:
    import diffusers

    seen = set()
    for name in (name for name in dir(diffusers) if name.endswith("Scheduler") and name[0].isupper()):
        for key, parameter in inspect.signature(getattr(diffusers, name).__init__).parameters.items():
            if key in WORDS:
                said = "" if isinstance(parameter.annotation, type) else str(parameter.annotation)
                taken = {*re.findall(r"['\"]([^'\"]+)['\"]", said)} | ({parameter.default} - {None})
                assert taken <= set(WORDS[key]), (name, key)
                seen.add(key)
    assert seen == set(WORDS)


def test_switches_of_a_scheduler_are_true_or_false() -> None:
    for key in ("use_karras_sigmas", "thresholding", "rescale_betas_zero_snr"):
        for value in (True, False, None):
            refuse_values("x", {key: value})
        for wrong in ("false", "no", 1, [], "evil"):
            with pytest.raises(ConfigError, match=rf"^x: {key} = .* is neither true nor false"):
                refuse_values("x", {key: wrong})


@pytest.mark.parametrize("steps", [{}, {"num_train_timesteps": 1000}, {"num_train_timesteps": 4}])
def test_trained_betas_are_one_for_each_step(steps: dict[str, int]) -> None:
    count = steps.get("num_train_timesteps", 1000)
    refuse_values("x", {"trained_betas": [0.1] * count, **steps})
    for wrong in ([0.1] * 3, [[0.1] * count], [[0.1]] * count, 0.1, []):
        with pytest.raises(ConfigError, match=rf"^x: trained_betas has .*num_train_timesteps = {count} wants"):
            refuse_values("x", {"trained_betas": wrong, **steps})


def test_schedulers_as_diffusers_and_families_make_them_pass() -> None:
    import diffusers

    names = [name for name in dir(diffusers) if name.endswith("Scheduler") and name[0].isupper()]
    built = 0
    for name in names:
        try:
            config = dict(getattr(diffusers, name)().config)
        except Exception:  # needs another package, or an argument
            continue
        refuse_values(name, json.loads(json.dumps(config, default=str)))
        built += 1
    assert built > 25


UNBUILT = ("CosineDPMSolverMultistepScheduler", "DPMSolverSDEScheduler")
"""Need torchsde, which a trial says."""


@pytest.mark.parametrize(("option", "schedule"), [("sd15", "diffusion"), ("sd35_medium", "flow")])
def test_schedulers_that_are_refused_are_those_that_a_pipeline_cannot_call(option: str, schedule: str) -> None:
    """Every scheduler of diffusers, in a tiny pipeline."""
    pipe = tiny(option)[2]
    own = pipe.scheduler
    names = [name for name in dir(diffusers.schedulers) if name.endswith("Scheduler") and hasattr(diffusers, name)]
    names = [name for name in names if name not in UNBUILT]
    failed = set()
    for name in names:
        try:
            pipe.scheduler = getattr(diffusers, name)()
            size = {"width": 64, "height": 64, "output_type": "latent", "guidance_scale": 1.0}
            latents = pipe("a cat", num_inference_steps=4, **size)[0]
            assert torch.isfinite(latents).all()
        except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError):
            failed.add(name)
        finally:
            pipe.scheduler = own
    assert len(failed) > 10 and failed == {name for name in names if explain_class(name, schedule, {}, 4)}


def test_a_run_has_no_more_steps_than_its_scheduler() -> None:
    config = {"num_train_timesteps": 3}
    assert not explain_class("DDIMScheduler", "diffusion", config, 3)
    told = explain_class("DDIMScheduler", "diffusion", config, 28)
    assert told == "its scheduler has num_train_timesteps = 3, fewer than steps=28; give steps=3 or less"


def test_the_plan_refuses_a_scheduler_of_another_kind(tmp_path: Path, composed: Callable[..., Any]) -> None:
    folder = tmp_path / "sd"
    tiny("sd15")[2].save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    given = ["model=sd15", f"model.repo={folder}", "model.init=pretrained"]
    with pytest.raises(
        ConfigError, match="is a FlowMatchEulerDiscreteScheduler, which this pipeline cannot call; choose"
    ):
        build_plan(composed(*given))
    build_plan(composed(*given, "sampler=ddim"))
