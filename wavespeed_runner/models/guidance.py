"""Options of guidance that some families have beside `guidance_scale`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config.schema import Guidance, ModelConfig
from ..errors import Unfit
from .family import CallInputs, build_plain_arguments

if TYPE_CHECKING:
    from torch import Tensor


def check_true_cfg_scale(model: ModelConfig, scale: float | None) -> None:
    """Raises `Unfit` for a `model.true_cfg_scale` that could not take effect."""
    if scale is None:
        return
    if model.guidance is not Guidance.embedded:
        raise Unfit(
            f"model.true_cfg_scale={scale:g}: has no effect with model.guidance={model.guidance.value}; it adds "
            "classifier-free guidance to model.guidance=embedded; leave it out"
        )
    if not scale > 1:
        raise Unfit(f"model.true_cfg_scale={scale:g}: acts above 1; leave it out for no classifier-free guidance")


def has_other_guidance(model: ModelConfig) -> bool:
    """True for guidance that needs no negative prompt: spatio-temporal, and between video and audio (LTX-2)."""
    return getattr(model, "stg_scale", 0.0) > 0 or getattr(model, "modality_scale", 1.0) > 1


def check_guidance_rescale(model: ModelConfig, rescale: float) -> None:
    """Raises `Unfit` for a `model.guidance_rescale` outside of 0 to 1, or without guidance to rescale."""
    if not 0 <= rescale <= 1:
        raise Unfit(f"model.guidance_rescale={rescale:g}: allowed: 0 (off) to 1; its paper uses 0.7")
    if rescale and model.guidance is Guidance.none and not has_other_guidance(model):
        raise Unfit(f"model.guidance_rescale={rescale:g}: has no effect with model.guidance=none; leave it out")


def build_rescaled_arguments(model: Any, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """`Family.build_arguments`: embeddings, guidance (1 is none), and its rescaling where it is on.

    A rule refuses it for tasks whose pipelines do not have it (`Family.rescales_guidance`).
    """
    rescale = {"guidance_rescale": model.guidance_rescale} if model.guidance_rescale else {}
    return build_plain_arguments(model, embeddings, inputs) | rescale
