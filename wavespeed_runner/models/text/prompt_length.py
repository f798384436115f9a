"""Prompt encoding that families share: limits on the number of tokens, and encoders that pad and mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Init, ModelConfig
from ...errors import ConfigError, RunError
from ..family import CallInputs, uses_cfg

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import Tensor

CHUNKED = "prompts.chunked=true reads all of them, or "


def allow_length(tokens: int, limit: int) -> None:
    """Raises `ConfigError` unless `max_sequence_length` is between 1 and what the text encoder can read."""
    if not 1 <= tokens <= limit:
        raise ConfigError(f"model.max_sequence_length={tokens}: allowed: 1 to {limit}")


def refuse_truncation(
    model: ModelConfig, tokenizer: Any, text: str, limit: int, key: str, *, tokens: int | None = None, way_out: str = ""
) -> None:
    """Raises `RunError` for a prompt that the pipeline would silently truncate (it only logs that).

    A random-weight model passes: its tokenizer makes one token per byte, which says nothing about the real length.

    Args:
        model: its configuration.
        tokenizer: counts the tokens of `text`, special tokens included.
        text: the prompt.
        limit: number of tokens that the text encoder reads.
        key: where the limit comes from, for the message.
        tokens: number of tokens, if the pipeline adds more around the prompt than the tokenizer does.
        way_out: another one than to shorten the prompt.
    """
    if model.init is not Init.pretrained:
        return
    if tokens is None:
        tokens = len(tokenizer(text, truncation=False).input_ids)
    if tokens > limit:
        raise RunError(
            f"prompt {text[:40]!r}... has {tokens} tokens, and only {key}={limit} of them would be read; "
            f"{way_out}shorten it"
        )


def refuse_long_prompt(pipe: DiffusionPipeline, model: ModelConfig, text: str) -> None:
    """Raises `RunError` if a tokenizer would truncate the prompt: CLIP reads 77 tokens."""
    for tokenizer in (pipe.tokenizer, getattr(pipe, "tokenizer_2", None)):
        if tokenizer is not None:
            # A textual-inversion placeholder may stand for several tokens.
            expanded, limit = pipe.maybe_convert_prompt(text, tokenizer), tokenizer.model_max_length
            refuse_truncation(model, tokenizer, expanded, limit, "tokenizer.model_max_length", way_out=CHUNKED)


def list_prompts(model: ModelConfig, sample: Sample, guidance_scale: float | None) -> list[str]:
    """The prompt, and with classifier-free guidance the negative prompt too; otherwise that one is never read."""
    return [sample.prompt, *([sample.negative_prompt] if uses_cfg(model, guidance_scale) else [])]


def encode_with_mask(
    pipe: DiffusionPipeline, model: Any, sample: Sample, guidance_scale: float | None, **more: Any
) -> dict[str, Tensor]:
    """Encodes a prompt for pipelines that take it padded, with an attention mask (PixArt-Sigma, Sana, Lumina).

    Returns `prompt_embeds` (1, max_sequence_length, width) and `prompt_attention_mask` (1, max_sequence_length); with
    classifier-free guidance also the two `negative_*`. more: further arguments of the pipeline's `encode_prompt`.
    """
    guided = uses_cfg(model, guidance_scale)
    embeds, mask, negative, negative_mask = pipe.encode_prompt(
        sample.prompt,
        guided,
        negative_prompt=sample.negative_prompt,
        max_sequence_length=model.max_sequence_length,
        **more,
    )
    embeddings = {"prompt_embeds": embeds, "prompt_attention_mask": mask}
    if guided:
        embeddings |= {"negative_prompt_embeds": negative, "negative_prompt_attention_mask": negative_mask}
    return embeddings


def build_masked_arguments(model: ModelConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """The result of `encode_with_mask` as call arguments of PixArt-Sigma's and Sana's pipelines.

    Binning is off so that the image gets the requested size: by default these pipelines generate the nearest size they
    were trained with and resize it. `negative_prompt` must be None because they refuse their own default, "", beside
    negative embeddings.
    """
    scale = 1.0 if inputs.guidance_scale is None else inputs.guidance_scale
    return {**embeddings, "guidance_scale": scale, "use_resolution_binning": False, "negative_prompt": None}
