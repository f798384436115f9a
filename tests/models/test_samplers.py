"""Every sampler on every tiny family; against diffusers' schedulers made by hand; and drawing only from its generator.

Whether each ends where it should is in test_sampler_truth.py.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import lru_cache
from inspect import signature
from typing import Any

import pytest
import torch

from tests.models.staged import latents
from tests.models.test_every_model import MODELS, SAMPLE, config_of, image, mask
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation, lookup
from wavespeed_runner.samplers import (
    SAMPLERS,
    Sigmas,
    count_denoiser_calls,
    find_max_steps,
    fitting_samplers,
    is_stochastic,
    model_default_sampler,
    resolve_sampler,
    why_unusable,
)
from wavespeed_runner.samplers.build import build_scheduler, find_model_kind

SHIPPED = sorted(path.stem for path in (CONF / "sampler").glob("*.yaml"))
STEPS = 2


def options_of(name: str, **values: Any) -> Any:
    return lookup("sampler", name).options(**values)


@lru_cache(maxsize=1)
def shipped() -> dict[str, Any]:
    """Option of the group -> its options, as a run has them."""
    with composer(None):
        jobs = {name: [f"sampler={name}"] for name in SHIPPED}
        return {name: resolve_config(compose_job(job, job)).sampler for name, job in jobs.items()}


class Tiny:
    """A family's tiny pipe with its embeddings: what runs with many samplers."""

    def __init__(self, model: str) -> None:
        self.config = config_of(model)
        self.family = find_implementation("model", self.config)
        self.pipe = load(self.family, self.config, "cpu")
        self.pipe.set_progress_bar_config(disable=True)
        self.own = self.pipe.scheduler
        self.task = next(iter(self.family.tasks))
        self.size = min(self.family.tiny_size, 64)
        self.start = {"image": image(self.size)} if self.task == "image_to_video" else {}
        given = {key: value for key, value in self.start.items() if key in signature(self.family.encode).parameters}
        with torch.inference_mode():
            self.embeddings = self.family.encode(self.pipe, self.config, SAMPLE, self.config.guidance_scale, **given)

    def run(self, scheduler: Any, *, seed: int = 5, steps: int = STEPS, **wanted: Any) -> tuple[Any, int]:
        """(latents, steps that the scheduler made)."""
        ticks: list[int] = []
        size: dict[str, Any] = {"width": self.size, "height": self.size}
        if self.family.kind == "video":
            size["num_frames"] = self.family.tiny_frames
        self.pipe.scheduler = scheduler
        try:
            made = latents(
                self.family, self.pipe, self.config, self.embeddings, steps=steps, seed=seed,
                on_step=lambda: ticks.append(1), **{**size, **self.start, **wanted},
            )  # fmt: skip
        finally:
            self.pipe.scheduler = self.own
        return made["latents"], len(ticks)

    def sampled(self, options: Any, **wanted: Any) -> tuple[Any, int]:
        return self.run(find_implementation("sampler", options)(self.pipe, options), **wanted)


tiny = lru_cache(maxsize=2)(Tiny)


@pytest.fixture(scope="module")
def flow() -> Tiny:
    return tiny("demo")


@pytest.fixture(scope="module")
def unet() -> Tiny:
    return tiny("sd15")


def families() -> list[str]:
    """One model of every pipeline class."""
    found: dict[str, str] = {}
    for name in MODELS:
        family = find_implementation("model", config_of(name))
        found.setdefault(next(iter(family.tasks.values())), name)
    return sorted(found.values(), key=lambda name: (name in ("demo", "sd15"), name))


def test_every_sampler_is_an_option_of_the_group() -> None:
    assert set(SAMPLERS) | {"default"} <= set(SHIPPED)
    assert {options.name for options in shipped().values()} == {"default", *SAMPLERS}
    spaced = {name for name in SHIPPED if name.endswith(("_karras", "_exponential", "_beta"))}
    for name in spaced:
        plain, _, spacing = name.rpartition("_")
        assert shipped()[name] == options_of(plain, sigmas=Sigmas(spacing))
    for name in set(SAMPLERS) & set(SHIPPED):
        assert shipped()[name] == options_of(name), "the plain option is the sampler with its defaults"


