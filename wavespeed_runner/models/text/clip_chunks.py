"""Encodes prompts with CLIP as A1111's web UI does: weighted words, and prompts of any length in chunks of 75 tokens.

Each chunk is read alone, between its own begin and end tokens, and the embeddings of all are joined along the tokens.
A chunk that is full ends at its last comma, if that is among its last 20 tokens. The embedding of each token is
multiplied by the token's weight; then those of the chunk are scaled back to the mean that they had. The source of the
method is modules/sd_hijack_clip.py and modules/sd_emphasis.py ("Original") of
https://github.com/AUTOMATIC1111/stable-diffusion-webui.

A prompt of one chunk without weights has the bits of diffusers' own `encode_prompt`; tests check that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Init, ModelConfig, Weighting
from ...errors import RunError
from ..family import uses_cfg
from .markup import Fragment, parse_markup

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import Tensor

COMMA_REACH = 20
"""A chunk may end this many tokens early, after a comma; A1111's default."""
MAX_CHUNKS = 20
"""Of one prompt, 1500 tokens: attention looks at all of them in every step."""
LEAST_MEAN = 1e-3
"""Of the mean absolute value: a smaller mean is rounding."""

Token = tuple[int, float]
"""Id and weight."""


@dataclass(kw_only=True)
class PromptReading:
    """How prompts are read (`prompts.weighting`, `prompts.chunked`), and what was read."""

    weighting: Weighting = Weighting.none
    chunked: bool = False
    counts: dict[str, Any] = field(default_factory=dict)
    """`prompt` and `negative_prompt` -> their tokens, chunks and weights; filled by `encode_in_chunks`."""

    @property
    def is_plain(self) -> bool:
        """Whether diffusers' own `encode_prompt` does all of it."""
        return self.weighting is Weighting.none and not self.chunked


def encode_in_chunks(
    pipe: DiffusionPipeline, model: ModelConfig, sample: Sample, guidance_scale: float | None, reading: PromptReading
) -> dict[str, Tensor]:
    """Encodes the prompt as keyword arguments of Stable Diffusion's and SDXL's pipelines.

    Returns `prompt_embeds` (1, 77 * chunks, width), of SDXL also `pooled_prompt_embeds` (1, width) of the first chunk;
    with classifier-free guidance also the `negative_*` of the same shapes: the shorter prompt is filled up with empty
    chunks.

    Raises:
        RunError: more tokens than are read.
    """
    import torch

    encoders = [
        (getattr(pipe, f"tokenizer{end}"), getattr(pipe, f"text_encoder{end}"))
        for end in ("", "_2")
        if getattr(pipe, f"tokenizer{end}", None) is not None
    ]
    texts = {"prompt": sample.prompt}
    if uses_cfg(model, guidance_scale):
        texts["negative_prompt"] = sample.negative_prompt
    chunks = {
        name: [_read_chunks(pipe, model, tokenizer, text, reading) for tokenizer, _ in encoders]
        for name, text in texts.items()
    }
    count = max(len(each) for of_encoders in chunks.values() for each in of_encoders)
    embeddings: dict[str, Tensor] = {}
    for name, text in texts.items():
        # As without chunks: diffusers' `encode_prompt` of SDXL leaves no layers out for the negative prompt.
        skip = 0 if name != "prompt" and len(encoders) == 2 else getattr(model, "clip_skip", None) or 0
        reading.counts[name] = _count(text, chunks[name][0], reading)
        parts = [
            _encode(pipe, tokenizer, encoder, [*each, *[[]] * (count - len(each))], skip)
            for (tokenizer, encoder), each in zip(encoders, chunks[name], strict=True)
        ]
        embeddings |= _join(name.removesuffix("prompt"), parts)
    if len(encoders) == 2 and not sample.negative_prompt and pipe.config.get("force_zeros_for_empty_prompt"):
        zeros = {name: torch.zeros_like(tensor) for name, tensor in embeddings.items() if name.startswith("negative")}
        embeddings |= zeros
    return embeddings


def _count(text: str, chunks: list[list[Token]], reading: PromptReading) -> dict[str, Any]:
    """What was read of a prompt, for the record."""
    count: dict[str, Any] = {"tokens": sum(map(len, chunks)), "chunks": len(chunks)}
    if reading.weighting is not Weighting.none:
        fragments = [fragment for segment in parse_markup(text) for fragment in segment]
        count["weights"] = [[f.text.strip(), round(f.weight, 6)] for f in fragments if f.weight != 1]
    return count


