"""A tiny model of every family, and one call of its denoiser as its pipeline makes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from tests.caching.tiny_models import families, tensors
from tests.models.staged import denoise_latents, encode_prompt
from tests.models.test_every_model import SAMPLE, config_of, start_of
from wavespeed_runner.accelerate.kernels import Example, record_examples
from wavespeed_runner.accelerate.memory import denoiser_names
from wavespeed_runner.config.schema import Dtype
from wavespeed_runner.models.family import Family
from wavespeed_runner.models.pipeline_call import get_task_pipeline
from wavespeed_runner.models.weights.pretrained import load

FAMILIES = sorted(families())


@dataclass
class Called:
    """A tiny model in float32, with the first call of each of its denoisers."""

    family: Family
    pipe: Any
    examples: list[Example]
    latents: dict[str, torch.Tensor]
    """What the pipeline returned."""

    def repeat(self, pipe: Any) -> list[torch.Tensor]:
        """What the same calls return on the denoisers of another pipeline of the same architecture."""
        with torch.inference_mode():
            return [out for denoiser, args, kwargs in self.of(pipe) for out in tensors(denoiser(*args, **kwargs))]

    def of(self, pipe: Any) -> list[Example]:
        """The examples with the denoisers of another pipeline."""
        names = denoiser_names(self.pipe)
        found = {id(getattr(self.pipe, name)): getattr(pipe, name) for name in names}
        return [(found[id(denoiser)], args, kwargs) for denoiser, args, kwargs in self.examples]


def tiny_inputs(family: Family) -> dict[str, Any]:
    """What a family's first task is asked for in its smallest size."""
    task = next(iter(family.tasks))
    options: dict[str, Any] = {"task": task, "width": family.tiny_size, "height": family.tiny_size}
    if family.kind == "video":
        options["num_frames"] = family.tiny_frames
    return options | start_of(task, family.tiny_size)


@lru_cache
def call_family(name: str) -> Called:
    """The tiny model of a family. For looking at, not for changing."""
    model, family = families()[name]
    config = replace(config_of(model), dtype=Dtype.float32)
    pipe = load(family, config, "cpu")
    options = tiny_inputs(family)
    embeddings = encode_prompt(family, pipe, config, SAMPLE, config.guidance_scale, options.get("image"))
    if name.startswith("hunyuan_video15"):  # 256 tokens of prompt, most of them padding
        embeddings = {key: value[:, :64] for key, value in embeddings.items()}
    called = get_task_pipeline(pipe, family, options["task"])
    with record_examples([getattr(called, part) for part in denoiser_names(called)]) as examples:
        latents = denoise_latents(family, pipe, config, embeddings, steps=2, **options)
    return Called(family=family, pipe=pipe, examples=examples, latents=latents)


@contextmanager
def watch_attention() -> Iterator[list[dict[str, Any]]]:
    """The arguments of every call of torch's attention while the context is open, by name."""
    calls: list[dict[str, Any]] = []
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is scaled_dot_product_attention:
                calls.append({**dict(zip(names, args, strict=False)), **(kwargs or {})})
            return function(*args, **(kwargs or {}))

    with Watch():
        yield calls


def distance(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Relative error in the L2 norm, the largest of all tensors."""
    return max(float((a - e).norm() / e.norm()) for a, e in zip(actual, expected, strict=True))
