"""One generation of the tiny FLUX with a strategy attached, as the denoise stage runs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.models.staged import denoise_latents
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.caching import GenerationInfo, Trace, attach_strategy
from wavespeed_runner.caching.criteria.thresholds import RelativeChange
from wavespeed_runner.caching.predictors.reuse import Reuse
from wavespeed_runner.caching.signals.block_signals import FirstBlockResidual
from wavespeed_runner.caching.strategies import FirstBlockCache, NoCache
from wavespeed_runner.config.schema import CacheConfig
from wavespeed_runner.models.families.flux import FLUX

ALWAYS = 1e9
"""A threshold that always allows reuse."""


def fbcache(threshold: float, *, blocks: int = 1, **window: Any) -> FirstBlockCache:
    """The strategy that `cache=fbcache cache.residual_diff_threshold=...` composes."""
    return FirstBlockCache(
        residual_diff_threshold=threshold,
        signal=FirstBlockResidual(blocks=blocks),
        criterion=RelativeChange(threshold=threshold),
        predictor=Reuse(),
        **window,
    )


@dataclass
class Generated:
    """A loaded pipeline and its embeddings of one prompt."""

    pipe: Any
    model: Any
    embeddings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sample = Sample(prompt="a red circle", negative_prompt="dark")
        self.embeddings = FLUX.encode(self.pipe, self.model, sample, self.model.guidance_scale)

    @property
    def denoiser(self) -> Any:
        return self.pipe.transformer

    def denoise(self, *, steps: int = 8, seed: int = 0, size: int = 64, on_step: Any = lambda: None) -> Any:
        """Latents; attached strategies act."""
        result = denoise_latents(
            FLUX,
            self.pipe,
            self.model,
            self.embeddings,
            steps=steps,
            width=size,
            height=size,
            seed=seed,
            on_step=on_step,
        )
        return result["latents"]

    def run(self, cache: CacheConfig | None = None, *, steps: int = 8, **call: Any) -> tuple[Any, Trace]:
        """Latents and trace of one generation with the strategy attached."""
        with attach_strategy(
            [self.denoiser], FLUX.blocks, cache or NoCache(), GenerationInfo(steps=lambda: steps)
        ) as trace:
            return self.denoise(steps=steps, on_step=trace.end_step, **call), trace


def list_computed(trace: Trace, branch: str = "cond") -> list[int]:
    """Computed steps, counted from 1."""
    return [d.step + 1 for d in trace.decisions if d.computed and d.branch == branch]
