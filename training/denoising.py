"""Train the U-Net to remove noise, on the frozen autoencoder and text encoder of the demo model.

    python -m training.denoising --steps 6000
    torchrun --nproc-per-node 2 -m training.denoising --steps 6000
    python -m training.denoising --steps 6000 --resume

The model learns the velocity sqrt(a) * noise - sqrt(1 - a) * x0 (https://arxiv.org/abs/2202.00512)
at time steps drawn uniformly from Stable Diffusion's schedule. Its cross-attention sees the states
of the CLIP encoder, of which the one at the end token carries the whole layout. One caption in ten
is empty, so the model can be guided.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from training import text, trainer, unet
from training.common import DEMO, OUTPUTS, RESULTS, optimisers
from training.pool import Batch, Pool
from training.trainer import Recipe

FOLDER = OUTPUTS / "denoising"


@dataclass(frozen=True)
class Coding:
    """Latents (N, 4, 16, 16) and CLIP states (N, 20, 64), as `StableDiffusionPipeline` makes them."""

    vae: AutoencoderTiny
    encoders: text.Encoders

    def images(self, images: Tensor) -> Tensor:
        """Scaled latents. The pipeline knows no shift, so the model learns their mean."""
        return self.vae.encode(images).latents * self.vae.config.scaling_factor

    def texts(self, captions: Sequence[str]) -> tuple[Tensor, ...]:
        """What the U-Net attends to."""
        return (self.encoders.clip(self.encoders.tokens(captions)).last_hidden_state,)


class Trainer(trainer.Trainer):
    """One process of a run."""

    noise_schedule = unet.schedule()

    def build(self) -> UNet2DConditionModel:
        """The untrained U-Net."""
        return unet.build()

    def make_optimisers(self) -> list[torch.optim.Optimizer]:
        """Muon for convolutions and attention, AdamW for the rest."""
        return optimisers(self.model.named_parameters(), unet.MATRICES, self.recipe.muon_lr, self.recipe.lr)

    def loss_of(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity that the model predicts."""
        return self.velocity_loss(self.model, batch, generator)

    def velocity_loss(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """The loss of any U-Net."""
        total = self.noise_schedule.config.num_train_timesteps
        times = torch.randint(total, (len(batch.latents),), generator=generator).to(self.device)
        noise = torch.randn(batch.latents.shape, generator=generator).to(self.device)
        noisy = self.noise_schedule.add_noise(batch.latents, noise, times)
        made = model(noisy, times, batch.text[0], return_dict=False)[0]
        return F.mse_loss(made, self.noise_schedule.get_velocity(batch.latents, noise, times))


def make(recipe: Recipe, rank: int, device: torch.device) -> Trainer:
    """A trainer on the parts that ship with the demo model."""
    frozen = AutoencoderTiny.from_pretrained(DEMO / "vae").eval().requires_grad_(False)
    return Trainer(recipe, Pool(Coding(frozen, text.load(DEMO)), recipe.seed, rank), FOLDER, device)


def main() -> None:
    """Command line; under torchrun, one of its processes."""
    trainer.command(__doc__.split("\n")[0], Recipe, make, folder=FOLDER, log=RESULTS / "denoising.csv", steps=6000)


if __name__ == "__main__":
    main()
