"""Gemma 2 and 3 as text encoders: published and tiny shapes, and a stand-in tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..weights.byte_tokenizer import BYTES, build_byte_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

GEMMA3: tuple[str, dict[str, Any]] = (
    "Gemma3ForConditionalGeneration",
    {
        "text_config": {
            "vocab_size": 262208,
            "hidden_size": 3840,
            "intermediate_size": 15360,
            "num_hidden_layers": 48,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 256,
            "sliding_window": 1024,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            },
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 896,
            "patch_size": 14,
            "vision_use_head": False,
        },
    },
)
"""12B as published: https://huggingface.co/google/gemma-3-12b-it."""

TINY_GEMMA3: dict[str, Any] = {
    "text_config": {
        "vocab_size": BYTES,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "vision_use_head": False,
    },
    "mm_tokens_per_image": 4,
}


def build_gemma_tokenizer() -> PreTrainedTokenizerFast:
    """Stands in for the tokenizer of Gemma, and like it pads on the left."""
    tokenizer = build_byte_tokenizer(("<pad>", "<bos>"), begin=None, pad="<pad>", length=4096)
    tokenizer.padding_side = "left"
    return tokenizer


GEMMA2: tuple[str, dict[str, Any]] = (
    "Gemma2Model",
    {
        "vocab_size": 256000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
    },
)
"""2B as published: https://huggingface.co/google/gemma-2-2b."""

TINY_GEMMA2: dict[str, Any] = {
    "vocab_size": BYTES,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
}
