"""Fitted samplers and caches beside the peers' caches and plain solvers in the same time.

    OMP_NUM_THREADS=1 python -m benchmarks.peers.equal_time [--model demo | demo_unet] [--tables]

The 64 captions of `benchmarks.fitted`, each with a seed of its own, measured as `benchmarks.peers` does: rounds of
8 captions, in each every setting in another order on a fresh copy of the model, one thread, float32, the CPU. Of each
peer those settings run that have, on the captions of `benchmarks.peers`, the best mean or median of all that take no
longer; at every number of evaluations the plain solver that is the best in `benchmarks.fitted`. Every value goes to
results/equal_time_MODEL.json, the tables into docs/fitted_sampling.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from statistics import mean
from typing import Any

from benchmarks.fitted import COUNTS, DOCUMENT, MODELS, OWN, RIVALS, compose
from benchmarks.fitted import load as load_fitted

from ..marked import write_marked
from .__main__ import A_ROUND, RESULTS, attempt, describe, environment, line, write
from .figures import load
from .models import Model
from .settings import Setting

LONGEST = 0.55
"""Of the full run's time: slower settings have no rival here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, help="only this one")
    parser.add_argument("--tables", action="store_true", help="only the tables again, from the committed results")
    args = parser.parse_args()
    from .equal_time_table import make_table

    for name in [] if args.tables else [args.model] if args.model else MODELS:
        measure_all(name)
    measured = [path for name in MODELS if (path := RESULTS / f"equal_time_{name}.json").exists()]
    shown = "\n".join(make_table(json.loads(path.read_text(encoding="utf-8"))) for path in measured)
    write_marked(DOCUMENT, "equal time", shown)


def measure_all(name: str) -> None:
    """Every setting on every caption."""
    os.environ.setdefault("CACHE_DIT_LOG_LEVEL", "error")
    import torch

    from .measure import measure, references, weights
    from .models import shipped
    from .prompts import unseen
    from .settings import reference

    torch.set_num_threads(1)
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    model, prompts = shipped(name), unseen()
    weighed = weights(model)
    known = references(model, prompts, weighed)
    todo = [reference(model), *list_peers(model), *list_ours(model)]
    rounds = [known[first : first + A_ROUND] for first in range(0, len(known), A_ROUND)]
    results: dict[str, Any] = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.peers.equal_time",
        "environment": environment(),
        "model": name,
        "steps": model.steps,
        "prompts": [{"text": prompt.text, "seed": prompt.seed} for prompt in prompts],
        "rounds": [len(some) for some in rounds],
        "settings": [describe(setting) for setting in todo],
    }
    for index, some in enumerate(rounds):
        turns = list(zip(todo, results["settings"], strict=True))
        random.Random(index).shuffle(turns)
        for setting, figures in turns:
            if "cannot" not in figures:
                attempt(figures, partial(measure, model, setting, some, weighed))
        print(f"{name}: round {index + 1} of {len(rounds)}", flush=True)
    print(*map(line, results["settings"]), sep="\n")
    for figures in results["settings"]:
        for unused in ("latents", "wall_seconds", "error"):
            figures.pop(unused, None)
    write(RESULTS / f"equal_time_{name}.json", results)


def list_peers(model: Model) -> list[Setting]:
    """Of each peer the settings that no faster or equally fast one of it is as good as, on other captions."""
    from .theirs import theirs

    known = load(model.name)
    chosen = set()
    for group in known.groups():
        for figure in ("mean", "median"):
            best = 0.0
            for point in sorted(known.of(group), key=lambda point: (point.time, -point.quality[figure])):
                if point.quality[figure] > best and point.time <= LONGEST:
                    best = point.quality[figure]
                    chosen.add(point.name)
    return [setting for setting in theirs(model) if setting.name in chosen]


def list_ours(model: Model) -> list[Setting]:
    """Plain solvers, the shipped fits and the calibrated cache, at every number of evaluations or computed steps."""
    from wavespeed_runner.caching.calibration.file import load as load_calibration
    from wavespeed_runner.caching.calibration.find import SHIPPED

    calibration = load_calibration(SHIPPED / f"{model.name}.yaml")
    fitted = {"sampler=fitted": calibration.samplers, "cache=fitted": calibration.caches}
    wanted = [(name, count) for name in OWN for count in COUNTS if count in fitted.get(name, (count,))]
    return [
        Setting(
            name=f"{name} {count}",
            group=name,
            by="ours" if name in OWN else "plain",
            on=composed,
            parameters={
                "overrides": [*name.split(), f"cache.computed={count}" if is_cache(name) else f"steps={count}"]
            },
            steps=None if is_cache(name) else count,
        )
        for name, count in [*list_solvers(model), *wanted]
    ]


def is_cache(name: str) -> bool:
    return name.startswith("cache")


def list_solvers(model: Model) -> list[tuple[str, int]]:
    """The plain solver with the best mean on these very captions, for each number of evaluations: this favours it. For
    a number between two that were measured, that of the lower one."""
    best: dict[int, tuple[float, str]] = {}
    for one in load_fitted(model.name)["settings"]:
        if one["setting"] in RIVALS[model.name]:
            reached = (mean(one["ssim"]), one["setting"])
            best[one["evaluations"]] = max(best.get(one["evaluations"], reached), reached)
    return [(best[max(n for n in best if n <= count)][1], count) for count in range(min(COUNTS), max(COUNTS) + 3)]


@contextmanager
def composed(pipe: Any, model: Model, *, overrides: list[str]) -> Iterator[None]:
    """The sampler and the cache that these overrides compose, with their numbers."""
    from wavespeed_runner.stages.attached import use_sampler

    from .ours import each_call

    config = compose(model, *overrides)
    with use_sampler(pipe, config.sampler):
        if config.cache.name == "none":
            yield
        else:
            with each_call(pipe, model, config.cache, None):
                yield


if __name__ == "__main__":
    main()
