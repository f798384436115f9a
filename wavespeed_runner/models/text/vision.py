"""Stand-ins for what Qwen2.5-VL reads images with, for `init=tiny` and `init=random`: no file is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..weights.byte_tokenizer import BYTES, build_byte_tokenizer
from .encoders import CHAT_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, ProcessorMixin

TOKENS = {
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
}
"""Key of the text encoder's configuration -> the token that it is about."""
SIZES = {"shortest_edge": 3136, "longest_edge": 12845056}
"""The least and the most pixels that an image has for the text encoder: preprocessor_config.json of
https://huggingface.co/Qwen/Qwen2.5-VL-3B-Instruct."""


def build_tokenizer(length: int) -> PreTrainedTokenizerFast:
    """Builds a tokenizer of bytes that knows the tokens around images. length: tokens the text encoder can read."""
    tokenizer = build_byte_tokenizer(CHAT_TOKENS, begin=None, pad=CHAT_TOKENS[1], length=length)
    tokenizer.add_tokens(list(TOKENS.values()), special_tokens=True)
    return tokenizer


def place_tokens(config: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The text encoder's configuration with the tokenizer's numbers for the tokens around images."""
    text = dict(config["text_config"])
    text["vocab_size"] = max(text["vocab_size"], BYTES + len(TOKENS))
    ids = {key: tokenizer.convert_tokens_to_ids(token) for key, token in TOKENS.items()}
    return config | {"text_config": text} | ids


def build_processor(tokenizer: PreTrainedTokenizerFast) -> ProcessorMixin:
    """Builds a `Qwen2VLProcessor` without a part for videos, which would need torchvision."""
    from transformers import Qwen2VLImageProcessorPil, Qwen2VLProcessor

    class ImageProcessor(Qwen2VLProcessor):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return type(argument)

    processor: ProcessorMixin = ImageProcessor(Qwen2VLImageProcessorPil(size=SIZES), tokenizer)
    return processor
