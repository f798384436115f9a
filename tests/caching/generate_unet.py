"""One generation of a U-Net with a strategy attached, as the denoise stage runs it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch

from tests.models.shipped import config_of
from tests.models.staged import denoise_latents, encode_prompt
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.caching import GenerationInfo, Trace, attach_strategy
from wavespeed_runner.caching.criteria.schedules import Interval
from wavespeed_runner.caching.criteria.thresholds import RelativeChange
from wavespeed_runner.caching.predictors.reuse import Reuse
from wavespeed_runner.caching.signals.block_signals import FirstBlockResidual, NoSignal
from wavespeed_runner.config.schema import CacheConfig, Dtype, Init
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

MODELS = ("sd15", "sdxl", "demo_unet")
SAMPLE = Sample(prompt="a red circle above a blue square", negative_prompt="dark")


def deepcache(interval: int, depth: int, **window: Any) -> CacheConfig:
    return CacheConfig(
        name="deep",
        signal=NoSignal(),
        criterion=Interval(interval=interval),
        predictor=Reuse(),
        depth=depth,
        **window,
    )


def first_blocks(threshold: float, blocks: int = 1, **window: Any) -> CacheConfig:
    return CacheConfig(
        name="first",
        signal=FirstBlockResidual(blocks=blocks),
        criterion=RelativeChange(threshold=threshold),
        predictor=Reuse(),
        **window,
    )


@dataclass
class GeneratedByUNet:
    """A loaded pipeline and its embeddings of one prompt."""

    name: str
    pipe: Any = None
    embeddings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        init = Init.pretrained if self.name == "demo_unet" else Init.tiny
        self.model = replace(config_of(self.name), dtype=Dtype.float32, init=init)
        self.family = find_implementation("model", self.model)
        self.pipe = load(self.family, self.model, "cpu")
        if self.name == "sd15":  # its own scheduler calls the U-Net twice at one timestep, which DeepCache cannot tell
            from diffusers import DDIMScheduler

            self.pipe.scheduler = DDIMScheduler.from_config(self.pipe.scheduler.config, clip_sample=False)
        self.embeddings = encode_prompt(self.family, self.pipe, self.model, SAMPLE, 3.0)

    @property
    def unet(self) -> Any:
        return self.pipe.unet

    def denoise(self, *, steps: int = 7, size: int = 64, guidance_scale: float = 3.0, **more: Any) -> torch.Tensor:
        """Latents; attached strategies act."""
        options = {"steps": steps, "width": size, "height": size, "guidance_scale": guidance_scale, **more}
        result: torch.Tensor = denoise_latents(self.family, self.pipe, self.model, self.embeddings, **options)[
            "latents"
        ]
        return result

    def run(
        self, cache: CacheConfig, *, steps: int = 7, calls: int | None = None, images: int = 1, **more: Any
    ) -> tuple[torch.Tensor, Trace]:
        """Latents and trace of one generation with the strategy attached.

        calls: how often the U-Net is called, if not `steps` times.
        """
        info = GenerationInfo(steps=lambda: calls or steps, images=images, flow=False)
        with attach_strategy([self.unet], self.family.blocks, cache, info) as trace:
            return self.denoise(on_step=trace.end_step, steps=steps, **more), trace


@lru_cache
def load_unet(name: str) -> GeneratedByUNet:
    return GeneratedByUNet(name)


def list_computed(trace: Any) -> list[int]:
    """Computed steps, counted from 0."""
    return [d.step for d in trace.decisions if d.computed]


def record_call(model: GeneratedByUNet) -> tuple[Any, dict[str, Any]]:
    """Arguments of the pipeline's first call of its U-Net."""
    calls: list[tuple[Any, dict[str, Any]]] = []
    handle = model.unet.register_forward_pre_hook(lambda _, a, k: calls.append((a, dict(k))), with_kwargs=True)
    model.denoise(steps=2)
    handle.remove()
    return calls[0]