@pytest.mark.parametrize("model", families())
def test_every_sampler_that_fits_runs(model: str) -> None:
    one = tiny(model)
    own_levels = None
    for name in _tried(one):
        options, before = options_of(name), torch.get_rng_state()
        scheduler = find_implementation("sampler", options)(one.pipe, options)
        assert find_model_kind(scheduler) == find_model_kind(one.own) == one.family.schedule, name
        made, ticks = one.run(scheduler)
        assert torch.isfinite(made).all() and made.std() > 0, name
        assert torch.equal(before, torch.get_rng_state()), name
        assert ticks == count_denoiser_calls(resolve_sampler(one.family, one.config, options), STEPS), name
        if name != "default":
            assert ticks == getattr(one.pipe, "num_timesteps", ticks), name
        if one.family.schedule == "flow":
            levels = scheduler.sigmas[:-1].unique().flip(0)
            own_levels = levels if own_levels is None else own_levels
            # Left to itself, the model's own spends its last step on next to nothing; solvers do not.
            alone = own_levels[-1] < 0.02
            if not (alone and scheduler.config.get("use_flow_sigmas")):
                assert torch.allclose(levels, own_levels, atol=4e-3), f"{name}: another shift"


OWN = ("flux_schnell", "flux2_klein", "z_image_turbo", "hidream", "hidream_dev", "hidream_fast")
OWN += ("cogvideox", "cogvideox_2b", "cogvideox_i2v", "sd15", "sd21")


@pytest.mark.parametrize("model", OWN)
def test_the_own_sampler_is_the_scheduler_that_the_model_has(model: str) -> None:
    config = config_of(model)
    family = find_implementation("model", config)
    scheduler = family.build(config, torch.float32, "meta").scheduler
    found = model_default_sampler(family, config)
    assert type(scheduler).__name__ == SAMPLERS[found.name].classes[family.schedule]


def test_the_distilled_models_are_known() -> None:
    configs = {name: config_of(name) for name in MODELS}
    found = {name for name, config in configs.items() if find_implementation("model", config).is_distilled(config)}
    assert found == {"flux_schnell", "flux2_klein", "z_image_turbo", "hidream_dev", "hidream_fast"}


def test_the_own_sampler_of_a_fine_tune_is_not_known() -> None:
    config = replace(config_of("sd15"), init=Init.pretrained)
    family = find_implementation("model", config)
    assert model_default_sampler(family, config).name == "pndm"
    assert model_default_sampler(family, replace(config, repo="somebody/fine-tune")).name == "default"


def test_pndm_calls_once_in_one_step(unet: Tiny) -> None:
    for name in ("default", "pndm"):
        options = options_of(name)
        ticks = unet.sampled(options, steps=1)[1]
        assert ticks == 1 == count_denoiser_calls(resolve_sampler(unet.family, unet.config, options), 1), name


@pytest.mark.parametrize("name", ["lcm", "tcd"])
def test_the_most_steps_are_those_that_diffusers_has(unet: Tiny, name: str) -> None:
    most = find_max_steps(unet.family, options_of(name))
    scheduler = build_scheduler(unet.pipe, options_of(name))
    scheduler.set_timesteps(most)
    assert most and len(scheduler.timesteps) == most
    with pytest.raises(ValueError, match="original_steps x strength"):
        scheduler.set_timesteps(most + 1)


def _tried(one: Tiny) -> list[str]:
    """All that fit on two families; on the others one for every way in which pipelines meet a class: what differs
    between families is what they ask of it. Two where even a tiny step takes its time."""
    if one.config.name in ("flux", "sd"):
        return fitting_samplers(one.family)
    few = {"default", "dpmpp_2m"}
    slow = one.config.name.startswith(("hunyuan_video15", "ltx2"))
    return [name for name in fitting_samplers(one.family) if name in (few if slow else few | REPRESENTATIVE)]


