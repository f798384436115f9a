"""Llama 3 8B as the text encoder of HunyuanVideo: published and tiny shapes, and a stand-in tokenizer.

The pipelines put the prompt behind a fixed instruction, whose number of tokens is a constant in their code. With one
token per byte the instruction would be so long that no prompt would be read, so the stand-in tokenizer keeps that
number.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..weights.byte_tokenizer import BYTES, build_byte_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LLAMA3: dict[str, Any] = {
    "vocab_size": 128320,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
}
"""https://huggingface.co/xtuner/llava-llama-3-8b-v1_1-transformers."""

SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>")
"""Special tokens 0 and 1."""
PAD = "<pad>"

TINY_LLAMA: dict[str, Any] = {
    "vocab_size": BYTES + 110,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2048,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
"""Four layers, because the pipeline does not read the output of the last two."""


def build_template_tokenizer(template: str, tokens: int) -> PreTrainedTokenizerFast:
    """Builds a byte tokenizer for which the text before the prompt is `tokens` long, begin token included.

    template: a text with `{}` where the prompt goes. Tags in angle brackets are one token each.
    """
    tokenizer = build_byte_tokenizer(SPECIAL, begin=SPECIAL[0], pad=SPECIAL[1], length=2048)
    tokenizer.add_special_tokens({"pad_token": PAD})
    tokenizer.add_tokens(list(dict.fromkeys(_split_instruction(template, tokens - 1))), special_tokens=True)
    tokenizer.padding_side = "right"
    return tokenizer


def _split_instruction(template: str, count: int) -> list[str]:
    """The text before the prompt in `count` pieces: tags, line breaks, and the longest text cut evenly."""
    parts = [part for part in re.split(r"(<[^<>]+>|\n\n)", template.partition("{}")[0]) if part]
    long = max(range(len(parts)), key=lambda index: len(parts[index]))
    text, pieces = parts[long], count - (len(parts) - 1)
    cuts = [len(text) * index // pieces for index in range(pieces + 1)]
    return [*parts[:long], *(text[a:b] for a, b in pairwise(cuts)), *parts[long + 1 :]]
