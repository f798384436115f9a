"""TinyPipeline pipelines that run with many samplers, and a sampler run_scheduler without a pipeline."""

from __future__ import annotations

from functools import lru_cache
from inspect import signature
from typing import Any

import torch

from tests.models.staged import denoise_latents
from tests.models.test_every_model import SAMPLE, config_of, start_of
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation, lookup
from wavespeed_runner.samplers import SAMPLERS

SHIPPED = sorted(path.stem for path in (CONF / "sampler").glob("*.yaml"))
STEPS = 2


def options_of(name: str, **values: Any) -> Any:
    return lookup("sampler", name).options(**values)


@lru_cache(maxsize=1)
def shipped() -> dict[str, Any]:
    """Shipped option -> its values, as a run gets them."""
    with composer(None):
        jobs = {name: [f"sampler={name}"] for name in SHIPPED}
        return {name: resolve_config(compose_job(job, job)).sampler for name, job in jobs.items()}


class TinyPipeline:
    """A tiny pipeline with encoded prompt, to denoise with many samplers."""

    def __init__(self, model: str) -> None:
        self.config = config_of(model)
        self.family = find_implementation("model", self.config)
        self.pipe = load(self.family, self.config, "cpu")
        self.pipe.set_progress_bar_config(disable=True)
        self.own = self.pipe.scheduler
        self.task = next(iter(self.family.tasks))
        self.size = min(self.family.tiny_size, 64)
        self.start = start_of(self.task, self.size)
        given = {key: value for key, value in self.start.items() if key in signature(self.family.encode).parameters}
        with torch.inference_mode():
            self.embeddings = self.family.encode(self.pipe, self.config, SAMPLE, self.config.guidance_scale, **given)

    def run(self, scheduler: Any, *, seed: int = 5, steps: int = STEPS, **inputs: Any) -> tuple[Any, int]:
        """(latents, number of scheduler steps)."""
        ticks: list[int] = []
        size: dict[str, Any] = {"width": self.size, "height": self.size}
        if self.family.kind == "video":
            size["num_frames"] = self.family.tiny_frames
        self.pipe.scheduler = scheduler
        try:
            tensors = denoise_latents(
                self.family, self.pipe, self.config, self.embeddings, steps=steps, seed=seed,
                on_step=lambda: ticks.append(1), **{**size, **self.start, **inputs},
            )  # fmt: skip
        finally:
            self.pipe.scheduler = self.own
        return tensors["latents"], len(ticks)

    def sample(self, options: Any, **inputs: Any) -> tuple[Any, int]:
        return self.run(find_implementation("sampler", options)(self.pipe, options), **inputs)


tiny = lru_cache(maxsize=2)(TinyPipeline)


def run_scheduler(pipeline: TinyPipeline, options: Any, seeds: list[int], x: Any, steps: int = 4) -> Any:
    """Steps x, shape (images, 4, 8, 8), to its end with a simple function in place of the denoiser."""
    scheduler = find_implementation("sampler", options)(pipeline.pipe, options)
    even = [1 - step / steps for step in range(steps)]
    flow_ = pipeline.family.schedule == "flow"
    scheduler.set_timesteps(**({"mu": 0.8, "sigmas": even} if flow_ else {"num_inference_steps": steps}))
    drawn = {"generator": [torch.Generator().manual_seed(seed) for seed in seeds]}
    given = drawn if "generator" in signature(scheduler.step).parameters else {}
    for timestep in scheduler.timesteps:
        model_input = x if flow_ else scheduler.scale_model_input(x, timestep)
        x = scheduler.step((0.3 * model_input).sin(), timestep, x, return_dict=False, **given)[0]
    return x


IMAGES = torch.linspace(-1, 1, 2 * 4 * 8 * 8).reshape(2, 4, 8, 8)


def with_noise(kind: str) -> list[Any]:
    """Options of every sampler for this kind of model, set to add noise where they can."""
    given = {"ddim": {"eta": 1.0}, "euler": {"stochastic": True} if kind == "flow" else {}}
    return [options_of(name, **given.get(name, {})) for name in SAMPLERS if kind in SAMPLERS[name].classes]
