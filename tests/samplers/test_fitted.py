"""The fitted sampler: with a plain solver's coefficients it is that solver; its formula, starts and refusals."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.test_every_model import image, mask
from tests.samplers.test_every_sampler import families
from tests.samplers.tiny_pipelines import TinyPipeline, options_of, tiny
from wavespeed_runner.config.solver import Solver
from wavespeed_runner.errors import ConfigError, RunError, Unfit
from wavespeed_runner.samplers import fitted, full_sampler, why_unfit, why_unusable
from wavespeed_runner.samplers.build import build_scheduler
from wavespeed_runner.samplers.coefficients import capture_schedule, check_linear, read_coefficients
from wavespeed_runner.samplers.fitted import FittedSampler

STEPS = 3
SOLVERS = ("euler", "ddim", "lms", "dpmpp_2m", "dpmpp_3m", "deis", "unipc")
TINY = Solver(timesteps=[900.0, 400.0], noise_weights=[0.9, 0.5], output_weights=[[0.3], [-0.2, 0.7]])


def read(pipeline: TinyPipeline, options: Any, steps: int = STEPS) -> Solver:
    scheduler = build_scheduler(pipeline.pipe, options)
    captured = capture_schedule(scheduler, lambda: pipeline.run(scheduler, steps=steps))
    solver = read_coefficients(captured)
    check_linear(captured, solver)
    return solver


def as_options(solver: Solver) -> FittedSampler:
    return FittedSampler(**asdict(solver))


def list_solvers(model: str, pipeline: TinyPipeline) -> list[str]:
    """All of them for two families, and one for the others, whose pipelines call schedulers in other ways."""
    fit = [name for name in SOLVERS if not why_unusable(pipeline.family, options_of(name))]
    return fit if model in ("demo", "sd15") else fit[:1]


@pytest.mark.parametrize("model", families())
def test_with_the_coefficients_of_a_solver_it_is_that_solver(model: str) -> None:
    pipeline = tiny(model)
    for name in list_solvers(model, pipeline):
        options = options_of(name)
        wanted, _ = pipeline.sample(options, steps=STEPS)
        made, ticks = pipeline.sample(as_options(read(pipeline, options)), steps=STEPS)
        # DEIS integrates logarithms in float32.
        bound = (5e-4 if name == "deis" else 5e-5) * float(wanted.float().abs().max())
        if made.dtype != torch.float32:
            bound *= 400
        assert ticks == STEPS
        assert float((made.float() - wanted.float()).abs().max()) <= bound, name


def test_the_formula_in_float64() -> None:
    pipe, rng = tiny("sd15").pipe, np.random.default_rng(3)
    times = sorted((float(t) for t in rng.uniform(1, 999, size=5)), reverse=True)
    noise, rows = rng.uniform(0.5, 2, size=5), [rng.normal(size=n + 1) for n in range(5)]
    solver = Solver(
        timesteps=times, noise_weights=noise.tolist(), output_weights=[row.tolist() for row in rows], noise_scale=0.9
    )
    scheduler = fitted.build_fitted_scheduler(pipe, as_options(solver))
    scheduler.set_timesteps(5)
    assert scheduler.timesteps.tolist() == pytest.approx(times) and scheduler.init_noise_sigma == 0.9
    start = rng.normal(size=(2, 4, 3, 3))
    x, expected, outputs = torch.tensor(start).float(), start, []
    for n, time in enumerate(scheduler.timesteps):
        assert scheduler.scale_model_input(x, time) is x
        outputs.append(np.sin(expected * (n + 1)))
        x = scheduler.step(torch.sin(x * (n + 1)), time, x).prev_sample
        expected = noise[n] * start + sum(weight * output for weight, output in zip(rows[n], outputs, strict=True))
    assert np.allclose(x.numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", ["demo", "sd15"])
@pytest.mark.parametrize("task", ["image_to_image", "inpaint"])
def test_it_starts_from_an_image(model: str, task: str) -> None:
    """As Euler and DDIM do, which need no earlier outputs."""
    pipeline = tiny(model)
    start: dict[str, Any] = {"image": [image(pipeline.size)], "strength": 0.5, "task": task}
    if task == "inpaint":
        start["mask"] = [mask(pipeline.size)]
    plain = options_of("euler" if model == "demo" else "ddim")
    wanted, ticks = pipeline.sample(plain, steps=4, **start)
    made, fitted_ticks = pipeline.sample(as_options(read(pipeline, plain, 4)), steps=4, **start)
    assert ticks == fitted_ticks == 2
    assert torch.allclose(made, wanted, atol=2e-4 * float(wanted.abs().max()))


def test_a_start_from_an_image_ends_at_it_where_the_output_is_constant() -> None:
    """What a multistep solver has not seen is taken as the first output that it sees."""
    pipeline = tiny("demo")
    scheduler = fitted.build_fitted_scheduler(pipeline.pipe, as_options(read(pipeline, options_of("unipc"), 6)))
    scheduler.set_timesteps(6)
    scheduler.set_begin_index(3)
    made, noise = torch.randn(2, 1, 4, 8, generator=torch.Generator().manual_seed(1))
    x = scheduler.scale_noise(made, scheduler.timesteps[3:4], noise)
    for time in scheduler.timesteps[3:]:
        (x,) = scheduler.step(noise - made, time, x, return_dict=False)
    assert torch.allclose(x, made, atol=3e-3)  # its timesteps are rounded to whole ones


def test_numbers_for_other_steps_are_refused_by_the_scheduler() -> None:
    with pytest.raises(RunError, match="numbers are for 2 evaluations, and the pipeline asks for 3"):
        tiny("demo").sample(as_options(TINY), steps=3)
    with pytest.raises(RunError, match="its numbers are missing"):
        tiny("demo").sample(FittedSampler(), steps=3)


def test_what_is_no_linear_multistep_solver_cannot_be_read() -> None:
    flow, unet = tiny("demo"), tiny("sd15")
    with pytest.raises(Unfit, match="evaluates some timestep twice"):
        read(flow, options_of("heun"))
    with pytest.raises(Unfit, match="is not linear"):
        read(flow, options_of("euler", stochastic=True))
    unet = tiny("sd15")
    with pytest.raises(Unfit, match="is not linear"):
        read(unet, options_of("ddim", eta=1.0))


def test_models_whose_own_sampler_draws_noise_have_another_full_run() -> None:
    for model, name in (("demo", "default"), ("sd15", "default"), ("cogvideox", "ddim")):
        pipeline = tiny(model)
        assert full_sampler(pipeline.family, pipeline.config).name == name
    other = replace(tiny("demo").family, schedule="Karras")
    assert why_unfit(other, "fitted") == "fitted makes no Karras steps, only flow, diffusion, cogvideox steps"


BROKEN = {
    "timesteps: 1 to 64": {"timesteps": [], "noise_weights": [], "output_weights": []},
    "timesteps: numbers of 0 to": {"timesteps": [400.0, 900.0]},
    "timesteps: numbers of": {"timesteps": [900.0, -1.0]},
    "noise_weights: 2 numbers": {"noise_weights": [1.0]},
    "noise_weights: 2 numbers of": {"noise_weights": [1.0, 0.0]},
    "output_weights: 2 rows": {"output_weights": [[1.0], [1.0]]},
    "output_weights: finite": {"output_weights": [[1.0], [1.0, float("nan")]]},
    "output_weights: finite numbers": {"output_weights": [[1.0], [1.0, 1e300]]},
    "noise_scale: a number": {"noise_scale": 0.0},
}


@pytest.mark.parametrize("message", BROKEN)
def test_numbers_of_no_solver_are_refused(message: str) -> None:
    with pytest.raises(ConfigError, match=f"sampler.{message}"):
        FittedSampler(**(asdict(TINY) | BROKEN[message]))
    assert Solver(**(asdict(TINY) | BROKEN[message])).find_problem().startswith(message)


def test_some_numbers_without_the_others_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"sampler\.timesteps=null: needed with sampler\.noise_weights"):
        FittedSampler(noise_weights=[1.0])
