"""What `tune` finds, against trying everything, on prompts that it never saw.

    OMP_NUM_THREADS=1 python -m benchmarks.tune --measure [--model demo | demo_unet]     # every setting: an hour
    OMP_NUM_THREADS=1 python -m benchmarks.tune --times [--model demo | demo_unet]       # their times anew: minutes
    python -m benchmarks.tune                                                            # the searches alone

First every setting of `space=quick` is run on 192 prompts of `prompts=tuning` (96 with the U-Net, which takes longer),
a seed each, eight images at a time, against the model's own sampler and steps; and on some, one image at a time, right
beside its reference, for its time.
Then, for each bound, `tune` searches 20 times on these figures: each time with other prompts for tuning (32, then 64)
and as many others for judging. Its answer is compared with the fastest setting that is known to keep the bound from
all prompts, by the same confidence limit, and with the fastest one whose mean on all of them keeps it; its own mean is
taken on the prompts that were used for neither. Figures go to results/tune_MODEL.json, the tables into docs/tune.md.
"""

from __future__ import annotations

import argparse
import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .few_steps import RESULTS, write
from .marked import write_marked

DOCUMENT = Path(__file__).parents[1] / "docs" / "tune.md"
PROMPTS = {"demo": 192, "demo_unet": 96}
"""Model -> prompts that every setting is run on."""
LEVELS = (0.99, 0.97, 0.95, 0.9)
TIMED, SEEDS = 6, 20
HALVES = {"demo": (32, 64), "demo_unet": (32,)}
"""Prompts for tuning, and as many for judging."""
IN_BATCHES, ALONE = "batch_size=8", "batch_size=1"


@dataclass
class Measured:
    """Stands for `Rounds`: the figures of all settings are known."""

    grid: dict[str, dict[str, Any]]
    order: Sequence[int]
    """Places of this half's prompts."""
    results: list[Any] = field(default_factory=list)
    jobs: int = 0
    again: float = 0.0
    """What runs for times denoise, in full runs of one image."""
    done: set[tuple[str, int]] = field(default_factory=set)

    @property
    def prompts(self) -> list[str]:
        return [str(place) for place in self.order]

    def run(self, settings: Sequence[Any], prompts: int, more: Sequence[str] = ()) -> list[Any]:
        from wavespeed_runner.tune.result import Result

        self.jobs += len(settings)
        self.again += sum((one.work or 1.0) + 1.0 for one in settings) * prompts if more else 0.0
        found = []
        for one in settings:
            known = self.grid[one.identity]
            self.done |= set() if more else {(one.identity, place) for place in self.order[:prompts]}
            values = {str(place): [known["ssim"][place] / 1e4] for place in self.order[:prompts]}
            relative = known["relative"]
            found.append(
                Result(
                    setting=one,
                    prompts=prompts,
                    values={"ssim": values},
                    seconds=relative,
                    relative=relative,
                    folder=Path(),
                )
            )
        self.results += [] if more else found
        return list(found)


def measure(model: str, known: dict[str, Any] | None) -> dict[str, Any]:
    """Runs every setting on all prompts; then on some, each image beside its reference, for the times.

    Args:
        model: `demo` or `demo_unet`.
        known: earlier figures, of which only the times are taken anew, and what is missing.
    """
    from wavespeed_runner.sweeps.launchers.inprocess import keep_models
    from wavespeed_runner.tune.prepare import prepare
    from wavespeed_runner.tune.search import IN_TURN

    given = dict.fromkeys(("config_dir", "time", "by", "name", "budget", "gallery")) | {
        "quality": "ssim>=0.9",
        "space": "quick",
    }
    tuning = prepare(Namespace(overrides=[f"model={model}", IN_BATCHES], images=PROMPTS[model], **given), print)
    rounds = tuning.tuning
    rounds.prompts = [*tuning.tuning.prompts, *tuning.judging.prompts]
    points = [p for f in tuning.space.families for c in f.combinations() for p in f.settings(c)]
    settings, _ = tuning.planner(points)
    with keep_models():
        by_point = {identify(one["point"]): one["ssim"] for one in known["settings"]} if known else {}
        ssims = {one.identity: by_point[identify(one.point)] for one in settings if identify(one.point) in by_point}
        new = [one for one in settings if one.identity not in ssims]
        for result in filter(None, rounds.run(new, PROMPTS[model])):
            ssims[result.setting.identity] = [round(1e4 * value[0]) for value in result.values["ssim"].values()]
        times = {one.setting.identity: one.relative for one in rounds.run(settings, TIMED, (*IN_TURN, ALONE)) if one}
    listed = [
        {
            "point": one.point,
            "work": one.work,
            "relative": round(times[one.identity], 5),
            "ssim": ssims[one.identity],
        }
        for one in settings
        if one.identity in times and one.identity in ssims
    ]
    return {"model": model, "steps": tuning.plan.config.model.steps, "settings": listed}


