"""Shrunk models of every kind of guidance, as the denoise stage has them, with what a fresh one generates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from tests.caching.generate import ALWAYS
from tests.models.shipped import config_of
from tests.models.staged import encode_prompt
from tests.models.test_batches import SAMPLES, options_of
from tests.models.test_every_model import image
from wavespeed_runner.artifacts import Embeddings, Images, Pipeline
from wavespeed_runner.caching.criteria.schedules import Interval
from wavespeed_runner.caching.criteria.thresholds import PredictedChange, RelativeChange
from wavespeed_runner.caching.predictors.reuse import Reuse
from wavespeed_runner.caching.predictors.taylor import Foca, Taylor, Variable
from wavespeed_runner.caching.signals.block_signals import FirstBlockResidual, ModelChange, NoSignal
from wavespeed_runner.caching.strategies import Custom, NoCache
from wavespeed_runner.config.schema import CacheConfig, GuidanceBranches
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.stages.denoise import denoise_batch

MODELS = {"wan21": "contexts", "wan22": "two denoisers", "chroma": "fused", "sd35_medium": "batched", "demo_unet": ""}
"""Model -> what is special about its guidance or its denoisers; the last one is a U-Net."""
CACHES: dict[str, CacheConfig] = {
    "none": NoCache(),
    "signal": Custom(
        signal=FirstBlockResidual(),
        criterion=RelativeChange(threshold=ALWAYS),
        predictor=Taylor(order=2, variable=Variable.sigma),
        max_consecutive_cache_hits=2,
    ),
    "model": Custom(
        signal=ModelChange(),
        criterion=PredictedChange(threshold=ALWAYS),
        predictor=Reuse(),
        guidance_branches=GuidanceBranches.first,
        max_consecutive_cache_hits=2,
    ),
    "schedule": Custom(signal=NoSignal(), criterion=Interval(interval=3), predictor=Foca()),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "six": {"steps": 6},
    "wider": {"steps": 6, "width": 96},
    "eight": {"steps": 8},
    "two images": {"steps": 5, "batch_size": 2},
    "near": {"steps": 10, "strength": 0.4},
    "far": {"steps": 10, "strength": 0.8},
    "six again": {"steps": 6},
}
"""Options of the denoise stage, run one after the other. With a strength it starts from an image."""


class Model:
    """A shipped model, shrunk and loaded, as the denoise stage has it."""

    def __init__(self, name: str) -> None:
        self.config = config_of(name)
        self.family = find_implementation("model", self.config)
        self.pipe = load(self.family, self.config, "cpu")
        self.pipeline = Pipeline(pipe=self.pipe, model=self.config, family=self.family, device="cpu")
        self.denoisers = [getattr(self.pipe, part) for part in (self.family.denoiser, self.family.denoiser_2) if part]
        scale = self.config.guidance_scale
        self.inputs = []
        for sample in SAMPLES[:2]:
            embeddings = encode_prompt(self.family, self.pipe, self.config, sample, scale)
            if name == "chroma":  # 512 tokens, most of them padding: more than all of the image
                embeddings = {key: tensor[:, :64] for key, tensor in embeddings.items()}
            inputs = {"pipeline": self.pipeline, "sample": sample, "embeddings": Embeddings(tensors=embeddings)}
            self.inputs.append(inputs)

    def fits(self, setting: str) -> bool:
        options = SETTINGS[setting]
        return ("strength" not in options or "image_to_image" in self.family.tasks) and (
            "batch_size" not in options or self.family.supports_batches
        )

    def run(
        self, cache: CacheConfig, setting: str = "six", observer: Any = None, **more: Any
    ) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        """Latents of all images, and the steps of the first one. more: options of the stage."""
        changes = {**SETTINGS[setting], **more}
        options = replace(options_of(self.family, self.config, 1), cache=cache, **changes)
        inputs = self.inputs[: options.batch_size]
        if "strength" in changes:
            start = Images(tensors={"images": np.asarray(image(self.family.tiny_size))[None]})
            inputs = [{**item, "image": start} for item in inputs]
        results = denoise_batch(options, inputs, observer)
        return torch.cat([result.tensors["latents"] for result in results]), results[0].data["steps"]


@lru_cache
def share_model(name: str) -> Model:
    """A model that all tests share: others have run before."""
    return Model(name)


@lru_cache
def _load_unused(name: str) -> Model:
    """A model that never runs: it is copied, which is quicker than loading it again."""
    return Model(name)


@lru_cache
def run_fresh(name: str, cache: str, setting: str = "six") -> tuple[torch.Tensor, list[bool]]:
    """Latents of a model that has run nothing before, and for each step whether it was computed."""
    latents, steps = deepcopy(_load_unused(name)).run(CACHES[cache], setting)
    return latents, [step["computed"] for step in steps]


def is_fresh(result: tuple[torch.Tensor, list[dict[str, Any]]], name: str, cache: str, setting: str = "six") -> bool:
    """Whether a result of `Model.run` is what a model gives that has run nothing before."""
    latents, computed = run_fresh(name, cache, setting)
    return torch.equal(result[0], latents) and [step["computed"] for step in result[1]] == computed


@contextmanager
def at_call(modules: list[Any], number: int, act: Callable[[], None]) -> Iterator[list[int]]:
    """Calls `act` before the `number`-th call, counted from 0, of any of these modules."""
    calls: list[int] = []

    def hook(*_: Any) -> None:
        calls.append(len(calls))
        if calls[-1] == number:
            act()

    handles = [module.register_forward_pre_hook(hook) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
