"""Rules that doubt a run without refusing it: number formats, sizes of tensors and texts, random weights."""

from __future__ import annotations

from ..config.capability import has_fast_half
from ..config.environment import resolve_device
from ..config.schema import Config, Dtype, Init
from ..metrics.timing import format_bytes
from ..models.family import Family
from ..models.text.tokenizer_size import find_longest_tokenizer
from .rule import Rule

LARGE = 10 * 2**30
"""Bytes of a tensor of which a decoder needs several at once: too many for most GPUs."""


def _measure_decoder(c: Config, f: Family) -> int:
    """Bytes of one tensor of the decoder's last layers; 0 where it is not known to be large."""
    if f.decoder_channels is None or c.model.init is Init.tiny:
        return 0
    pixels = (c.width or 0) * (c.height or 0) * (c.num_frames or 1)
    return pixels * f.decoder_channels * (4 if c.model.dtype is Dtype.float32 else 2)


def _get_length(c: Config) -> int | None:
    return getattr(c.model, "max_sequence_length", None)


def _find_short_tokenizer(c: Config) -> int | None:
    """The length of the model's longest tokenizer, where more tokens than that are asked for; else None."""
    wanted = _get_length(c)
    if wanted is None or c.model.init is not Init.pretrained:
        return None
    length = find_longest_tokenizer(c.model.repo)
    return length if length is not None and length < wanted else None


NUMERICS: tuple[Rule, ...] = (
    Rule(
        id="half-on-cpu",
        verdict="unverified",
        when=lambda c, f: (
            c.model.dtype is not Dtype.float32
            and resolve_device(c.device) == "cpu"
            and not has_fast_half(c.model.dtype.value)
        ),
        message="model.dtype={c.model.dtype.value}: this CPU has no instructions for it, so it is far slower than "
        "float32",
        fix="model.dtype=float32",
    ),
    Rule(
        id="float16-range",
        verdict="unverified",
        when=lambda c, f: c.model.dtype is Dtype.float16 and bool(f.why_not_float16(c.model)),
        message=lambda c, f: (
            "model.dtype=float16: this model was trained in bfloat16, and users report black images, because its "
            f"numbers leave the range of float16 ({f.why_not_float16(c.model)})"
        ),
        fix="model.dtype=bfloat16, or float32",
    ),
    Rule(
        id="decode-whole",
        verdict="unverified",
        when=lambda c, f: _measure_decoder(c, f) > LARGE and not getattr(c.memory, "vae_tiling", False),
        message=lambda c, f: (
            f"{c.width}x{c.height}x{c.num_frames} decoded in one piece: each tensor of the decoder's last layers takes "
            f"{format_bytes(_measure_decoder(c, f))} ({f.decoder_channels} channels), and several are needed at once"
        ),
        fix="memory.vae_tiling=true",
        source="block_out_channels of the VAE: channels x frames x height x width x bytes of a number",
    ),
    Rule(
        id="whole",
        verdict="unverified",
        when=lambda c, f: f.single_call,
        message="model={c.model.name} calls the pipeline whole, because nobody has said how to split it: the stages "
        "encode and decode only pass on, and denoising times include both",
        fix="a family of its own, wavespeed_runner/models/",
    ),
    Rule(
        id="tokens",
        verdict="unverified",
        when=lambda c, f: _find_short_tokenizer(c) is not None,
        message=lambda c, f: (
            f"model.max_sequence_length={_get_length(c)}: the tokenizers of {c.model.repo} were made for "
            f"{_find_short_tokenizer(c)} tokens; each step computes the others too, which are padding"
        ),
        fix=lambda c, f: f"model.max_sequence_length={_find_short_tokenizer(c)}",
        source="model_max_length in its tokenizer_config.json",
    ),
    Rule(
        id="tiny-quality",
        verdict="unverified",
        when=lambda c, f: c.model.init is not Init.pretrained,
        message="model.init={c.model.init.value}: the weights are random, images and their quality mean nothing",
        fix="model.init=pretrained for figures on quality",
    ),
)
