"""Generates latents of many images with a sampler that is being fitted, with gradients to its numbers or without.

The family's own diffusers pipeline is called as in a run, so guidance, packing and whatever a pipeline does are part of
what is fitted. Its `__call__` is decorated with `torch.no_grad()`; for gradients the function below it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..artifacts import Latents, Pipeline
from ..caching import attach_strategy
from ..config.denoise_options import DenoiseOptions
from ..config.schema import CacheConfig
from ..errors import Unfit
from ..models.pipeline_call import denoise, get_task_pipeline
from ..stages.attached import build_generation_info, find_denoisers
from ..stages.decode import decode_latents
from ..stages.generate import build_call, concatenate
from ..stages.image_request import ImageRequest, build_requests
from .checkpointing import checkpoint_blocks

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

BATCH = 8
"""Images that are denoised together, where the family can."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What came of some images; tensors are flat, (images, D), float32."""

    latents: Latents
    """As the pipeline returns them, for decoding."""
    result: Tensor
    """The last state of the sampler."""
    noise: Tensor
    """Its first one."""
    outputs: list[Tensor]
    """The denoiser's output at each evaluation; empty unless asked for."""


@dataclass(kw_only=True)
class Seen:
    """Collects what a scheduler is given and gives, generation by generation."""

    keeps_outputs: bool
    end_step: Callable[[], None] = lambda: None
    """Called after each step."""
    noises: list[Tensor] = field(default_factory=list)
    results: list[Tensor] = field(default_factory=list)
    outputs: list[list[Tensor]] = field(default_factory=list)
    _now: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    @contextmanager
    def watch(self, scheduler: Any) -> Iterator[None]:
        """Sees each step of this scheduler, not those of its copies (LTX-2 steps its audio with one)."""
        original, seen = type(scheduler), self

        class Watched(original):  # type: ignore[valid-type,misc]
            def step(self, model_output: Any, timestep: Any, sample: Any, *args: Any, **options: Any) -> Any:
                result = super().step(model_output, timestep, sample, *args, **options)
                if self is scheduler:
                    seen._now.append((sample, model_output if seen.keeps_outputs else sample, result[0]))
                    seen.end_step()
                return result

        Watched.__name__ = original.__name__
        scheduler.__class__ = Watched
        try:
            yield
        finally:
            scheduler.__class__ = original

    def end_generation(self) -> None:
        """Puts the steps since the last call together."""
        flat = [tuple(tensor.float().flatten(1) for tensor in step) for step in self._now]
        self.noises.append(flat[0][0])
        self.results.append(flat[-1][2])
        self.outputs.append([output for _, output, _ in flat] if self.keeps_outputs else [])
        self._now = []


