"""Language models used as text encoders (Qwen, Mistral, Llama): published and tiny shapes, and stand-in tokenizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..weights.byte_tokenizer import BYTES, build_byte_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
"""Special tokens 0 and 1 of the chat tokenizer. The end token also pads."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Plain turns, marked as Qwen marks them. The content of a turn is a text, or a list of parts with a text each."""


def build_chat_tokenizer(length: int) -> PreTrainedTokenizerFast:
    """Stands in for a language model's tokenizer, with a chat template. length: tokens the text encoder can read."""
    tokenizer = build_byte_tokenizer(CHAT_TOKENS, begin=None, pad=CHAT_TOKENS[1], length=length)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def qwen3(width: int, *, ff: int, tied: bool, class_name: str = "Qwen3ForCausalLM") -> tuple[str, dict[str, Any]]:
    """Spec of Qwen3, https://huggingface.co/Qwen/Qwen3-4B; width 2560 is 4B. tied: input and output embeddings."""
    return class_name, {
        "vocab_size": 151936,
        "hidden_size": width,
        "intermediate_size": ff,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }


TINY_LLM: dict[str, Any] = {
    "vocab_size": BYTES,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 4096,
}
"""Configuration values of tiny Qwen3, Mistral and Llama models."""

QWEN2_5_VL: tuple[str, dict[str, Any]] = (
    "Qwen2_5_VLForConditionalGeneration",
    {
        "text_config": {
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "max_position_embeddings": 128000,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
        },
        "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584},
        "tie_word_embeddings": False,
    },
)
"""Qwen2.5-VL 7B as published: https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct."""

TINY_QWEN2_5_VL: dict[str, Any] = {
    "text_config": {
        "vocab_size": BYTES,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6},
        "bos_token_id": 0,
        "eos_token_id": 1,
    },
    "vision_config": {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
    },
}

MISTRAL_SMALL: tuple[str, dict[str, Any]] = (
    "Mistral3ForConditionalGeneration",
    {
        "text_config": {
            "model_type": "mistral",
            "vocab_size": 131072,
            "hidden_size": 5120,
            "intermediate_size": 32768,
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "sliding_window": None,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e9},
        },
        "vision_config": {
            "model_type": "pixtral",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 1540,
            "patch_size": 14,
        },
        "tie_word_embeddings": False,
    },
)
"""Mistral Small 3.1 24B as published: https://huggingface.co/mistralai/Mistral-Small-3.1-24B-Instruct-2503."""

TINY_MISTRAL: dict[str, Any] = {
    "text_config": {"model_type": "mistral", "sliding_window": None, **TINY_LLM},
    "vision_config": {
        "model_type": "pixtral",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 112,
        "patch_size": 14,
    },
}

LLAMA_3_1: tuple[str, dict[str, Any]] = (
    "LlamaForCausalLM",
    {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 5e5,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    },
)
"""Llama 3.1 8B as published: https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct. `TINY_LLM` makes it small."""

LLAMA_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>")


def build_llama_tokenizer(length: int) -> PreTrainedTokenizerFast:
    """Stands in for the tokenizer of Llama 3."""
    return build_byte_tokenizer(LLAMA_TOKENS, begin=LLAMA_TOKENS[0], pad=LLAMA_TOKENS[1], length=length)