REPRESENTATIVE = {"euler", "heun", "unipc", "ddim", "cogvideox_dpm"}


def walked(one: Tiny, options: Any, seeds: list[int], x: Any, steps: int = 4) -> Any:
    """Where the sampler takes x, shape (images, 4, 8, 8), with something simple in the denoiser's place."""
    scheduler = find_implementation("sampler", options)(one.pipe, options)
    even = [1 - step / steps for step in range(steps)]
    flow_ = one.family.schedule == "flow"
    scheduler.set_timesteps(**({"mu": 0.8, "sigmas": even} if flow_ else {"num_inference_steps": steps}))
    drawn = {"generator": [torch.Generator().manual_seed(seed) for seed in seeds]}
    given = drawn if "generator" in signature(scheduler.step).parameters else {}
    for timestep in scheduler.timesteps:
        seen = x if flow_ else scheduler.scale_model_input(x, timestep)
        x = scheduler.step((0.3 * seen).sin(), timestep, x, return_dict=False, **given)[0]
    return x


IMAGES = torch.linspace(-1, 1, 2 * 4 * 8 * 8).reshape(2, 4, 8, 8)


@pytest.mark.parametrize("model", ["demo", "sd15"])
def test_shipped_differ_from_each_other(model: str) -> None:
    one = tiny(model)
    fit = {name: options for name, options in shipped().items() if not why_unusable(one.family, options)}
    made = {name: walked(one, options, [1], IMAGES[:1], 7) for name, options in fit.items()}
    same = {frozenset((a, b)) for a in made for b in made if a < b and torch.equal(made[a], made[b])}
    # A stochastic Euler of a flow and its LCM are one thing by two names.
    known = [("default", "euler"), ("euler_stochastic", "lcm")] if model == "demo" else [("default", "pndm")]
    assert same == {frozenset(pair) for pair in known}


@pytest.mark.parametrize("model", ["demo", "sd15"])
def test_what_is_drawn_repeats_with_the_seed(model: str) -> None:
    """Through the pipeline, which does not hand its generator to every scheduler."""
    one = tiny(model)
    for options in with_noise(one.family.schedule):
        if is_stochastic(options):
            first = one.sampled(options)[0]
            assert torch.equal(first, one.sampled(options)[0]), options.name
            assert not torch.equal(first, one.sampled(options, seed=6)[0]), options.name


HAND_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "use_dynamic_shifting": True}
DPM = {"algorithm_type": "dpmsolver++", "solver_order": 2}


@pytest.mark.parametrize(
    ("options", "kind", "arguments"),
    [
        (("euler", {"sigmas": Sigmas.karras}), "FlowMatchEulerDiscrete", {"use_karras_sigmas": True}),
        (("euler", {"sigmas": Sigmas.exponential}), "FlowMatchEulerDiscrete", {"use_exponential_sigmas": True}),
        (("euler", {"sigmas": Sigmas.beta}), "FlowMatchEulerDiscrete", {"use_beta_sigmas": True}),
        (("euler", {"shift": 2.0}), "FlowMatchEulerDiscrete", {"shift": 2.0, "use_dynamic_shifting": False}),
        (("euler", {"stochastic": True}), "FlowMatchEulerDiscrete", {"stochastic_sampling": True}),
        (("lcm", {}), "FlowMatchLCM", {}),
        (("unipc", {}), "UniPCMultistep", HAND_FLOW),
        (("unipc", {"order": 3}), "UniPCMultistep", {**HAND_FLOW, "solver_order": 3}),
        (("dpmpp_2m", {}), "DPMSolverMultistep", {**HAND_FLOW, **DPM}),
        (("dpmpp_3m", {}), "DPMSolverMultistep", {**HAND_FLOW, **DPM, "solver_order": 3}),
        (("dpmpp_2m_sde", {}), "DPMSolverMultistep", {**HAND_FLOW, **DPM, "algorithm_type": "sde-dpmsolver++"}),
        (("dpmpp_2s", {}), "DPMSolverSinglestep", {**HAND_FLOW, **DPM, "lower_order_final": True}),
    ],
)
def test_on_a_flow_model_it_is_what_diffusers_makes_by_hand(
    flow: Tiny, options: Any, kind: str, arguments: dict[str, Any]
) -> None:
    import diffusers

    given = arguments if arguments.get("use_flow_sigmas") else {"shift": 3.0, "use_dynamic_shifting": True, **arguments}
    theirs = getattr(diffusers, f"{kind}Scheduler")(**given)
    assert torch.equal(flow.sampled(options_of(options[0], **options[1]), steps=4)[0], flow.run(theirs, steps=4)[0])


