"""Scales of LoRA layers (alpha / rank), which diffusers ignores where they differ from layer to layer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .adapter_layers import get_denoiser_name
from .adapter_parts import ALPHA, DOWN, UP

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


def multiply_scales(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Multiplies alpha / rank into both factors of each layer, and removes alpha.

    The power of two that is nearest to its square root goes into the first one, so that neither underflows in float16.

    Returns:
        First factor -> the alpha that it now holds.
    """
    import math

    scaled = {}
    for key in [key for key in tensors if key.endswith(ALPHA)]:
        layer = key.removesuffix(ALPHA)
        pairs = [(layer + down, layer + up) for down, up in zip(DOWN, UP, strict=True)]
        for down, up in [pair for pair in pairs if tensors.keys() >= set(pair)]:
            scale = float(tensors.pop(key)) / max(len(tensors[down]), 1)
            part = 2.0 ** round(math.log2(scale) / 2)
            tensors[down] = tensors[down].float() * part
            tensors[up] = tensors[up].float() * (scale / part)
            scaled[down] = key
    return scaled


@contextmanager
def convert_scaled(pipe: Any, settings: dict[str, Any] | None, scaled: dict[str, str]) -> Iterator[None]:
    """Gives the pipeline PEFT's settings from the file's metadata, which diffusers does not look for beside tensors.

    Some conversions need an alpha, and others refuse it: it is there at first, and says that the scale is 1. What they
    return of it is not needed.

    Args:
        pipe: converts by its `lora_state_dict` meanwhile.
        settings: PEFT's.
        scaled: what `multiply_scales` returned.
    """
    import torch

    def convert(given: dict[str, torch.Tensor], **options: Any) -> tuple[Any, ...]:
        alphas = {alpha: torch.tensor(float(len(given[down]))) for down, alpha in scaled.items()}
        try:
            state, *rest, _ = type(pipe).lora_state_dict(given | alphas, **options)
        except Exception as error:
            try:
                state, *rest, _ = type(pipe).lora_state_dict(dict(given), **options)
            except Exception:
                raise error from None
        if settings is None:
            state = {key: tensor for key, tensor in state.items() if not key.endswith(ALPHA)}
            rest = [None for _ in rest]
        # Of FLUX, diffusers converts layers outside the blocks and forgets to say that they are the transformer's; of
        # Qwen-Image and Z-Image it says so twice.
        state = {key.replace(f"{start}.{start}.", f"{start}.", 1): tensor for key, tensor in state.items()}
        state = {key if key.partition(".")[0] in pipe.components else f"{start}.{key}": state[key] for key in state}
        return (state, *rest, settings)

    start = get_denoiser_name(pipe)
    pipe.lora_state_dict = convert
    try:
        yield
    finally:
        del pipe.lora_state_dict
