"""Any diffusers pipeline with the usual call arguments that has no family here: `model=generic model.repo=...`.

Each image is one whole call of the pipeline. How embeddings go back into the call and how latents are scaled before the
decoder differs between pipelines and is not documented; a wrong guess would silently give other images. So the encode
and decode stages only pass values on, the measured times include both, and the plan says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..family import CallInputs, Family

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

REQUIRED = ("prompt", "num_inference_steps", "generator", "output_type")
"""Arguments that the call of a generic pipeline must accept."""


@dataclass(kw_only=True)
class GenericConfig(ModelConfig):
    """Options of a generic image pipeline."""

    name: str = "generic"

    def __post_init__(self) -> None:
        if self.init is not Init.pretrained:
            raise ConfigError(
                f"model.init={self.init.value}: model={self.name} learns its components only by loading them; use "
                "model.init=pretrained"
            )


@dataclass(kw_only=True)
class GenericVideoConfig(GenericConfig):
    """Options of a generic video pipeline."""

    name: str = "generic_video"


def build(model: GenericConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Never called: `GenericConfig` allows pretrained weights only."""
    raise ConfigError("model.init: only pretrained is allowed")


def check(model: GenericConfig, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` if the pipeline does not take the usual arguments or has no scheduler."""
    accepted = signature(pipe.__call__).parameters
    guidance = [] if model.guidance is Guidance.none else list(_name_guidance(model, model.guidance_scale, accepted))
    missing = [name for name in (*REQUIRED, *guidance) if name not in accepted]
    if missing:
        raise RunError(
            f"model.repo={model.repo}: {type(pipe).__name__} takes no {', '.join(missing)}; model={model.name} is for "
            "pipelines that generate images or videos from a prompt with the usual arguments"
        )
    if not hasattr(pipe, "scheduler") or not hasattr(type(pipe), "num_timesteps"):
        raise RunError(
            f"model.repo={model.repo}: {type(pipe).__name__} does not denoise with a single scheduler, "
            f"which model={model.name} needs"
        )


def encode(
    pipe: DiffusionPipeline, model: GenericConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Returns the prompts themselves as UTF-8 bytes, (1, bytes) each: the pipeline encodes them."""
    import torch

    texts = {"prompt": sample.prompt, "negative_prompt": sample.negative_prompt}
    return {name: torch.tensor([list(text.encode())], dtype=torch.uint8) for name, text in texts.items()}


def build_arguments(model: GenericConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """The prompts as text again, and model and scale for `run`."""
    texts = {name: bytes(tensor[0].tolist()).decode() for name, tensor in embeddings.items()}
    return {**texts, "model": model, "guidance": inputs.guidance_scale}


def _name_guidance(model: GenericConfig, scale: float | None, accepted: Any) -> dict[str, Any]:
    """The scale under the argument name that the pipeline has for this kind of guidance.

    No guidance is passed as 1: without the argument, the pipeline's own default would apply.
    """
    none = scale is None or model.guidance is Guidance.none
    true_cfg = model.guidance is not Guidance.embedded and "true_cfg_scale" in accepted
    name = "true_cfg_scale" if true_cfg else "guidance_scale"
    return {name: 1.0 if none else scale} if name in accepted or not none else {}


def run(pipe: DiffusionPipeline, call: dict[str, Any]) -> dict[str, Tensor]:
    """Calls the pipeline and returns its pixels, 0 to 1, in place of latents.

    Raises:
        RunError: the pipeline lacks an argument for something that was asked for.
    """
    import torch

    accepted = signature(pipe.__call__).parameters
    call = {**call, "output_type": "np"}
    call |= _name_guidance(call.pop("model"), call.pop("guidance"), accepted)
    # An empty negative prompt counts as one in some pipelines; others apply guidance only if one is given.
    if not call["negative_prompt"] and "true_cfg_scale" not in call:
        del call["negative_prompt"]
    unknown = [name for name in call if name not in accepted]
    if unknown:
        raise RunError(f"{type(pipe).__name__} takes no {', '.join(unknown)}; remove it from the configuration")
    output = pipe(**call)
    return {"latents": torch.as_tensor(output.images if hasattr(output, "images") else output.frames)}


def decode(pipe: DiffusionPipeline, latents: dict[str, Tensor], **size: Any) -> np.ndarray:
    """Converts the pixels to uint8, rounded as diffusers rounds for PIL."""
    return (latents["latents"].cpu().numpy() * 255).round().astype("uint8")


_SHARED: dict[str, Any] = {
    "build": build,
    "check": check,
    "encode": encode,
    "build_arguments": build_arguments,
    "run": run,
    "decode": decode,
    "adapters": (),
    "supports_batches": False,
    "size_multiple": 8,
    "single_call": True,
    "schedule": "unknown",
}

register("model", "generic", GenericConfig)(Family(tasks={"text_to_image": "DiffusionPipeline"}, **_SHARED))
register("model", "generic_video", GenericVideoConfig)(
    Family(tasks={"text_to_video": "DiffusionPipeline"}, kind="video", **_SHARED)
)
