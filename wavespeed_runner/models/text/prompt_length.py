"""What families share in reading prompts."""

from __future__ import annotations

from typing import Any

from ...config.schema import Init, ModelConfig
from ...errors import ConfigError, RunError
from ..family import Wanted, two_passes


def allow_length(tokens: int, most: int) -> None:
    """Raises `ConfigError` for a `max_sequence_length` that the text encoder cannot take."""
    if not 1 <= tokens <= most:
        raise ConfigError(f"model.max_sequence_length={tokens}: allowed: 1 to {most}")


def refuse_cut(
    model: ModelConfig, tokenizer: Any, text: str, limit: int, key: str, *, tokens: int | None = None
) -> None:
    """Raises `RunError` for a prompt that is too long: the pipeline would cut it, and only log it.

    limit: tokens that are read. key: where the limit comes from, for the message. tokens: the prompt's, where the
    pipeline puts more around it than the tokenizer does. A model made on the spot is let through: its tokens are bytes,
    and say nothing of the real length.
    """
    if model.init is not Init.pretrained:
        return
    if tokens is None:
        tokens = len(tokenizer(text, truncation=False).input_ids)
    if tokens > limit:
        raise RunError(f"prompt {text[:40]!r}... has {tokens} tokens, {key}={limit} of them would be read; shorten it")


def texts_read(model: ModelConfig, sample: Any, guidance_scale: float | None) -> list[str]:
    """The prompt, and with classifier-free guidance the negative one: without it, its length is nobody's business."""
    return [sample.prompt, *([sample.negative_prompt] if two_passes(model, guidance_scale) else [])]


def encode_masked(pipe: Any, model: Any, sample: Any, guidance_scale: float | None, **more: Any) -> dict[str, Any]:
    """The prompt for pipelines that take it padded, with a mask of what is text (PixArt-Sigma, Sana, Lumina).

    `prompt_embeds` (1, max_sequence_length, width) and `prompt_attention_mask` (1, max_sequence_length); with
    classifier-free guidance also the two `negative_*`. more: further arguments of the pipeline's `encode_prompt`.
    """
    guided = two_passes(model, guidance_scale)
    embeds, mask, negative, negative_mask = pipe.encode_prompt(
        sample.prompt,
        guided,
        negative_prompt=sample.negative_prompt,
        max_sequence_length=model.max_sequence_length,
        **more,
    )
    found = {"prompt_embeds": embeds, "prompt_attention_mask": mask}
    if guided:
        found |= {"negative_prompt_embeds": negative, "negative_prompt_attention_mask": negative_mask}
    return found


def masked_arguments(model: ModelConfig, embeddings: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    """What `encode_masked` gives as arguments of PixArt-Sigma's and Sana's pipelines.

    The size is the one asked for; the pipelines by themselves take the nearest that they were trained with, and resize.
    A negative prompt of "", their default, would be one too many beside embeddings.
    """
    scale = 1.0 if wanted.guidance_scale is None else wanted.guidance_scale
    return {**embeddings, "guidance_scale": scale, "use_resolution_binning": False, "negative_prompt": None}
