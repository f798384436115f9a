"""Every sampler on every tiny family: it runs, and takes the expected number of denoiser calls.

Whether each ends where it should is in test_sampler_truth.py.
"""

from __future__ import annotations

import pytest
import torch

from tests.models.test_every_model import MODELS, config_of, image, mask
from tests.samplers.tiny_pipelines import IMAGES, SHIPPED, STEPS, TinyPipeline, options_of, run_scheduler, shipped, tiny
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.samplers import (
    SAMPLERS,
    Sigmas,
    count_denoiser_calls,
    find_max_steps,
    fitting_samplers,
    resolve_sampler,
    why_unusable,
)
from wavespeed_runner.samplers.build import build_scheduler, find_model_kind


def families() -> list[str]:
    """One model of every pipeline class."""
    models: dict[str, str] = {}
    for name in MODELS:
        family = find_implementation("model", config_of(name))
        models.setdefault(next(iter(family.tasks.values())), name)
    return sorted(models.values(), key=lambda name: (name in ("demo", "sd15"), name))


def test_every_sampler_is_an_option_of_the_group() -> None:
    assert set(SAMPLERS) | {"default"} <= set(SHIPPED)
    assert {options.name for options in shipped().values()} == {"default", "fitted", *SAMPLERS}
    spaced = {name for name in SHIPPED if name.endswith(("_karras", "_exponential", "_beta"))}
    for name in spaced:
        plain, _, spacing = name.rpartition("_")
        assert shipped()[name] == options_of(plain, sigmas=Sigmas(spacing))
    for name in set(SAMPLERS) & set(SHIPPED):
        assert shipped()[name] == options_of(name), "the plain option is the sampler with its defaults"


REPRESENTATIVE = {"euler", "heun", "unipc", "ddim", "cogvideox_dpm"}


def _list_samplers(pipeline: TinyPipeline) -> list[str]:
    """Every fitting sampler for two families; for the others one of each kind of scheduler, and two for slow models.

    Families differ only in how their pipelines call the scheduler.
    """
    if pipeline.config.name in ("flux", "sd"):
        return [name for name in fitting_samplers(pipeline.family) if name != "fitted"]  # test_fitted.py
    few = {"default", "dpmpp_2m"}
    slow = pipeline.config.name.startswith(("hunyuan_video15", "ltx2"))
    return [name for name in fitting_samplers(pipeline.family) if name in (few if slow else few | REPRESENTATIVE)]


@pytest.mark.parametrize("model", families())
def test_every_sampler_that_fits_runs(model: str) -> None:
    pipeline = tiny(model)
    own_levels = None
    for name in _list_samplers(pipeline):
        options, before = options_of(name), torch.get_rng_state()
        scheduler = find_implementation("sampler", options)(pipeline.pipe, options)
        assert find_model_kind(scheduler) == find_model_kind(pipeline.own) == pipeline.family.schedule, name
        made, ticks = pipeline.run(scheduler)
        assert torch.isfinite(made).all() and made.std() > 0, name
        assert torch.equal(before, torch.get_rng_state()), name
        assert ticks == count_denoiser_calls(resolve_sampler(pipeline.family, pipeline.config, options), STEPS), name
        if name != "default":
            assert ticks == getattr(pipeline.pipe, "num_timesteps", ticks), name
        if pipeline.family.schedule == "flow":
            levels = scheduler.sigmas[:-1].unique().flip(0)
            own_levels = levels if own_levels is None else own_levels
            # Some models' own scheduler spends its last step close to 0; solvers do not.
            alone = own_levels[-1] < 0.02
            if not (alone and scheduler.config.get("use_flow_sigmas")):
                assert torch.allclose(levels, own_levels, atol=4e-3), f"{name}: another shift"


@pytest.mark.parametrize("model", ["demo", "sd15"])
@pytest.mark.parametrize("task", ["image_to_image", "inpaint"])
def test_every_sampler_starts_from_an_image(model: str, task: str) -> None:
    pipeline = tiny(model)
    start = {"image": [image(pipeline.size)], "strength": 0.5, "task": task}
    if task == "inpaint":
        start["mask"] = [mask(pipeline.size)]
    for name in set(fitting_samplers(pipeline.family)) - {"fitted"}:
        options = options_of(name)
        made, ticks = pipeline.sample(options, steps=4, **start)
        assert torch.isfinite(made).all(), name
        if why_unusable(pipeline.family, options, task):
            assert ticks == 1, f"{name}: two of its steps are inputs, one is all that diffusers leaves"
        elif name != "default":
            assert ticks == count_denoiser_calls(options, 2), name


def test_pndm_calls_once_in_one_step(unet: TinyPipeline) -> None:
    for name in ("default", "pndm"):
        options = options_of(name)
        ticks = unet.sample(options, steps=1)[1]
        assert ticks == 1 == count_denoiser_calls(resolve_sampler(unet.family, unet.config, options), 1), name


@pytest.mark.parametrize("name", ["lcm", "tcd"])
def test_the_most_steps_are_those_that_diffusers_has(unet: TinyPipeline, name: str) -> None:
    most = find_max_steps(unet.family, options_of(name))
    scheduler = build_scheduler(unet.pipe, options_of(name))
    scheduler.set_timesteps(most)
    assert most and len(scheduler.timesteps) == most
    with pytest.raises(ValueError, match="original_steps x strength"):
        scheduler.set_timesteps(most + 1)


@pytest.mark.parametrize("model", ["demo", "sd15"])
def test_shipped_differ_from_each_other(model: str) -> None:
    pipeline = tiny(model)
    plain = {name: options for name, options in shipped().items() if name != "fitted"}
    fit = {name: options for name, options in plain.items() if not why_unusable(pipeline.family, options)}
    made = {name: run_scheduler(pipeline, options, [1], IMAGES[:1], 7) for name, options in fit.items()}
    same = {frozenset((a, b)) for a in made for b in made if a < b and torch.equal(made[a], made[b])}
    # A stochastic Euler of a flow and its LCM are one thing by two names.
    known = [("default", "euler"), ("euler_stochastic", "lcm")] if model == "demo" else [("default", "pndm")]
    assert same == {frozenset(pair) for pair in known}
