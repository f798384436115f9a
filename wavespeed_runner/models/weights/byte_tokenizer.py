"""Tokenizers that need no file, for `init=tiny` and `init=random`: a token for each byte of the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CLIP_TOKENS = ("<|startoftext|>", "<|endoftext|>")
"""Special tokens 0 and 1. The end token also pads, as in the real tokenizer."""
T5_TOKENS = ("<pad>", "</s>")
BYTES = 258
"""Vocabulary size of the tokenizers built here: two special tokens and the 256 bytes."""


def build_clip_tokenizer(length: int = 77, pad: str = CLIP_TOKENS[1]) -> PreTrainedTokenizerFast:
    """Stands in for the tokenizer of CLIP. pad: the padding token; OpenCLIP's tokenizers have "!"."""
    return build_byte_tokenizer(CLIP_TOKENS, begin=CLIP_TOKENS[0], pad=pad, length=length)


def build_t5_tokenizer(length: int) -> PreTrainedTokenizerFast:
    """Stands in for the tokenizer of T5."""
    return build_byte_tokenizer(T5_TOKENS, begin=None, pad=T5_TOKENS[0], length=length)


def build_byte_tokenizer(
    special: tuple[str, str], *, begin: str | None, pad: str, length: int
) -> PreTrainedTokenizerFast:
    """Builds a tokenizer that needs no file: one token per UTF-8 byte, so different prompts give different tokens.

    Args:
        special: the first two tokens; the second one ends every sequence.
        begin: the token that starts every sequence, if any.
        pad: the padding token.
        length: number of tokens that the text encoder can read.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate((*special, *sorted(pre_tokenizers.ByteLevel.alphabet())))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    end = special[1]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}" if begin else f"$A {end}",
        special_tokens=[(token, vocabulary[token]) for token in special],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=begin, eos_token=end, pad_token=pad, model_max_length=length
    )
