"""What the training commands share: places, schedule, moving average, checkpoints."""

import csv
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.muon import Muon

ROOT = Path(__file__).resolve().parents[1]
OUTPUTS = ROOT / "outputs" / "training"  # checkpoints: large, never committed
RESULTS = Path(__file__).resolve().parent / "results"  # curves and images: small, committed
WEIGHTS = ROOT / "wavespeed_runner" / "weights"  # what ships with the package
DEMO = WEIGHTS / "demo"  # the exported FLUX pipeline
DEMO_UNET = WEIGHTS / "demo_unet"  # the exported Stable Diffusion pipeline


def schedule(step: int, steps: int, warmup: int = 60, decay: float = 0.3) -> float:
    """Learning-rate factor: linear warm-up, plateau, cosine to zero over the last `decay`."""
    start = steps * (1 - decay)
    if step < warmup:
        return (step + 1) / warmup
    if step < start:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - start) / (steps - start)))


def optimisers(
    named: Iterable[tuple[str, nn.Parameter]], matrices: Sequence[str], muon_lr: float, lr: float
) -> list[torch.optim.Optimizer]:
    """Muon for weights whose name contains one of `matrices`, AdamW for everything else."""
    inner: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, p in named:
        wanted = p.ndim >= 2 and any(part in name for part in matrices)
        (inner if wanted else rest).append(p)
    adam = torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0, foreach=True)
    for_matrices: list[torch.optim.Optimizer] = [Muon(inner, lr=muon_lr)] if inner else []
    found: list[torch.optim.Optimizer] = [*for_matrices, adam]
    for optimiser in found:
        for group in optimiser.param_groups:
            group["peak_lr"] = group["lr"]
    return found


def set_rate(found: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Set every optimiser to `factor` of its peak learning rate."""
    for optimiser in found:
        for group in optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor


class MovingAverage:
    """Exponential moving average of a module's parameters, with a short memory at the start."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the parameters after step number `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = module.state_dict()
        keys = list(self.average)
        torch._foreach_lerp_([self.average[k] for k in keys], [current[k] for k in keys], 1 - decay)


def save_atomically(what: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that a crash leaves either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".partial")
    torch.save(what, draft)
    os.replace(draft, path)


def append_row(path: Path, row: dict[str, float | int]) -> None:
    """Add one line to a CSV file, with a header if the file is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def forget_rows_after(path: Path, step: int) -> None:
    """Drop the lines of a log that a run which goes on from `step` is going to write again."""
    if path.exists():
        header, *lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if int(line.split(",")[0]) <= step]
        path.write_text("".join([header, *kept]))
