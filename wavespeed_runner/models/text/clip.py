"""Options of CLIP text encoders that several families share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, RunError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import Tensor


def check_clip_skip(layers: int | None) -> None:
    """Raises `ConfigError` for a `model.clip_skip` below 1."""
    if layers is not None and layers < 1:
        raise ConfigError(
            f"model.clip_skip={layers}: at least 1 layer, or null for none; 1 is what A1111 calls 2, and ComfyUI -2"
        )


def check_clip_layers(model: Any, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` if `model.clip_skip` leaves out more layers than a CLIP text encoder of the pipeline has.

    Pipelines with two of them always leave out the last layer, and so many beside it.
    """
    if model.clip_skip is None:
        return
    encoders = [encoder for name in ("text_encoder", "text_encoder_2") if (encoder := getattr(pipe, name, None))]
    layers = min(encoder.config.num_hidden_layers for encoder in encoders)
    most = layers - (1 if len(encoders) == 1 else 2)
    if model.clip_skip > most:
        raise RunError(
            f"model.clip_skip={model.clip_skip}: the text encoder has {layers} layers; at most {most} can be left out"
        )


def encode_without_last_layers(pipe: DiffusionPipeline, text: str, clip_skip: int) -> Tensor:
    """Encodes a prompt without the last layers of the text encoder: (1, 77, width).

    As `StableDiffusionPipeline.encode_prompt(clip_skip=...)`, which reads `text_encoder.text_model`: transformers 5 has
    no such attribute, and the pipeline fails there.
    """
    encoder, tokenizer = pipe.text_encoder, pipe.tokenizer
    expanded = pipe.maybe_convert_prompt(text, tokenizer)
    length = tokenizer.model_max_length
    tokens = tokenizer(expanded, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    device = pipe._execution_device
    mask = tokens.attention_mask.to(device) if getattr(encoder.config, "use_attention_mask", False) else None
    states = encoder(tokens.input_ids.to(device), attention_mask=mask, output_hidden_states=True).hidden_states
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    embeds: Tensor = norm(states[-(clip_skip + 1)])
    return embeds.to(encoder.dtype)
