"""Every shipped sampler on tiny FLUX: against diffusers' scheduler with the same arguments, and against the truth."""

from __future__ import annotations

import logging

import pytest
import torch
from omegaconf import OmegaConf

from tests.models.staged import latents
from tests.models.tiny_flux import SAMPLE
from wavespeed_runner import samplers
from wavespeed_runner.config import CONF
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.flux import FLUX, Guidance
from wavespeed_runner.samplers import EulerSampler, Sigmas, UniPCSampler, euler, is_stochastic, unipc

OPTIONS = {
    "default": samplers.DefaultSampler,
    "euler": EulerSampler,
    "unipc": UniPCSampler,
}
BUILD = {"default": samplers.default, "euler": euler, "unipc": unipc}
SHIPPED = sorted(path.stem for path in (CONF / "sampler").glob("*.yaml"))


def shipped(name):
    """The options of a shipped YAML file, as Hydra would compose them."""
    given = OmegaConf.load(CONF / "sampler" / f"{name}.yaml")
    schema, last = given.pop("defaults")
    assert last == "_self_"
    registered = schema.removeprefix("/schema/sampler/").removesuffix("@_here_")
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(OPTIONS[registered]), given))


@pytest.fixture(scope="module")
def run(tiny_pipes):
    """scheduler, seed -> latents of 4 steps."""
    pipe, config = tiny_pipes[Guidance.embedded]
    embeddings = FLUX.encode(pipe, config, SAMPLE, 3.5)
    own = pipe.scheduler

    def call(scheduler, seed=5):
        pipe.scheduler = scheduler
        try:
            return latents(FLUX, pipe, config, embeddings, steps=4, seed=seed)["latents"]
        finally:
            pipe.scheduler = own

    call.pipe = pipe  # type: ignore[attr-defined]
    return call


def test_all_shipped_are_covered():
    assert {"default", "euler", "euler_karras", "euler_exponential", "euler_beta", "euler_stochastic", "unipc"} <= set(
        SHIPPED
    )
    assert set(FLUX.samplers) == set(OPTIONS)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_runs_repeats_and_leaves_the_global_state(run, name):
    options = shipped(name)
    before = torch.get_rng_state()
    first, second, other = (run(BUILD[options.name](run.pipe, options), seed) for seed in (5, 5, 6))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.isfinite(first).all() and torch.equal(first, second) and not torch.equal(first, other)
    as_own = torch.equal(first, run(run.pipe.scheduler))
    assert as_own == (name in ("default", "euler")), "only these are what the model has anyway"
    assert is_stochastic(options) == (name == "euler_stochastic")


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (EulerSampler(sigmas=Sigmas.karras), {"use_karras_sigmas": True}),
        (EulerSampler(sigmas=Sigmas.exponential), {"use_exponential_sigmas": True}),
        (EulerSampler(sigmas=Sigmas.beta), {"use_beta_sigmas": True}),
        (EulerSampler(shift=2.0), {"shift": 2.0, "use_dynamic_shifting": False}),
    ],
)
def test_euler_is_what_diffusers_makes_of_the_same_arguments(run, options, arguments):
    from diffusers import FlowMatchEulerDiscreteScheduler

    given = {"shift": 3.0, "use_dynamic_shifting": True, **arguments}
    theirs = run(FlowMatchEulerDiscreteScheduler(**given))
    assert torch.equal(run(euler(run.pipe, options)), theirs)
    assert not torch.equal(run(run.pipe.scheduler), theirs)


@pytest.mark.parametrize("shift", [None, 2.0])
def test_unipc_is_what_diffusers_makes_of_the_same_arguments(run, shift):
    from diffusers import UniPCMultistepScheduler

    given = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "solver_order": 3}
    given |= {"use_dynamic_shifting": True} if shift is None else {"flow_shift": shift}
    theirs = run(UniPCMultistepScheduler(**given))
    assert torch.equal(run(unipc(run.pipe, UniPCSampler(order=3, shift=shift))), theirs)


def test_unipc_keeps_the_models_shift_quietly(run):
    from diffusers import FlowMatchEulerDiscreteScheduler

    class Pipe:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, base_shift=1.5, use_dynamic_shifting=True)

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("diffusers").addHandler(handler)
    try:
        scheduler = unipc(Pipe, UniPCSampler())
    finally:
        logging.getLogger("diffusers").removeHandler(handler)
    assert not records
    ours, own = scheduler, Pipe.scheduler
    run(ours), run(own)
    assert torch.allclose(ours.sigmas, own.sigmas, atol=2e-3), "same shift for the same size"
    Pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    fixed = unipc(Pipe, UniPCSampler())
    run(fixed), run(Pipe.scheduler)
    assert torch.allclose(fixed.sigmas, Pipe.scheduler.sigmas, atol=2e-3)


def _error(scheduler, steps):
    """Distance from the exact end of a flow between noise and a normal distribution of deviation 0.5.

    There the velocity at noise level s is x (s - (1 - s) d^2) / (s^2 + (1 - s)^2 d^2), and x ends at d times its start.
    """
    deviation, start = 0.5, torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 1, 9)
    scheduler.set_timesteps(steps)
    x = start
    for s, timestep in zip(scheduler.sigmas.double(), scheduler.timesteps, strict=False):
        spread = s**2 + (1 - s) ** 2 * deviation**2
        velocity = x * (s - (1 - s) * deviation**2) / spread
        x = scheduler.step(velocity, timestep, x, return_dict=False)[0].double()
    return float((x - deviation * start).abs().max())


class Plain:
    """A pipeline whose noise levels are not shifted."""

    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()


@pytest.mark.parametrize("sigmas", list(Sigmas))
def test_euler_converges_to_the_exact_solution(sigmas):
    coarse, fine = (_error(euler(Plain, EulerSampler(sigmas=sigmas)), steps) for steps in (10, 80))
    assert fine < 0.15 * coarse, "first order: the error follows the step"


@pytest.mark.parametrize("steps", [10, 20, 40])
def test_unipc_is_of_higher_order(steps):
    assert _error(unipc(Plain, UniPCSampler()), steps) < 0.15 * _error(euler(Plain, EulerSampler()), steps)


def test_values_out_of_range_are_refused():
    for make in (lambda: EulerSampler(shift=0.0), lambda: UniPCSampler(shift=-1.0), lambda: UniPCSampler(order=7)):
        with pytest.raises(ConfigError, match=r"sampler\.(shift|order)="):
            make()
