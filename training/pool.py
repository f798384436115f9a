"""A growing pool of encoded scenes, so that drawing and encoding never hold up training."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderTiny, FluxPipeline
from torch import Tensor

from training.scenes import parse, place, render
from training.text import Encoders, known_part, training_caption
from training.vae import to_tensor

CHUNK = 64  # scenes made at a time; always the same grouping, so a rebuilt pool is bit-identical


@dataclass(frozen=True)
class Batch:
    """Packed latents (N, 64, 16), T5 states (N, 20, 64) and CLIP vectors (N, 64)."""

    latents: Tensor
    states: Tensor
    pooled: Tensor


class Pool:
    """Encoded scenes in memory. Its content depends on seed, rank and size alone."""

    def __init__(self, vae: AutoencoderTiny, encoders: Encoders, seed: int, rank: int) -> None:
        self.vae, self.encoders = vae.eval().requires_grad_(False), encoders
        self.seed, self.rank = seed, rank
        self.chunks: list[Batch] = []

    def grow(self, chunks: int) -> None:
        """Make chunks until there are `chunks` of them."""
        while len(self.chunks) < chunks:
            self.chunks.append(self._make(len(self.chunks)))

    @torch.no_grad()
    def _make(self, number: int) -> Batch:
        rng = np.random.default_rng((self.seed, self.rank, number))
        texts = [training_caption(rng) for _ in range(CHUNK)]
        pictures = np.stack([render(place(parse(known_part(t)), rng)) for t in texts])
        latents = self.vae.encode(to_tensor(pictures)).latents
        config = self.vae.config
        latents = (latents - config.shift_factor) * config.scaling_factor
        packed = FluxPipeline._pack_latents(latents, *latents.shape)
        return Batch(packed, *self.encoders(self.encoders.tokens(texts)))

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """`count` scenes chosen uniformly, with replacement."""
        chosen = torch.randint(len(self.chunks) * CHUNK, (count,), generator=generator).tolist()
        rows = [(self.chunks[i // CHUNK], i % CHUNK) for i in chosen]
        return Batch(
            torch.stack([chunk.latents[i] for chunk, i in rows]),
            torch.stack([chunk.states[i] for chunk, i in rows]),
            torch.stack([chunk.pooled[i] for chunk, i in rows]),
        )
