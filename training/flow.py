"""Train the transformer by flow matching on frozen text encoders and a frozen autoencoder.

    python -m training.flow --steps 6000
    torchrun --nproc-per-node 2 -m training.flow --steps 6000    # two cores, or two GPUs
    python -m training.flow --steps 6000 --resume                # go on from the last checkpoint

The model sees x = (1 - sigma) * x0 + sigma * noise and learns noise - x0, as FLUX does
(rectified flow, https://arxiv.org/abs/2403.03206). Sigma is logit-normal around 0.62 in four
draws of five, where composition is decided, and uniform in the fifth. One caption in ten is
empty, so the model can also be guided. Everything random derives from (seed, rank, step): a
resumed run continues exactly as an uninterrupted one.

Several processes with one thread each beat one process with several threads, and suffer less
from neighbours: they meet once a step, to average one flat gradient.
"""

import argparse
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional as F

from training import text, transformer, vae
from training.common import (
    OUTPUTS,
    RESULTS,
    MovingAverage,
    append_row,
    forget_rows_after,
    optimisers,
    save_atomically,
    schedule,
    set_rate,
)
from training.pool import Batch, Pool

FOLDER = OUTPUTS / "flow"


@dataclass(frozen=True)
class Recipe:
    """What a run is; saved with its checkpoints."""

    steps: int
    batch: int = 48  # over all processes
    muon_lr: float = 0.015
    lr: float = 2e-3
    ema: float = 0.998
    empty: float = 0.1  # share of empty captions
    uniform: float = 0.2  # share of uniform sigmas
    first_chunks: int = 2  # per process, made before the first step
    grow_every: int = 12  # steps per further chunk
    seed: int = 0


def draw_sigmas(count: int, uniform: float, generator: torch.Generator) -> Tensor:
    """Noise levels in (0, 1), shape (count,)."""
    bell = torch.sigmoid(0.5 + torch.randn(count, generator=generator))
    flat = torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < uniform, flat, bell)


class Trainer:
    """One process of a run."""

    def __init__(self, recipe: Recipe, pool: Pool, folder: Path, device: torch.device) -> None:
        self.recipe, self.pool, self.folder, self.device = recipe, pool, folder, device
        self.shared = dist.is_initialized()
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if self.shared else (0, 1)
        torch.manual_seed(recipe.seed)
        self.model = transformer.build().to(device)
        self.optimisers = optimisers(self.model.named_parameters(), transformer.MATRICES, recipe.muon_lr, recipe.lr)
        self.average = MovingAverage(self.model, recipe.ema)
        self.ids = transformer.position_ids(device)
        self.empty = pool.encoders(pool.encoders.tokens([""]))
        self.step = 0

    def batch(self, generator: torch.Generator) -> Batch:
        """This process's share of a step's batch, some captions replaced by the empty one."""
        drawn = self.pool.draw(self.recipe.batch // self.world, generator)
        drop = torch.rand(len(drawn.latents), generator=generator) < self.recipe.empty
        states = torch.where(drop[:, None, None], self.empty[0], drawn.states)
        pooled = torch.where(drop[:, None], self.empty[1], drawn.pooled)
        return Batch(*(t.to(self.device) for t in (drawn.latents, states, pooled)))

    def loss(self) -> Tensor:
        """The flow-matching loss of the current step's batch."""
        seed = (self.recipe.seed * 1000 + self.rank) * 10**7 + self.step
        generator = torch.Generator().manual_seed(seed)
        batch = self.batch(generator)
        count = len(batch.latents)
        sigma = draw_sigmas(count, self.recipe.uniform, generator).to(self.device)
        noise = torch.randn(batch.latents.shape, generator=generator).to(self.device)
        mixed = torch.lerp(batch.latents, noise, sigma[:, None, None])
        made = self.model(
            hidden_states=mixed,
            timestep=sigma,
            encoder_hidden_states=batch.states,
            pooled_projections=batch.pooled,
            img_ids=self.ids[0],
            txt_ids=self.ids[1],
            return_dict=False,
        )[0]
        return F.mse_loss(made, noise - batch.latents)

    def share_gradients(self) -> None:
        """Average the gradients over the processes, in one message."""
        if not self.shared:
            return
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        flat /= self.world
        parts = flat.split([g.numel() for g in grads])
        torch._foreach_copy_(grads, [x.view_as(g) for x, g in zip(parts, grads, strict=True)])

    def train_step(self) -> float:
        """One update; returns the loss on this process's batch."""
        self.pool.grow(self.recipe.first_chunks + self.step // self.recipe.grow_every)
        set_rate(self.optimisers, schedule(self.step, self.recipe.steps))
        loss = self.loss()
        loss.backward()
        self.share_gradients()
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self.average.update(self.model, self.step)
        self.step += 1
        return loss.item()

    def save(self) -> None:
        """Write the state to go on from, and drop all but the two newest."""
        state: dict[str, Any] = {
            "step": self.step,
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "average": self.average.average,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        save_atomically(state, self.folder / f"step_{self.step:06d}.pt")
        for old in checkpoints(self.folder)[:-2]:
            old.unlink()

    def resume(self) -> None:
        """Load the newest checkpoint, if there is one."""
        if not (found := checkpoints(self.folder)):
            return
        state = torch.load(found[-1], map_location=self.device, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.average.average = state["average"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)


def checkpoints(folder: Path) -> list[Path]:
    """A run's checkpoints, oldest first."""
    return sorted(folder.glob("step_*.pt"))


def run(trainer: Trainer, *, save_every: int, log_every: int = 25, log: Path | None = None) -> None:
    """Train to the end of the recipe, logging the first process's mean loss of `log_every` steps."""
    if log is not None and trainer.rank == 0:
        forget_rows_after(log, trainer.step)
    total, since, start = 0.0, 0, time.monotonic()
    while trainer.step < trainer.recipe.steps:
        total, since = total + trainer.train_step(), since + 1
        if trainer.rank == 0 and trainer.step % log_every == 0:
            speed = since * trainer.recipe.batch / (time.monotonic() - start)
            row = {"step": trainer.step, "loss": round(total / since, 5), "speed": round(speed, 1)}
            print(row, flush=True)
            if log is not None:
                append_row(log, row)
            total, since, start = 0.0, 0, time.monotonic()
        last = trainer.step == trainer.recipe.steps
        if trainer.rank == 0 and (last or trainer.step % save_every == 0):
            trainer.save()


def main() -> None:
    """Command line; under torchrun, one of its processes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=Recipe.batch)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--save-every", type=int, default=250, metavar="STEPS")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    if not args.resume and checkpoints(FOLDER):
        parser.error(f"{FOLDER} holds a run: --resume it, or remove it")
    device = torch.device(args.device)
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
    rank = dist.get_rank() if dist.is_initialized() else 0
    recipe = Recipe(steps=args.steps, batch=args.batch, seed=args.seed)
    parts = AutoencoderTiny.from_pretrained(vae.FOLDER), text.load()
    trainer = Trainer(recipe, Pool(*parts, recipe.seed, rank), FOLDER, device)
    if args.resume:
        trainer.resume()
    run(trainer, save_every=args.save_every, log=RESULTS / "flow.csv")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