def search(data: dict[str, Any], level: float, half: int, seed: int) -> dict[str, Any]:
    """One search on the figures; what it answers, and what that is worth on other prompts.

    Args:
        data: figures of all settings, as `measure` returns them.
        level: the SSIM to keep.
        half: prompts for tuning, and as many for judging.
        seed: which prompts these are.
    """
    from wavespeed_runner.tune.aim import Aim
    from wavespeed_runner.tune.bounds import parse_bounds
    from wavespeed_runner.tune.budget import Budget
    from wavespeed_runner.tune.settings import Setting
    from wavespeed_runner.tune.space import read_space
    from wavespeed_runner.tune.tune import tune
    from wavespeed_runner.tune.tuning import Tuning

    grid = {identify(one["point"]): one for one in data["settings"]}

    def plan(points: Sequence[dict[str, Any]]) -> tuple[list[Setting], list[Any]]:
        known = [(identify(point), point) for point in points if identify(point) in grid]
        return [Setting(point=point, identity=name, work=grid[name]["work"]) for name, point in known], []

    order = [int(place) for place in np.random.default_rng(seed).permutation(PROMPTS[data["model"]])]
    tuning_half, judging_half = Measured(grid, order[:half]), Measured(grid, order[half : 2 * half])
    tuning = Tuning(
        plan=None,  # type: ignore[arg-type]
        planner=plan,
        space=read_space("quick", None, data["steps"]),
        aim=Aim(bounds=parse_bounds(f"ssim>={level}", ("ssim",))),
        tuning=tuning_half,  # type: ignore[arg-type]
        judging=judging_half,  # type: ignore[arg-type]
        seed=seed,
        budget=Budget(),
        tell=lambda line: None,
        folder=Path(),
    )
    tune(tuning)
    unseen = order[2 * half :]
    found = tuning.answer and grid[tuning.answer.setting.identity]
    cost = sum((grid[name]["work"] or 1.0) for name, _ in tuning_half.done) + half
    cost += tuning_half.again + judging_half.again
    return {
        "found": found["point"] if found else None,
        "relative": found["relative"] if found else 1.0,
        "ssim": float(np.mean([found["ssim"][place] for place in unseen])) / 1e4 if found else 1.0,
        "work": cost / ((1 + sum(one["work"] or 1.0 for one in grid.values())) * 2 * half),
    }


def find_best(data: dict[str, Any], level: float, *, known: bool) -> dict[str, Any]:
    """The fastest setting that keeps the bound on all prompts: by its confidence limit (known), or by its mean."""
    from wavespeed_runner.tune.bounds import parse_bounds

    (bound,) = parse_bounds(f"ssim>={level}", ("ssim",))
    for one in sorted(data["settings"], key=lambda one: float(one["relative"])):
        values = {str(place): [value / 1e4] for place, value in enumerate(one["ssim"])}
        if (bound.find_limit(values) if known else bound.estimate(values)) >= level:
            return dict(one)
    return {"point": None, "relative": 1.0}


def identify(point: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in point.items() if value is not None}, sort_keys=True)


def search_all(data: dict[str, Any]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Prompts of a half -> bound -> the searches of all seeds."""
    return {
        str(half): {f"{level:g}": [search(data, level, half, seed) for seed in range(SEEDS)] for level in LEVELS}
        for half in HALVES[data["model"]]
    }


def make_table(data: dict[str, Any]) -> list[str]:
    """The rows of a model."""
    lines = [
        f"`model={data['model']}`, {data['steps']} steps, {len(data['settings'])} settings:",
        "",
        f"| mean SSIM at least | fastest, known from all {PROMPTS[data['model']]} prompts (by the mean alone) "
        "| `images=` "
        f"| answers of {SEEDS} searches: median time (all) | keep the bound on prompts not used "
        "| denoising, of a plain grid's |",
        "|---|---|---|---|---|---|",
    ]
    return [*lines, *(_row(data, level, half) for level in LEVELS for half in HALVES[data["model"]]), ""]


def _row(data: dict[str, Any], level: float, half: int) -> str:
    by_limit, by_mean = (find_best(data, level, known=known) for known in (True, False))
    runs = data["searches"][str(half)][f"{level:g}"]
    times = [run["relative"] for run in runs]
    name = " ".join(f"{key}={value}" for key, value in (by_limit["point"] or {}).items()) or "the reference"
    return (
        f"| {level:g} | {100 * by_limit['relative']:.1f} % (`{name}`; {100 * by_mean['relative']:.1f} %) | {2 * half} "
        f"| {100 * np.median(times):.1f} % ({100 * min(times):.1f} to {100 * max(times):.1f}) "
        f"| {sum(run['ssim'] >= level for run in runs)} of {SEEDS} "
        f"| {100 * np.mean([run['work'] for run in runs]):.0f} % |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=PROMPTS, help="only this one")
    parser.add_argument("--measure", action="store_true", help="run every setting anew")
    parser.add_argument("--times", action="store_true", help="take the times of all settings anew")
    args = parser.parse_args()
    for name in [args.model] if args.model else PROMPTS:
        file = RESULTS / f"tune_{name}.json"
        data = json.loads(file.read_text()) if file.exists() and not args.measure else None
        data = measure(name, data) if args.measure or args.times else data
        if data:
            write(file, {**data, "searches": search_all(data)})
    known = [json.loads(file.read_text()) for name in PROMPTS if (file := RESULTS / f"tune_{name}.json").exists()]
    tables = [line for data in known for line in make_table(data)]
    write_marked(DOCUMENT, "searches", "\n".join(tables))


if __name__ == "__main__":
    main()
