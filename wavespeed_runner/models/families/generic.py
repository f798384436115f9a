"""Any diffusers pipeline of the common signature that has no family of its own here: `model=generic model.repo=...`.

The pipeline is called whole. How the result of `encode_prompt` goes back into the call, and what happens to latents
before the decoder, differs between pipelines and is written down nowhere; a guess would give other images without a
word. So the stages encode and decode only pass on, and times include both; the plan says so.
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

NEEDED = ("prompt", "num_inference_steps", "generator", "output_type")
"""What a pipeline's call must take to be called here."""


@dataclass(kw_only=True)
class GenericConfig(ModelConfig):
    name: str = "generic"

    def __post_init__(self) -> None:
        if self.init is not Init.pretrained:
            raise ConfigError(
                f"model.init={self.init.value}: what model={self.name} is made of is not known before it is loaded; "
                "model.init=pretrained"
            )


@dataclass(kw_only=True)
class GenericVideoConfig(GenericConfig):
    name: str = "generic_video"


def build(model: GenericConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    raise ConfigError("model.init: only pretrained, see GenericConfig")


def check(model: GenericConfig, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` when the pipeline cannot be called as all others are."""
    accepted = signature(pipe.__call__).parameters
    wanted = [] if model.guidance is Guidance.none else list(_guidance(model, model.guidance_scale, accepted))
    missing = [name for name in (*NEEDED, *wanted) if name not in accepted]
    if missing:
        raise RunError(
            f"model.repo={model.repo}: {type(pipe).__name__} takes no {', '.join(missing)}; model={model.name} is for "
            "pipelines that make images or videos of a prompt with the usual arguments"
        )
    if not hasattr(pipe, "scheduler") or not hasattr(type(pipe), "num_timesteps"):
        raise RunError(f"model.repo={model.repo}: {type(pipe).__name__} does not step with one scheduler")


def encode(
    pipe: DiffusionPipeline, model: GenericConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """The texts as they are, in UTF-8: the pipeline encodes them itself."""
    import torch

    texts = {"prompt": sample.prompt, "negative_prompt": sample.negative_prompt}
    return {name: torch.tensor([list(text.encode())], dtype=torch.uint8) for name, text in texts.items()}


def build_arguments(model: GenericConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    texts = {name: bytes(tensor[0].tolist()).decode() for name, tensor in embeddings.items()}
    return {**texts, "model": model, "guidance": inputs.guidance_scale}


def _guidance(model: GenericConfig, scale: float | None, accepted: Any) -> dict[str, Any]:
    """The scale under the name that pipelines give to this kind of guidance. None at all is said too, with 1: left out,
    the pipeline's own default would act."""
    none = scale is None or model.guidance is Guidance.none
    true_cfg = model.guidance is not Guidance.embedded and "true_cfg_scale" in accepted
    name = "true_cfg_scale" if true_cfg else "guidance_scale"
    return {name: 1.0 if none else scale} if name in accepted or not none else {}


def run(pipe: DiffusionPipeline, call: dict[str, Any]) -> dict[str, Tensor]:
    """The pixels that the pipeline gives, 0 to 1, in the place of latents.

    Raises:
        RunError: the pipeline does not take what was asked for.
    """
    import torch

    accepted = signature(pipe.__call__).parameters
    call = {**call, "output_type": "np"}
    call |= _guidance(call.pop("model"), call.pop("guidance"), accepted)
    # Some pipelines take an empty negative prompt for one, some guide only when one is given.
    if not call["negative_prompt"] and "true_cfg_scale" not in call:
        del call["negative_prompt"]
    unknown = [name for name in call if name not in accepted]
    if unknown:
        raise RunError(f"{type(pipe).__name__} takes no {', '.join(unknown)}; leave it out")
    output = pipe(**call)
    return {"latents": torch.as_tensor(output.images if hasattr(output, "images") else output.frames)}


def decode(pipe: DiffusionPipeline, latents: dict[str, Tensor], **size: Any) -> np.ndarray:
    """The pixels as numpy uint8, rounded as diffusers rounds for PIL."""
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