@dataclass(frozen=True, kw_only=True)
class Student:
    """A loaded model and the images that a sampler is fitted on."""

    options: DenoiseOptions
    pipeline: Pipeline
    requests: list[ImageRequest]
    checkpointing: bool = True
    """With gradients: keep the inputs of the denoiser's blocks only and compute the rest again, which takes a third
    more time and little memory."""

    @property
    def modules(self) -> list[torch.nn.Module]:
        """All models of the pipeline: some pipelines call more than the denoiser."""
        import torch

        components = self.pipeline.pipe.components.values()
        return [component for component in components if isinstance(component, torch.nn.Module)]

    @property
    def denoisers(self) -> list[torch.nn.Module]:
        """What the pipeline calls at every step."""
        return find_denoisers(self.pipeline.pipe, self.pipeline.family)

    def count_together(self) -> int:
        """Images that are denoised together, at most."""
        return BATCH if self.pipeline.family.supports_batches else 1

    def generate(
        self,
        scheduler: Any,
        steps: int,
        images: Sequence[int],
        *,
        cache: CacheConfig | None = None,
        gradients: bool = False,
        outputs: bool = False,
    ) -> Generated:
        """Generates some images with a scheduler; the pipeline has its own one again afterwards.

        Args:
            scheduler: takes `steps` evaluations.
            steps: what the pipeline is asked for.
            images: indices of `requests`.
            cache: a cache strategy.
            gradients: so that the result can be differentiated by the tensors of scheduler and cache; inside of
                `freeze`.
            outputs: keep the denoiser's outputs too.
        """
        import torch

        pipe, parts = self.pipeline.pipe, []
        seen = Seen(keeps_outputs=outputs)
        options = replace(self.options, steps=steps, cache=cache or self.options.cache)
        own, pipe.scheduler = pipe.scheduler, scheduler
        try:
            with torch.set_grad_enabled(gradients), self.pipeline.running(), seen.watch(scheduler):
                for group in self._group(images):
                    parts.append(self._call(options, [self.requests[index] for index in group], seen, gradients))
                    seen.end_generation()
        finally:
            pipe.scheduler = own
        tensors = {name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors}
        return Generated(
            latents=Latents(tensors=tensors, data=parts[0].data),
            result=torch.cat(seen.results),
            noise=torch.cat(seen.noises),
            outputs=[torch.cat(several) for several in zip(*seen.outputs, strict=True)],
        )

    def decode(self, latents: Latents) -> list[np.ndarray]:
        """Images and videos: uint8 arrays of shape (frames, height, width, 3); an image has one frame."""
        pixels = decode_latents(self.pipeline, latents)
        return list(pixels.reshape(len(pixels), -1, *pixels.shape[-3:]))

    def _call(self, options: DenoiseOptions, requests: list[ImageRequest], seen: Seen, gradients: bool) -> Latents:
        import torch

        pipeline, family = self.pipeline, self.pipeline.family
        wanted = build_call(options, pipeline, requests)
        pipe = get_task_pipeline(pipeline.pipe, family, wanted.task)
        pipe.scheduler = pipeline.pipe.scheduler
        pipe.set_progress_bar_config(disable=True)
        embeddings = concatenate([request.embeddings for request in requests])
        size = {name: getattr(wanted, name) for name in ("width", "height", "num_frames")}
        denoisers, info = find_denoisers(pipe, family), build_generation_info(pipe, family, wanted, len(requests))
        with ExitStack() as stack:
            if gradients:
                # Tensors that were made in inference mode cannot take part in a graph.
                embeddings = {name: tensor.clone() for name, tensor in embeddings.items()}
                stack.enter_context(call_with_gradients(pipe))
                stack.enter_context(torch.inference_mode(False))
                if self.checkpointing:
                    stack.enter_context(checkpoint_blocks(denoisers, family.blocks))
            # After the blocks were found: a strategy on a U-Net takes their place.
            trace = stack.enter_context(attach_strategy(denoisers, family.blocks, options.cache, info))
            seen.end_step = trace.end_step
            return Latents(tensors=denoise(family, pipe, pipeline.model, embeddings, wanted), data={"size": size})

    def _group(self, images: Sequence[int]) -> Iterator[list[int]]:
        """The images in batches of equal shapes, in order."""
        most, group = self.count_together(), list[int]()
        for index in images:
            same = group and self.requests[index].batch_key == self.requests[group[0]].batch_key
            if group and (not same or len(group) == most):
                yield group
                group = []
            group.append(index)
        if group:
            yield group


def build_student(options: DenoiseOptions, inputs: list[dict[str, Any]], *, checkpointing: bool) -> Student:
    """The student of a denoising stage, from the stage's options and its inputs for each image."""
    requests = [request for index, sample in enumerate(inputs) for request in build_requests(options, index, **sample)]
    return Student(options=options, pipeline=inputs[0]["pipeline"], requests=requests, checkpointing=checkpointing)


@contextmanager
def call_with_gradients(pipe: DiffusionPipeline) -> Iterator[None]:
    """Takes `torch.no_grad()` off the pipeline's `__call__`.

    Raises:
        Unfit: there is nothing to take off, so it is not known what the pipeline does.
    """
    original = type(pipe)
    function = getattr(original.__call__, "__wrapped__", None)
    if function is None:
        raise Unfit(f"{original.__name__} cannot be differentiated; fit with gradients=false")
    pipe.__class__ = type(original.__name__, (original,), {"__call__": function})
    try:
        yield
    finally:
        pipe.__class__ = original


@contextmanager
def freeze(denoisers: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Keeps weights out of the graph.

    Until the derivative is there: blocks that are computed again for it must save the same tensors as at first.
    """
    wanted: list[Any] = [p for module in denoisers for p in module.parameters() if p.requires_grad]
    for parameter in wanted:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad = True


def relative_errors(result: Tensor, reference: Tensor) -> Tensor:
    """(images,): mean square difference of each image, relative to its reference's mean square; of (images, D)."""
    size: Tensor = reference.square().mean(1)
    return (result - reference).square().mean(1) / size.clamp(min=1e-12)
