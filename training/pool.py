"""A growing pool of encoded scenes, so that drawing and encoding never hold up training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from training.scenes import Image, Scene, parse, place, render
from training.text import known_part, training_caption
from training.vae import to_tensor

CHUNK = 64  # scenes made at a time; always the same grouping, so a rebuilt pool is bit-identical


@dataclass(frozen=True)
class Batch:
    """Latents (N, ...) and what the text encoders make of their captions, each (N, ...)."""

    latents: Tensor
    text: tuple[Tensor, ...]


class Coding(Protocol):
    """How one kind of pipeline turns images and captions into what its model sees."""

    def images(self, images: Tensor) -> Tensor:
        """Latents of images (N, 3, 64, 64) in [-1, 1]."""

    def texts(self, captions: Sequence[str]) -> tuple[Tensor, ...]:
        """The outputs of the text encoders."""


class Pool:
    """Encoded scenes in memory. Its content depends on coding, seed, rank and size alone."""

    def __init__(
        self,
        coding: Coding,
        seed: int,
        rank: int,
        draw_caption: Callable[[np.random.Generator], str] = training_caption,
        draw_scene: Callable[[Scene], Image] = render,
    ) -> None:
        self.coding, self.seed, self.rank = coding, seed, rank
        self.draw_caption, self.draw_scene = draw_caption, draw_scene
        self.chunks: list[Batch] = []

    def grow(self, chunks: int) -> None:
        """Make chunks until there are `chunks` of them."""
        while len(self.chunks) < chunks:
            self.chunks.append(self._make(len(self.chunks)))

    @torch.no_grad()
    def _make(self, number: int) -> Batch:
        rng = np.random.default_rng((self.seed, self.rank, number))
        texts = [self.draw_caption(rng) for _ in range(CHUNK)]
        images = np.stack([self.draw_scene(place(parse(known_part(t)), rng)) for t in texts])
        return Batch(self.coding.images(to_tensor(images)), self.coding.texts(texts))

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """`count` scenes chosen uniformly, with replacement."""
        chosen = torch.randint(len(self.chunks) * CHUNK, (count,), generator=generator).tolist()
        rows = [(self.chunks[i // CHUNK], i % CHUNK) for i in chosen]
        kinds = range(len(self.chunks[0].text))
        return Batch(
            torch.stack([chunk.latents[i] for chunk, i in rows]),
            tuple(torch.stack([chunk.text[kind][i] for chunk, i in rows]) for kind in kinds),
        )
