"""Rules on ranks: how many there may be, on which devices, and whether those that were started are as many."""

from __future__ import annotations

from sys import platform

from ..accelerate.parallel.options import find_layout
from ..config.environment import count_cards, resolve_device
from ..config.launched import Launched, find_launch
from ..config.schema import Config
from ..models.family import Family
from .rule import Rule


def _count(c: Config) -> int:
    return find_layout(c.parallel).ranks


def _name(c: Config) -> str:
    """The keys that decide how many ranks there are, as one would type them."""
    degrees = [key for key in ("degree", "ulysses_degree", "ring_degree") if hasattr(c.parallel, key)]
    typed = " ".join(f"parallel.{key}={getattr(c.parallel, key)}" for key in degrees)
    return f"{typed} parallel.cfg=true" if getattr(c.parallel, "cfg", False) else typed


def _count_cards(c: Config) -> int | None:
    """CUDA devices for the ranks of this machine; None where that is not known, or not this machine's business."""
    return count_cards() if resolve_device(c.device) == "cuda" else None


def _count_local(c: Config) -> int:
    launched = find_launch()
    if launched and launched.by == "srun" and _count_cards(c) == 1:
        return 1  # --gpus-per-task: each task sees its own card alone
    return launched.local_world if launched and launched.world == _count(c) else _count(c)


def _describe_cards(c: Config, f: Family) -> str:
    cards = _count_cards(c)
    gpus = f"{cards} GPU{'s' * (cards != 1)}"
    return f"{_name(c)}: {_count_local(c)} ranks, one a GPU, and this machine has {gpus}"


def _find_other_launch(c: Config) -> Launched | None:
    """What started this process as one of several ranks, if the configuration has another number of them."""
    launched = find_launch()
    # Tasks of srun may be runs of their own; torchrun is there for nothing but ranks.
    if not launched or launched.world == _count(c) or (launched.by == "srun" and _count(c) == 1):
        return None
    return launched


def _describe_launch(c: Config, f: Family) -> str:
    launched, ranks = _find_other_launch(c), _count(c)
    assert launched
    asked = f"{_name(c)} has {ranks} ranks" if ranks > 1 else "it is one process"
    return f"parallel={c.parallel.name}: {asked}, and {launched.by} has started {launched.world}"


RANKS: tuple[Rule, ...] = (
    Rule(
        id="ranks-system",
        verdict="bad",
        when=lambda c, f: _count(c) > 1 and platform == "win32",
        message="parallel={c.parallel.name}: ranks need Linux or macOS",
        fix="parallel=none",
    ),
    Rule(
        id="ranks-device",
        verdict="bad",
        when=lambda c, f: _count(c) > 1 and ":" in c.device,
        message="device={c.device}: with parallel={c.parallel.name} each rank has a device of its own",
        fix="device=cuda; CUDA_VISIBLE_DEVICES chooses the cards",
    ),
    Rule(
        id="ranks-mps",
        verdict="bad",
        when=lambda c, f: _count(c) > 1 and resolve_device(c.device) == "mps",
        message="parallel={c.parallel.name}: a Mac has one MPS device, and each rank needs its own",
        fix="device=cpu, or parallel=none",
    ),
    Rule(
        id="ranks-cards",
        verdict="bad",
        when=lambda c, f: _count(c) > 1 and not c.dry_run and _count_local(c) > (_count_cards(c) or 10**9),
        message=_describe_cards,
        fix="fewer ranks, or several machines with torchrun or srun",
    ),
    Rule(
        id="ranks-cpu",
        verdict="bad",
        when=lambda c, f: resolve_device(c.device) == "cpu" and _count(c) > c.limits.ranks,
        message=lambda c, f: f"{_name(c)}: {_count(c)} ranks on a CPU, and limits.ranks={c.limits.ranks}",
        fix="fewer ranks, or raise it on the command line",
    ),
    Rule(
        id="ranks-started",
        verdict="bad",
        when=lambda c, f: _find_other_launch(c) is not None,
        message=_describe_launch,
        fix="as many of both, or start one process: it starts its ranks itself",
        source="torch.distributed.run sets RANK and WORLD_SIZE, srun SLURM_PROCID and SLURM_STEP_NUM_TASKS",
    ),
)