KARRAS = {"use_karras_sigmas": True}


@pytest.mark.parametrize(
    ("options", "kind", "arguments"),
    [
        (("euler", {}), "EulerDiscrete", {}),
        (("euler", {"sigmas": Sigmas.karras}), "EulerDiscrete", KARRAS),
        (("euler_ancestral", {}), "EulerAncestralDiscrete", {}),
        (("heun", {"sigmas": Sigmas.exponential}), "HeunDiscrete", {"use_exponential_sigmas": True}),
        (("dpm2", {"sigmas": Sigmas.karras}), "KDPM2Discrete", KARRAS),
        (("dpm2_ancestral", {}), "KDPM2AncestralDiscrete", {}),
        (("lms", {"sigmas": Sigmas.beta}), "LMSDiscrete", {"use_beta_sigmas": True}),
        (("dpmpp_2m", {"sigmas": Sigmas.karras}), "DPMSolverMultistep", {**DPM, **KARRAS}),
        (("dpmpp_2m_sde", {}), "DPMSolverMultistep", {**DPM, "algorithm_type": "sde-dpmsolver++"}),
        (("dpmpp_2s", {}), "DPMSolverSinglestep", {**DPM, "lower_order_final": True}),
        (("deis", {"order": 3}), "DEISMultistep", {"solver_order": 3}),
        (("unipc", {"sigmas": Sigmas.karras}), "UniPCMultistep", KARRAS),
        (("sasolver", {}), "SASolver", {}),
        (("ddpm", {}), "DDPM", {"clip_sample": False}),
        (("lcm", {}), "LCM", {}),
    ],
)
def test_on_a_diffusion_model_it_is_what_diffusers_makes_by_hand(
    unet: Tiny, options: Any, kind: str, arguments: dict[str, Any]
) -> None:
    import diffusers

    found = getattr(diffusers, f"{kind}Scheduler")
    takes = signature(found.__init__).parameters
    own = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "set_alpha_to_one": False}
    own |= {"steps_offset": 1, "clip_sample": False}
    theirs = found(**{**{key: value for key, value in own.items() if key in takes}, **arguments})
    assert torch.equal(unet.sampled(options_of(options[0], **options[1]), steps=4)[0], unet.run(theirs, steps=4)[0])


@pytest.mark.parametrize(("name", "kind"), [("ddim", "DDIMScheduler"), ("tcd", "TCDScheduler")])
def test_eta_reaches_every_step(unet: Tiny, name: str, kind: str) -> None:
    """Against a loop written here, because the pipeline itself hands over 0."""
    import diffusers

    theirs = getattr(diffusers, kind).from_config(unet.own.config, clip_sample=False)
    ours = build_scheduler(unet.pipe, options_of(name, eta=0.7))
    results = []
    for scheduler, given in ((theirs, {"eta": 0.7}), (ours, {"eta": 0.0})):
        scheduler.set_timesteps(4)
        x, generator = torch.ones(1, 4, 8, 8), torch.Generator().manual_seed(1)
        for timestep in scheduler.timesteps:
            x = scheduler.step(0.3 * x, timestep, x, generator=generator, return_dict=False, **given)[0]
        results.append(x)
    assert torch.equal(*results)
    still = [unet.sampled(options_of(name, eta=eta), steps=4)[0] for eta in (0.0, 0.7)]
    assert not torch.equal(*still)


