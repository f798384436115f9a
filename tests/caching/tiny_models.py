"""Every family that a block cache attaches to, shrunk: its denoisers, and how its pipeline calls them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch

from tests.models.staged import denoise_latents, encode_prompt
from tests.models.test_every_model import MODELS, SAMPLE, config_of, start_of
from wavespeed_runner.config.schema import Dtype
from wavespeed_runner.models.family import Blocks, Family
from wavespeed_runner.models.pipeline_call import get_task_pipeline
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

STEPS = 2
BLOCKS = 4
"""Blocks at least: two that always run at the head, one at the tail, and one to skip."""


WHOLE = ("qwen_image_edit_2511",)
"""Models that have all that their family can have: they stand for it."""
OTHER_ARCHITECTURES = ("ltx23",)
"""Models with other blocks than the one that stands for their family."""


@lru_cache
def families() -> dict[str, tuple[str, Family]]:
    """Every family by its name, with one of its shipped models."""
    configs = {name: config_of(name) for name in (*reversed(MODELS), *WHOLE)}
    return {config.name: (name, find_implementation("model", config)) for name, config in configs.items()}


def models() -> list[str]:
    """One model of each family that keeps its blocks in lists."""
    return sorted(name for name, family in families().values() if isinstance(family.blocks, Blocks))


@dataclass
class Call:
    """One call of a denoiser, as the pipeline made it."""

    denoiser: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: list[torch.Tensor] = field(default_factory=list)

    def repeat(self) -> list[torch.Tensor]:
        """Tensors of the same call, made again."""
        with torch.inference_mode():
            return tensors(self.denoiser(*self.args, **self.kwargs))

    @property
    def latents(self) -> torch.Tensor:
        """The denoiser's input: its first argument."""
        value = self.args[0] if self.args else next(iter(self.kwargs.values()))
        return torch.stack(value) if isinstance(value, list) else value

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return len(self.latents)


class TinyModel:
    """A shrunk model in float32, and one generation of it without a cache."""

    def __init__(self, name: str) -> None:
        self.config = replace(config_of(name), dtype=Dtype.float32)
        self.family = find_implementation("model", self.config)
        self.blocks: Blocks = self.family.blocks
        self.pipe = load(self.family, self.config, "cpu")
        self.task = next(iter(self.family.tasks))
        called = get_task_pipeline(self.pipe, self.family, self.task)
        names = [name for name in (self.family.denoiser, self.family.denoiser_2) if name]
        self.denoisers = [getattr(called, name) for name in names]
        for denoiser in self.denoisers:
            deepen(denoiser, self.blocks)
        size = self.family.tiny_size
        self.options: dict[str, Any] = {"task": self.task, "width": size, "height": size}
        if self.family.kind == "video":
            self.options["num_frames"] = self.family.tiny_frames
        self.options |= start_of(self.task, size)
        embeddings = encode_prompt(
            self.family, self.pipe, self.config, SAMPLE, self.config.guidance_scale, self.options.get("image")
        )
        if self.config.name.startswith(
            "hunyuan_video15"
        ):  # 1000 tokens of prompt, most of them padding: a second a step
            embeddings = {key: value[:, :64] for key, value in embeddings.items()}
        self.embeddings = embeddings
        with self.record_calls() as self.calls:
            self.result = self.generate()

    def generate(self, *, steps: int = STEPS, config: Any = None, **more: Any) -> dict[str, torch.Tensor]:
        """Latents, and what else the pipeline returns. config: other options of the model, for this time."""
        model = config or self.config
        return denoise_latents(self.family, self.pipe, model, self.embeddings, steps=steps, **self.options, **more)

    def list_blocks(self, denoiser: torch.nn.Module) -> list[torch.nn.Module]:
        """A denoiser's blocks, in the order in which they run."""
        return [block for block_list in self.blocks.lists for block in getattr(denoiser, block_list.name)]

    @contextmanager
    def record_calls(self) -> Iterator[list[Call]]:
        """The denoisers' calls while the context is open."""
        calls: list[Call] = []

        def before(module: Any, args: Any, kwargs: Any) -> None:
            calls.append(Call(module, args, dict(kwargs)))

        def after(module: Any, args: Any, output: Any) -> None:
            calls[-1].output = tensors(output)

        handles = [d.register_forward_pre_hook(before, with_kwargs=True) for d in self.denoisers]
        handles += [d.register_forward_hook(after) for d in self.denoisers]
        yield calls
        for handle in handles:
            handle.remove()


@lru_cache
def tiny_model(name: str) -> TinyModel:
    return TinyModel(name)


def deepen(denoiser: Any, blocks: Blocks) -> None:
    """Inserts blocks, each with different weights, until there are enough."""
    last = getattr(denoiser, blocks.lists[-1].name)
    while sum(len(getattr(denoiser, block_list.name)) for block_list in blocks.lists) < BLOCKS:
        copy = deepcopy(last[0])
        with torch.no_grad():
            for weight in copy.parameters():
                weight.mul_(0.9)
        last.insert(1, copy)  # not after the last one, which is different in SD3


def tensors(output: Any) -> list[torch.Tensor]:
    """All tensors in a denoiser's output; Z-Image returns a list of images."""
    if isinstance(output, torch.Tensor):
        return [output]
    return [tensor for part in output for tensor in tensors(part)]
