"""The cache engine beside its peers and beside fewer steps, on the same weights, prompts and seeds.

    OMP_NUM_THREADS=1 python -m benchmarks.peers [--model demo | demo_unet | tiny_flux] [--prompts N] [--only NAME]
    python -m benchmarks.peers.plot

One thread, float32, the CPU. The prompts are split into rounds. In each, every setting takes its turn, in another
order, on a fresh copy of the model: it warms up, then makes the round's images. What it computed, how far it is from
the uncached image of full steps, and its time are noted prompt by prompt, and all raw values go to
results/peers_MODEL.json (those of a part, --prompts or --only, to outputs/).

The peers' packages: benchmarks/peers/requirements.txt. What is not installed, or cannot do a model, is noted with the
reason.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
PARTS = Path(__file__).parents[2] / "outputs"
PEERS = ("cache-dit", "DeepCache", "para-attn")
A_ROUND = 8
"""Prompts in a round, at most."""
PROMPTS = {"tiny_flux": 4}
"""Fewer where images show nothing and prompts differ little. 32 elsewhere."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("demo", "demo_unet", "tiny_flux"), default="demo")
    parser.add_argument("--prompts", type=int, help="only so many of the judged prompts")
    parser.add_argument("--only", default="", help="only settings with this in their name or group")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    part = bool(args.only or args.prompts)
    out = args.out or (PARTS if part else RESULTS) / f"peers_{args.model}.json"

    os.environ.setdefault("CACHE_DIT_LOG_LEVEL", "error")
    import torch

    torch.set_num_threads(1)
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    from .measure import measure, references, unit, weights
    from .models import MODELS
    from .prompts import judged
    from .settings import reference, settings

    model = MODELS[args.model]()
    prompts = judged()[: args.prompts or PROMPTS.get(args.model)]
    weighed = weights(model)
    known = references(model, prompts, weighed)
    todo = [reference(model), *(s for s in settings(model) if args.only in s.name or args.only in s.group)]
    rounds = [known[first : first + A_ROUND] for first in range(0, len(known), A_ROUND)]
    given = [f" --{name} {getattr(args, name)}" for name in ("model", "prompts", "only") if getattr(args, name)]
    results: dict[str, Any] = {
        "command": f"OMP_NUM_THREADS=1 python -m benchmarks.peers{''.join(given)}",
        "environment": environment(),
        "model": args.model,
        "steps": model.steps,
        "unit": unit(model),
        "prompts": [{"text": prompt.text, "seed": prompt.seed} for prompt in prompts],
        "rounds": [],
        "settings": [describe(setting) for setting in todo],
    }
    for index, some in enumerate(rounds):
        turns = [(s, f) for s, f in zip(todo, results["settings"], strict=True) if "cannot" not in f]
        random.Random(index).shuffle(turns)
        for setting, figures in turns:
            attempt(figures, partial(measure, model, setting, some, weighed))
        results["rounds"].append(len(some))
        write(out, results)
        print(f"round {index + 1} of {len(rounds)}", flush=True)
    print(*map(line, results["settings"]), out, sep="\n")


def describe(setting: Any) -> dict[str, Any]:
    return {name: getattr(setting, name) for name in ("name", "group", "by", "parameters", "steps")}


def attempt(figures: dict[str, Any], act: Callable[[], dict[str, list[Any]]]) -> None:
    """Appends what `act` measures; of a peer that cannot do the model, the reason. Our own failures are failures."""
    try:
        measured = act()
    except Exception as error:
        if figures["by"] != "theirs":
            raise
        figures["cannot"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
        return
    for name, values in measured.items():
        kept = [float(f"{value:.6g}") if isinstance(value, float) else value for value in values]
        figures.setdefault(name, []).extend(kept)


def line(figures: dict[str, Any]) -> str:
    if "cannot" in figures:
        return f"{figures['name']:45} cannot: {figures['cannot']}"
    means = {name: sum(figures[name]) / len(figures[name]) for name in ("share", "error", "ssim") if figures[name]}
    return f"{figures['name']:45} " + "  ".join(f"{name} {value:.5f}" for name, value in means.items())


def environment() -> dict[str, Any]:
    """Where it ran, with the peers' versions."""
    from wavespeed_runner.config.environment import describe_environment

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    return {**describe_environment("cpu"), "peers": {name: installed(name) for name in PEERS}}


def write(path: Path, results: dict[str, Any]) -> None:
    """One setting a line, so that a difference can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = json.dumps({name: value for name, value in results.items() if name != "settings"}, indent=1)
    rows = ",\n".join("  " + json.dumps(setting) for setting in results["settings"])
    path.write_text(head.removesuffix("\n}") + ',\n "settings": [\n' + rows + "\n ]\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
