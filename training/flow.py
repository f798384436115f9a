"""Train the transformer by flow matching on frozen text encoders and a frozen autoencoder.

    python -m training.flow --steps 6000
    torchrun --nproc-per-node 2 -m training.flow --steps 6000    # two cores, or two GPUs
    python -m training.flow --steps 6000 --resume                # go on from the last checkpoint

The model sees x = (1 - sigma) * x0 + sigma * noise and learns noise - x0, as FLUX does
(rectified flow, https://arxiv.org/abs/2403.03206). Sigma is logit-normal around 0.62 in four
draws of five, where composition is decided, and uniform in the fifth. One caption in ten is
empty, so the model can also be guided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, FluxPipeline, FluxTransformer2DModel
from torch import Tensor
from torch.nn import functional as F

from training import text, trainer, transformer, vae
from training.common import OUTPUTS, RESULTS, optimisers
from training.pool import Batch, Pool

FOLDER = OUTPUTS / "flow"


@dataclass(frozen=True)
class Recipe(trainer.Recipe):
    """What a run is; saved with its checkpoints."""

    uniform: float = 0.2  # share of uniform sigmas


@dataclass(frozen=True)
class Coding:
    """Packed latents (N, 64, 16), T5 states (N, 20, 64) and CLIP vectors (N, 64)."""

    vae: AutoencoderTiny
    encoders: text.Encoders

    def images(self, images: Tensor) -> Tensor:
        """Latents of zero mean and unit spread, four pixels packed into one token."""
        config = self.vae.config
        latents = (self.vae.encode(images).latents - config.shift_factor) * config.scaling_factor
        return FluxPipeline._pack_latents(latents, *latents.shape)

    def texts(self, captions: Sequence[str]) -> tuple[Tensor, ...]:
        """What FLUX attends to, and what modulates its blocks."""
        return self.encoders(self.encoders.tokens(captions))


def draw_sigmas(count: int, uniform: float, generator: torch.Generator) -> Tensor:
    """Noise levels in (0, 1), shape (count,)."""
    bell = torch.sigmoid(0.5 + torch.randn(count, generator=generator))
    flat = torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < uniform, flat, bell)


class Trainer(trainer.Trainer):
    """One process of a run."""

    recipe: Recipe

    def __init__(self, recipe: Recipe, pool: Pool, folder: Path, device: torch.device) -> None:
        super().__init__(recipe, pool, folder, device)
        self.ids = transformer.position_ids(device)

    def build(self) -> FluxTransformer2DModel:
        """The untrained transformer."""
        return transformer.build()

    def make_optimisers(self) -> list[torch.optim.Optimizer]:
        """Muon for the matrices of attention and MLP, AdamW for the rest."""
        return optimisers(self.model.named_parameters(), transformer.MATRICES, self.recipe.muon_lr, self.recipe.lr)

    def loss_of(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The flow-matching loss."""
        sigma = draw_sigmas(len(batch.latents), self.recipe.uniform, generator).to(self.device)
        noise = torch.randn(batch.latents.shape, generator=generator).to(self.device)
        states, pooled = batch.text
        made = self.model(
            hidden_states=torch.lerp(batch.latents, noise, sigma[:, None, None]),
            timestep=sigma,
            encoder_hidden_states=states,
            pooled_projections=pooled,
            img_ids=self.ids[0],
            txt_ids=self.ids[1],
            return_dict=False,
        )[0]
        return F.mse_loss(made, noise - batch.latents)


def make(recipe: trainer.Recipe, rank: int, device: torch.device) -> Trainer:
    """A trainer on the autoencoder and the text encoders trained before."""
    assert isinstance(recipe, Recipe)
    frozen = AutoencoderTiny.from_pretrained(vae.FOLDER).eval().requires_grad_(False)
    return Trainer(recipe, Pool(Coding(frozen, text.load()), recipe.seed, rank), FOLDER, device)


def main() -> None:
    """Command line; under torchrun, one of its processes."""
    trainer.command(__doc__.split("\n")[0], Recipe, make, folder=FOLDER, log=RESULTS / "flow.csv", steps=6000)


if __name__ == "__main__":
    main()
