"""The noise of samplers comes from the generator of each image, and from nowhere else."""

from __future__ import annotations

import pytest
import torch

from tests.samplers.tiny_pipelines import IMAGES, TinyPipeline, options_of, run_scheduler, tiny, with_noise
from wavespeed_runner.samplers import (
    fitting_samplers,
    is_stochastic,
)
from wavespeed_runner.samplers.build import build_scheduler


@pytest.mark.parametrize("model", ["demo", "sd15"])
def test_what_is_drawn_repeats_with_the_seed(model: str) -> None:
    """Through the pipeline, which does not pass its generator to every scheduler."""
    pipeline = tiny(model)
    for options in with_noise(pipeline.family.schedule):
        if is_stochastic(options):
            first = pipeline.sample(options)[0]
            assert torch.equal(first, pipeline.sample(options)[0]), options.name
            assert not torch.equal(first, pipeline.sample(options, seed=6)[0]), options.name


@pytest.mark.parametrize("model", ["demo", "sd15"])
def test_an_image_of_a_batch_has_its_own_noise(model: str) -> None:
    pipeline, before = tiny(model), torch.get_rng_state()
    for options in with_noise(pipeline.family.schedule):
        both = run_scheduler(pipeline, options, [1, 2], IMAGES)
        alone = [run_scheduler(pipeline, options, [seed], IMAGES[[row]]) for row, seed in enumerate((1, 2))]
        assert torch.allclose(both, torch.cat(alone), atol=1e-5), options.name
        other = run_scheduler(pipeline, options, [3, 4], IMAGES)
        assert is_stochastic(options) == (not torch.allclose(both, other, atol=1e-5)), options.name
        assert torch.equal(before, torch.get_rng_state()), options.name


def test_images_are_noised_along_the_flow(flow: TinyPipeline) -> None:
    image_, noise = torch.full((2, 3), 5.0), torch.ones(2, 3)
    for name in fitting_samplers(flow.family):
        if name in ("default", "fitted"):
            continue
        scheduler = build_scheduler(flow.pipe, options_of(name))
        scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25], mu=0.8)
        scheduler.set_begin_index(2 * scheduler.order)
        level = float(scheduler.sigmas[2 * scheduler.order])
        times = scheduler.timesteps[2 * scheduler.order].repeat(2)
        noised = scheduler.scale_noise(image_, times, noise)
        assert torch.allclose(noised, torch.full((2, 3), level + (1 - level) * 5), atol=1e-4), name
