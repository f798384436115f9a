"""Train the autoencoder: 64 x 64 images to 16 x 16 latents of 4 channels and back.

    python -m training.vae [--steps 1300]

An `AutoencoderTiny` (the architecture of https://github.com/madebyollin/taesd) without
normalisation layers: a GroupNorm removes the absolute colour that flat images consist of. The
loss adds the absolute, the squared and the gradient error, the last for sharp edges; noise on
the latents makes the decoder forgive small errors of the transformer. The latents' mean and
spread go into the configuration, where `FluxPipeline` looks for them.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional as F

from training.common import (
    OUTPUTS,
    RESULTS,
    MovingAverage,
    append_row,
    optimisers,
    schedule,
    set_rate,
)
from training.scenes import Images, parse, place, random_caption, render

FOLDER = OUTPUTS / "vae"
LATENT_NOISE = 0.05
WIDTHS = (32, 32, 32)  # AutoencoderTiny needs the same width at every level


def build() -> AutoencoderTiny:
    """An untrained autoencoder; blocks sit at the coarse levels, where they are cheap."""
    return AutoencoderTiny(
        encoder_block_out_channels=WIDTHS,
        decoder_block_out_channels=WIDTHS,
        num_encoder_blocks=(0, 1, 2),
        num_decoder_blocks=(3, 2, 0),
        latent_channels=4,
    )


def to_tensor(images: Images) -> Tensor:
    """uint8 (N, H, W, 3) to float (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def random_images(rng: np.random.Generator, count: int) -> Images:
    """Images of training captions, uint8 (count, 64, 64, 3), six of ten with two objects."""
    found = []
    for _ in range(count):
        text = random_caption(rng, pair=rng.random() < 0.6, from_held_out=False)
        found.append(render(place(parse(text), rng)))
    return np.stack(found)


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Absolute + 2 x squared + 0.5 x gradient error."""
    difference = made - wanted
    edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return difference.abs().mean() + 2 * difference.square().mean() + 0.5 * edges


@torch.no_grad()
def measure(model: AutoencoderTiny, images: Images) -> tuple[float, float, float]:
    """(peak signal-to-noise ratio in dB, mean of the latents, their standard deviation)."""
    wanted = to_tensor(images)
    latents = model.encode(wanted).latents
    made = model.decode(latents).sample.clamp(-1, 1)
    error = F.mse_loss(made, wanted).item() / 4  # the range is 2, not 1
    return -10 * float(np.log10(error)), latents.mean().item(), latents.std().item()


def train(steps: int, seed: int, batch: int, folder: Path) -> None:
    """Train, then save the averaged model with the statistics of its latents."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    test = random_images(np.random.default_rng(seed + 1), 256)
    model = build()
    convolutions = [f"{side}.layers" for side in ("encoder", "decoder")]
    found = optimisers(model.named_parameters(), convolutions, muon_lr=0.01, lr=3e-3)
    average = MovingAverage(model, 0.995)
    start = time.monotonic()
    for step in range(steps):
        set_rate(found, schedule(step, steps, warmup=20, decay=0.5))
        wanted = to_tensor(random_images(rng, batch))
        latents = model.encode(wanted).latents
        noisy = latents + LATENT_NOISE * torch.randn_like(latents)
        loss = reconstruction_loss(model.decode(noisy).sample, wanted)
        loss = loss + 1e-3 * latents.square().mean()
        loss.backward()
        for optimiser in found:
            optimiser.step()
            optimiser.zero_grad()
        average.update(model, step)
        if (step + 1) % 50 == 0:
            spent = round(time.monotonic() - start, 1)
            row = {"step": step + 1, "seconds": spent, "loss": round(loss.item(), 5)}
            append_row(RESULTS / "vae.csv", row)
            print(row, flush=True)
    model.load_state_dict(average.average)
    ratio, mean, spread = measure(model, test)
    model.register_to_config(scaling_factor=1 / spread, shift_factor=mean)
    model.save_pretrained(folder)
    print(f"PSNR {ratio:.2f} dB, latents {mean:.3f} +- {spread:.3f}, {steps} steps")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train(args.steps, args.seed, args.batch, FOLDER)


if __name__ == "__main__":
    main()
