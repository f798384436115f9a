"""What a setting computes, how far its result is from the reference, and how long it takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from time import perf_counter, process_time
from typing import Any

from .models import Model
from .prompts import Prompt
from .settings import Setting

BLOCK_LISTS = ("transformer_blocks", "single_transformer_blocks")
U_NET_LAYER = re.compile(r"(down_blocks\.\d+|mid_block|up_blocks\.\d+)\.(resnets|attentions|(down|up)samplers)\.\d+")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One prompt without a cache."""

    prompt: Prompt
    embeddings: dict[str, Any]
    latents: Any
    image: Any
    """None where images show nothing."""
    computed: float
    """Sum over what ran, see `weights`."""


def weights(model: Model) -> dict[str, float]:
    """Names of the denoiser's parts -> what one execution of each counts.

    Transformers: every block counts one, as the publications of caches have it. U-Nets, whose layers differ in size:
    residual, attention and resampling layers, each by its floating-point operations in one call of the denoiser
    (torch.utils.flop_counter).
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    pipe = model.fresh()
    denoiser = model.denoiser(pipe)
    if hasattr(denoiser, BLOCK_LISTS[0]):
        return {f"{name}.{index}": 1.0 for name in BLOCK_LISTS for index in range(len(getattr(denoiser, name)))}
    prompt = Prompt("a red circle", 0)
    # Attention as matrix products: the counter does not know the CPU's fused kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model.latents(pipe, prompt, model.encode(prompt), 2)
    counts, root = counter.get_flop_counts(), type(denoiser).__name__
    names = [name for name, _ in denoiser.named_modules() if U_NET_LAYER.fullmatch(name)]
    return {name: float(sum(counts[f"{root}.{name}"].values())) for name in names}


def unit(model: Model) -> str:
    """What a share counts, in words."""
    transformer = hasattr(model.denoiser(model.pipe), BLOCK_LISTS[0])
    return "transformer blocks" if transformer else "floating-point operations of the U-Net's layers"


@contextmanager
def counted(denoiser: Any, weights: dict[str, float]) -> Iterator[list[float]]:
    """Collects, while inside, the weight times the rows of every part that really runs.

    The hook sits on the first linear layer or convolution inside a part: diffusers' hooks and DeepCache replace the
    `forward` of the part itself, and a hook on the part would count what they skip.
    """
    import torch

    ran: list[float] = []

    def count(weight: float) -> Any:
        return lambda module, given, result: ran.append(weight * result.shape[0])

    handles = []
    for name, weight in weights.items():
        inside = denoiser.get_submodule(name).modules()
        probe = next(module for module in inside if isinstance(module, torch.nn.Linear | torch.nn.Conv2d))
        handles.append(probe.register_forward_hook(count(weight)))
    try:
        yield ran
    finally:
        for handle in handles:
            handle.remove()


def references(model: Model, prompts: list[Prompt], weights: dict[str, float]) -> list[Reference]:
    """Every prompt at full steps without a cache."""
    found = []
    for prompt in prompts:
        embeddings, pipe = model.encode(prompt), model.fresh()
        with counted(model.denoiser(pipe), weights) as ran:
            latents = model.latents(pipe, prompt, embeddings, model.steps)
        image = model.image(latents) if model.images else None
        found.append(Reference(prompt=prompt, embeddings=embeddings, latents=latents, image=image, computed=sum(ran)))
    return found


def measure(
    model: Model, setting: Setting, references: list[Reference], weights: dict[str, float]
) -> dict[str, list[Any]]:
    """Prompt by prompt, on one fresh pipeline, after one generation that warms up.

    Returns:
        share: of the reference's computations.
        error: `relative_error` of the final latents.
        ssim: of the images; empty where they show nothing.
        latents: a digest of them, so that equality can be seen.
        wall_seconds: of the denoising, by the clock.
        cpu_seconds: of this process, which with one thread is the wall time of an idle machine.
    """
    from wavespeed_runner.metrics.quality import compare_images

    names = ("share", "error", "ssim", "latents", "wall_seconds", "cpu_seconds")
    found: dict[str, list[Any]] = {name: [] for name in names}
    pipe, steps = model.fresh(), setting.steps or model.steps
    # Counted from before the setting acts: it may move or wrap the blocks, and the hooks go with them.
    with counted(model.denoiser(pipe), weights) as ran, setting.on(pipe, model, **setting.parameters):
        model.latents(pipe, references[0].prompt, references[0].embeddings, steps)
        for known in references:
            ran.clear()
            wall, cpu = perf_counter(), process_time()
            latents = model.latents(pipe, known.prompt, known.embeddings, steps)
            found["wall_seconds"].append(perf_counter() - wall)
            found["cpu_seconds"].append(process_time() - cpu)
            found["share"].append(sum(ran) / known.computed)
            found["error"].append(relative_error(latents, known.latents))
            found["latents"].append(sha256(latents.numpy().tobytes()).hexdigest()[:12])
            if model.images:
                found["ssim"].append(compare_images(model.image(latents), known.image)["ssim"])
    return found


def relative_error(latents: Any, reference: Any) -> float:
    """mean|x - r| / mean|r|, in float64."""
    x, r = latents.double(), reference.double()
    return float((x - r).abs().mean() / r.abs().mean())