def test_eta_has_no_effect_on_cogvideox_and_is_refused() -> None:
    from diffusers import CogVideoXDDIMScheduler

    class Pipe:
        scheduler = CogVideoXDDIMScheduler()

    ends = []
    for eta in (0.0, 1.0):
        Pipe.scheduler.set_timesteps(4)
        x = torch.ones(1, 2, 4, 8, 8)
        for timestep in Pipe.scheduler.timesteps:
            x = Pipe.scheduler.step(0.3 * x, timestep, x, eta=eta, generator=torch.Generator())[0]
        ends.append(x)
    assert torch.equal(*ends), "diffusers has put eta to use: so may we"
    family = find_implementation("model", config_of("cogvideox"))
    assert "sampler.eta=0.5 could not take effect" in why_unusable(family, options_of("ddim", eta=0.5))
    assert why_unusable(family, options_of("ddim")) == ""


@pytest.mark.parametrize("model", ["demo", "sd15"])
@pytest.mark.parametrize("task", ["image_to_image", "inpaint"])
def test_every_sampler_starts_from_a_image(model: str, task: str) -> None:
    one = tiny(model)
    start = {"image": [image(one.size)], "strength": 0.5, "task": task}
    if task == "inpaint":
        start["mask"] = [mask(one.size)]
    for name in fitting_samplers(one.family):
        options = options_of(name)
        made, ticks = one.sampled(options, steps=4, **start)
        assert torch.isfinite(made).all(), name
        if why_unusable(one.family, options, task):
            assert ticks == 1, f"{name}: two of its steps are wanted, one is all that diffusers leaves"
        elif name != "default":
            assert ticks == count_denoiser_calls(options, 2), name


def with_noise(kind: str) -> list[Any]:
    """Options of every sampler of such models, with noise where it can be had."""
    given = {"ddim": {"eta": 1.0}, "euler": {"stochastic": True} if kind == "flow" else {}}
    return [options_of(name, **given.get(name, {})) for name in SAMPLERS if kind in SAMPLERS[name].classes]


@pytest.mark.parametrize("model", ["demo", "sd15"])
def test_a_image_of_a_batch_has_its_own_noise(model: str) -> None:
    one, before = tiny(model), torch.get_rng_state()
    for options in with_noise(one.family.schedule):
        both = walked(one, options, [1, 2], IMAGES)
        alone = [walked(one, options, [seed], IMAGES[[row]]) for row, seed in enumerate((1, 2))]
        assert torch.allclose(both, torch.cat(alone), atol=1e-5), options.name
        other = walked(one, options, [3, 4], IMAGES)
        assert is_stochastic(options) == (not torch.allclose(both, other, atol=1e-5)), options.name
        assert torch.equal(before, torch.get_rng_state()), options.name


def test_images_are_noised_along_the_flow(flow: Tiny) -> None:
    image_, noise = torch.full((2, 3), 5.0), torch.ones(2, 3)
    for name in fitting_samplers(flow.family):
        if name == "default":
            continue
        scheduler = build_scheduler(flow.pipe, options_of(name))
        scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25], mu=0.8)
        scheduler.set_begin_index(2 * scheduler.order)
        level = float(scheduler.sigmas[2 * scheduler.order])
        times = scheduler.timesteps[2 * scheduler.order].repeat(2)
        noised = scheduler.scale_noise(image_, times, noise)
        assert torch.allclose(noised, torch.full((2, 3), level + (1 - level) * 5), atol=1e-4), name


def test_the_models_training_is_kept_quietly(unet: Tiny) -> None:
    """Also values that the own scheduler has by default, where another class has other defaults."""
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


def test_what_does_not_fit_says_why(flow: Tiny, unet: Tiny) -> None:
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