def _read_chunks(
    pipe: DiffusionPipeline, model: ModelConfig, tokenizer: Any, text: str, reading: PromptReading
) -> list[list[Token]]:
    """The tokens of a prompt with their weights, in chunks.

    Raises:
        RunError: a part between breaks has more tokens than a chunk and `chunked` is off, or there are too many chunks.
    """
    segments = [[Fragment(text=text, weight=1.0)]]
    if reading.weighting is not Weighting.none:
        segments = parse_markup(text)
    room, comma, chunks = _get_room(tokenizer), _get_comma(tokenizer), []
    for segment in segments:
        tokens = [
            (token, fragment.weight)
            for fragment in segment
            for token in _tokenize(tokenizer, pipe.maybe_convert_prompt(fragment.text, tokenizer))
        ]
        found = split_tokens(tokens, room, comma)
        if len(found) > 1 and not reading.chunked:
            # As in `refuse_truncation`: the bytes that a random-weight model counts say nothing of the real length.
            if model.init is Init.pretrained:
                raise RunError(
                    f"prompt {text[:40]!r}... has {len(tokens)} tokens, and {room} of them would be read; "
                    "prompts.chunked=true reads all of them, or shorten it"
                )
            found = [tokens[:room]]
        chunks += found
    if len(chunks) > MAX_CHUNKS:
        raise RunError(
            f"prompt {text[:40]!r}...: {len(chunks)} chunks of {room} tokens, and at most {MAX_CHUNKS} are read"
        )
    return chunks


def split_tokens(tokens: list[Token], room: int, comma: int | None) -> list[list[Token]]:
    """Splits tokens into chunks of at most `room`, after a comma where one is near the end; at least one chunk.

    comma: its token id.
    """
    chunks: list[list[Token]] = []
    current: list[Token] = []
    for token in tokens:
        if len(current) == room:
            keep = room
            if token[0] != comma:
                near = range(room - 1, max(room - 1 - COMMA_REACH, -1), -1)
                keep = next((place + 1 for place in near if current[place][0] == comma), room)
            chunks.append(current[:keep])
            current = current[keep:]
        current.append(token)
    return [*chunks, current] if current or not chunks else chunks


def _get_room(tokenizer: Any) -> int:
    """Tokens of a prompt in one chunk: 75 of the 77 that CLIP reads."""
    return int(tokenizer.model_max_length) - 2


def _get_comma(tokenizer: Any) -> int | None:
    tokens = _tokenize(tokenizer, ",")
    return tokens[0] if len(tokens) == 1 else None


def _tokenize(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, truncation=False, add_special_tokens=False).input_ids)


def _encode(
    pipe: DiffusionPipeline, tokenizer: Any, encoder: Any, chunks: list[list[Token]], skip: int
) -> list[tuple[Tensor, Any]]:
    """Hidden states (1, 77, width) of each chunk, weighted, and its pooled output where the encoder has one."""
    import torch

    encoded = []
    for chunk in chunks:
        ids, weights = [token for token, _ in chunk], [weight for _, weight in chunk]
        padding = _get_room(tokenizer) - len(chunk)
        row = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * padding]
        mask = [1] * (len(chunk) + 2) + [0] * padding
        device = pipe._execution_device
        read, seen = (torch.tensor([values], device=device) for values in (row, mask))
        states, pooled = _run(pipe, encoder, read, seen, skip)
        encoded.append((weigh_states(states, [1.0, *weights, 1.0, *[1.0] * padding]), pooled))
    return encoded


def _run(pipe: DiffusionPipeline, encoder: Any, ids: Tensor, mask: Tensor, skip: int) -> tuple[Tensor, Any]:
    """Calls a text encoder as diffusers does: SDXL takes the layer before the last, the others the last one.

    skip: so many more layers are left out (`model.clip_skip`).
    """
    if getattr(pipe, "text_encoder_2", None) is not None:
        output = encoder(ids, output_hidden_states=True)
        return output.hidden_states[-(skip + 2)], output[0] if output[0].ndim == 2 else None
    given = {"attention_mask": mask if getattr(encoder.config, "use_attention_mask", False) else None}
    if not skip:
        return encoder(ids, **given)[0], None
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    return norm(encoder(ids, output_hidden_states=True, **given).hidden_states[-(skip + 1)]), None


def weigh_states(states: Tensor, weights: list[float]) -> Tensor:
    """Multiplies the states (1, tokens, width) of each token by its weight, and all by what keeps their mean.

    Means of next to nothing are left as they are: their ratio would be noise. Those of random weights are, because a
    layer norm has none; trained text encoders have one.
    """
    import torch

    if all(weight == 1 for weight in weights):
        return states
    exact = states.float()
    scaled = exact * torch.tensor(weights, device=states.device)[None, :, None]
    before, after = exact.mean(), scaled.mean()
    kept = min(abs(before), abs(after)) > LEAST_MEAN * exact.abs().mean()
    return (scaled * (before / after) if kept else scaled).to(states.dtype)


def _join(prefix: str, parts: list[list[tuple[Tensor, Any]]]) -> dict[str, Tensor]:
    """The chunks of each encoder behind each other, the encoders side by side."""
    import torch

    states = torch.cat([torch.cat([state for state, _ in part], dim=1) for part in parts], dim=-1)
    pooled = next((first for part in parts if (first := part[0][1]) is not None), None)
    return {f"{prefix}prompt_embeds": states} | ({} if pooled is None else {f"{prefix}pooled_prompt_embeds": pooled})
