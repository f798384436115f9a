"""Where the tokens of each transformer are, as far as ranks that divide them have to know.

diffusers has such plans (`_cp_plan`) for a few models. Ours are for every family, and say more: which attention is
divided and in which order its streams lie, which is not (cross attention to a prompt that every rank has whole), and
which arguments of a block are per token. Tokens are divided where the first block takes them, outside of a cache
strategy, which then sees only this rank's; diffusers' plans divide them inside the block for half of the models.
Held to the models by tests/accelerate/parallel, which compare each with one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .shares import REST

IMAGE, TEXT = "hidden_states", "encoder_hidden_states"


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How an argument is cut: this dimension is as long as these streams, one after the other."""

    dim: int = 1
    parts: tuple[str, ...] = (IMAGE,)
    ndim: int | None = None
    """Cut only tensors of so many dimensions: timesteps are per token in some pipelines alone."""


Cuts = Cut | tuple[Cut, ...]
"""For a tuple of tensors: one cut for all of them, or one for each."""


@dataclass(frozen=True, kw_only=True)
class Attention:
    """The streams of an attention's queries and keys, in their order."""

    queries: tuple[str, ...]
    keys: tuple[str, ...]


def attend_to(*streams: str) -> Attention:
    """An attention whose queries are its keys."""
    return Attention(queries=streams, keys=streams)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where a transformer's tokens are divided and joined."""

    inputs: Mapping[str, Cuts] = field(default_factory=dict)
    """Arguments of the denoiser."""
    first: Mapping[str, Cuts] = field(default_factory=dict)
    """Arguments of the first block: the streams, where they are no arguments of the denoiser."""
    each: Mapping[str, Cuts] = field(default_factory=dict)
    """Arguments of every block that has them: rotary embeddings, masks."""
    counts: tuple[str, ...] = ()
    """Arguments of blocks that say to how many first image tokens something applies."""
    gather: str = "proj_out"
    """Submodule whose result is joined again, along its second dimension; `*` for any name."""
    attention: dict[str, Attention]
    """Attention modules of a block that are divided, by their name in it."""
    local: tuple[str, ...] = ()
    """Those that are not: each rank has all their keys."""
    pairs: bool = False
    """See `ParallelAttention.pairs`."""


_BOTH = {IMAGE: Cut(), TEXT: Cut(parts=(TEXT,))}
_TEXT_FIRST, _IMAGE_FIRST = attend_to(TEXT, IMAGE), attend_to(IMAGE, TEXT)
_ROTARY = Cut(dim=0, parts=(TEXT, IMAGE))

_FLUX = Plan(inputs=_BOTH, each={"image_rotary_emb": _ROTARY}, attention={"attn": _TEXT_FIRST})

PLANS = {
    "FluxTransformer2DModel": _FLUX,
    "Flux2Transformer2DModel": _FLUX,
    "ChromaTransformer2DModel": _FLUX,
    "QwenImageTransformer2DModel": Plan(
        first=_BOTH,
        each={
            "encoder_hidden_states_mask": Cut(parts=(TEXT,)),
            "image_rotary_emb": (Cut(dim=0), Cut(dim=0, parts=(TEXT,))),
            "modulate_index": Cut(),
        },
        attention={"attn": _TEXT_FIRST},
    ),
    "SD3Transformer2DModel": Plan(first=_BOTH, attention={"attn": _IMAGE_FIRST, "attn2": attend_to(IMAGE)}),
    "PixArtTransformer2DModel": Plan(first={IMAGE: Cut()}, attention={"attn1": attend_to(IMAGE)}, local=("attn2",)),
    "CogVideoXTransformer3DModel": Plan(
        first=_BOTH, each={"image_rotary_emb": Cut(dim=0)}, attention={"attn1": _TEXT_FIRST}
    ),
    "HunyuanVideoTransformer3DModel": Plan(
        first=_BOTH,
        each={"freqs_cis": Cut(dim=0), "image_rotary_emb": Cut(dim=0)},
        counts=("num_tokens", "first_frame_num_tokens"),
        attention={"attn": _IMAGE_FIRST},
    ),
    "HunyuanVideo15Transformer3DModel": Plan(
        first=_BOTH,
        each={"freqs_cis": Cut(dim=0), "attention_mask": Cut(parts=(TEXT,))},
        attention={"attn": _IMAGE_FIRST},
        pairs=True,
    ),
    # Each block is given another layer of Llama's states behind the prompt, which is cut off afterwards by its length:
    # the prompt stays whole.
    "HiDreamImageTransformer2DModel": Plan(
        first={IMAGE: Cut()},
        each={"image_rotary_emb": Cut(parts=(IMAGE, REST)), "hidden_states_masks": Cut(parts=(IMAGE, REST))},
        gather="final_layer",
        attention={"attn1": attend_to(IMAGE, REST)},
    ),
    "LTXVideoTransformer3DModel": Plan(
        inputs={IMAGE: Cut(), "timestep": Cut(ndim=2)},
        each={"image_rotary_emb": Cut()},
        attention={"attn1": attend_to(IMAGE)},
        local=("attn2",),
    ),
    # The sound is short, and stays whole: only the tokens of the video are divided.
    "LTX2VideoTransformer3DModel": Plan(
        inputs={IMAGE: Cut(), "timestep": Cut(ndim=2)},
        each={"video_rotary_emb": Cut(dim=-2), "ca_video_rotary_emb": Cut(dim=-2)},
        attention={"attn1": attend_to(IMAGE), "video_to_audio_attn": Attention(queries=(REST,), keys=(IMAGE,))},
        local=("attn2", "audio_attn1", "audio_attn2", "audio_to_video_attn"),
    ),
    "WanTransformer3DModel": Plan(
        inputs={"timestep": Cut(ndim=2)},
        first={IMAGE: Cut()},
        each={"rotary_emb": Cut()},
        attention={"attn1": attend_to(IMAGE)},
        local=("attn2",),
    ),
    "ZImageTransformer2DModel": Plan(
        first={"x": Cut(parts=("x",))},
        each={"freqs_cis": Cut(parts=("x",))},
        gather="all_final_layer.*",
        attention={"attention": attend_to("x")},
    ),
    "Lumina2Transformer2DModel": Plan(
        first={IMAGE: Cut()},
        each={"image_rotary_emb": Cut()},
        gather="norm_out",
        attention={"attn": attend_to(IMAGE)},
    ),
}
"""Class of the denoiser -> its plan. Not here: U-Nets, and Sana, whose linear attention and convolutions mix tokens."""
