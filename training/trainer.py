"""The training loop that all denoisers share; a subclass says which model and which loss.

Everything random derives from (seed, rank, step): a resumed run continues exactly as an
uninterrupted one. Several processes with one thread each beat one process with several threads,
and suffer less from neighbours: they meet once a step, to average one flat gradient.
"""

import argparse
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.common import (
    MovingAverage,
    append_row,
    forget_rows_after,
    save_atomically,
    schedule,
    set_rate,
)
from training.pool import Batch, Pool


@dataclass(frozen=True)
class Recipe:
    """What a run is; saved with its checkpoints."""

    steps: int
    batch: int = 48  # over all processes
    muon_lr: float = 0.015
    lr: float = 2e-3
    ema: float = 0.998
    empty: float = 0.1  # share of empty captions
    first_chunks: int = 2  # per process, made before the first step
    grow_every: int = 12  # steps per further chunk
    seed: int = 0


class Trainer(ABC):
    """One process of a run."""

    def __init__(self, recipe: Recipe, pool: Pool, folder: Path, device: torch.device) -> None:
        self.recipe, self.pool, self.folder, self.device = recipe, pool, folder, device
        self.shared = dist.is_initialized()
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if self.shared else (0, 1)
        torch.manual_seed(recipe.seed)
        self.model = self.build().to(device)
        self.optimisers = self.make_optimisers()
        self.average = MovingAverage(self.model, recipe.ema)
        self.empty = pool.coding.texts([""])
        self.step = 0

    @abstractmethod
    def build(self) -> nn.Module:
        """The untrained model."""

    @abstractmethod
    def make_optimisers(self) -> list[torch.optim.Optimizer]:
        """Optimisers for `self.model`."""

    @abstractmethod
    def loss_of(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The loss on a batch; everything random in it is drawn from `generator`."""

    def batch(self, generator: torch.Generator) -> Batch:
        """This process's share of a step's batch, some captions replaced by the empty one."""
        drawn = self.pool.draw(self.recipe.batch // self.world, generator)
        drop = torch.rand(len(drawn.latents), generator=generator) < self.recipe.empty
        text = [
            torch.where(drop.view(-1, *[1] * (full.ndim - 1)), empty, full)
            for empty, full in zip(self.empty, drawn.text, strict=True)
        ]
        return Batch(drawn.latents.to(self.device), tuple(t.to(self.device) for t in text))

    def loss(self) -> Tensor:
        """The loss of the current step."""
        seed = (self.recipe.seed * 1000 + self.rank) * 10**7 + self.step
        generator = torch.Generator().manual_seed(seed)
        return self.loss_of(self.batch(generator), generator)

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


def newest_average(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of the newest checkpoint."""
    if not (found := checkpoints(folder)):
        raise FileNotFoundError(f"no checkpoint in {folder}: train first")
    return load_average(found[-1])


def load_average(checkpoint: Path) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint."""
    average: dict[str, Tensor] = torch.load(checkpoint, map_location="cpu")["average"]
    return average


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


def command(
    description: str,
    recipe: type[Recipe],
    make: Callable[[Recipe, int, torch.device], Trainer],
    *,
    folder: Path,
    log: Path,
    steps: int,
) -> None:
    """The command line of a training; under torchrun, of one of its processes.

    `make` builds the trainer from the recipe, this process's rank and its device.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=recipe.batch)
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--save-every", type=int, default=250, metavar="STEPS")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    if not args.resume and checkpoints(folder):
        parser.error(f"{folder} holds a run: --resume it, or remove it")
    device = torch.device(args.device)
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
    rank = dist.get_rank() if dist.is_initialized() else 0
    trainer = make(recipe(steps=args.steps, batch=args.batch, seed=args.seed), rank, device)
    if args.resume:
        trainer.resume()
    run(trainer, save_every=args.save_every, log=log)
    if dist.is_initialized():
        dist.destroy_process_group()
