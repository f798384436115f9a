"""Fitted samplers and caches, the calibrated cache, and the best plain solvers, at equal numbers of evaluations.

    OMP_NUM_THREADS=1 python -m benchmarks.fitted [--model demo | demo_unet] [--missing]

64 captions that nothing else uses, each with a seed of its own; float32 on the CPU, one thread, one image at a time,
all settings of a caption in turn. Judged against the model's own sampler at its own number of steps. Of the plain
solvers those run that were the best in `benchmarks.few_steps`, on other captions. Fits and schedules are those of the
shipped calibrations. Every value goes to results/fitted_MODEL.json, the tables into docs/fitted_sampling.md.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .few_steps import RESULTS, write
from .marked import write_marked

if TYPE_CHECKING:
    from .peers.models import Model

DOCUMENT = Path(__file__).parents[1] / "docs" / "fitted_sampling.md"
MODELS = ("demo", "demo_unet")
COUNTS = (3, 4, 5, 6, 7, 8, 10, 12)
RIVALS = {
    "demo": ("sampler=unipc", "sampler=unipc sampler.shift=2", "sampler=unipc sampler.shift=3", "sampler=dpmpp_3m"),
    "demo_unet": ("sampler=dpmpp_2m", "sampler=deis", "sampler=unipc", "sampler=euler sampler.sigmas=karras"),
}
OWN = ("sampler=fitted", "cache=fitted", "cache=planned")
DRAWS = 10_000
"""Of the bootstrap over captions."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One setting at one number of evaluations."""

    name: str
    count: int
    config: Any
    """With the numbers of the calibration filled in."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, help="only this one")
    parser.add_argument("--missing", action="store_true", help="only what the committed results lack")
    parser.add_argument("--tables", action="store_true", help="only the tables again, from the committed results")
    args = parser.parse_args()
    from .peers.models import shipped

    for name in [] if args.tables else [args.model] if args.model else MODELS:
        known = load(name) if args.missing else None
        write(RESULTS / f"fitted_{name}.json", measure(shipped(name), known))
    write_marked(DOCUMENT, "fitted", "\n".join(make_table(load(name)) for name in MODELS))


def measure(model: Model, earlier: dict[str, Any] | None = None) -> dict[str, Any]:
    """SSIM and seconds of every caption with every setting; with earlier results those and what they lack."""
    import torch

    from wavespeed_runner.config.environment import describe_environment
    from wavespeed_runner.metrics.quality import compare_images

    from .peers.prompts import unseen

    torch.set_num_threads(1)
    entries, full = list_entries(model), compose(model)
    settings = earlier["settings"] if earlier else []
    there = {(one["setting"], one["evaluations"]) for one in settings}
    entries = [entry for entry in entries if (entry.name, entry.count) not in there]
    rows: list[dict[str, Any]] = [
        {"setting": entry.name, "evaluations": entry.count, "ssim": [], "seconds": [], "full_seconds": 0.0}
        for entry in entries
    ]
    draw(model, full, model.steps, unseen()[0])  # the first run is slower than others
    for prompt in unseen():
        reference, took_full = draw(model, full, model.steps, prompt)
        for entry, row in zip(entries, rows, strict=True):
            image, took = draw(model, entry.config, entry.config.steps, prompt)
            row["ssim"].append(round(float(compare_images(image, reference)["ssim"] or 0), 4))
            row["seconds"].append(round(took, 4))
            row["full_seconds"] = round(row["full_seconds"] + took_full, 4)
    known = describe_environment("cpu")
    return {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.fitted",
        "environment": {key: known[key] for key in ("device_name", "platform", "threads", "versions")},
        "model": model.name,
        "steps": model.steps,
        "prompts": [{"text": prompt.text, "seed": prompt.seed} for prompt in unseen()],
        "settings": [*settings, *rows],
    }


def list_entries(model: Model) -> list[Entry]:
    """Every rival and every shipped fit at every number of evaluations."""
    from wavespeed_runner.caching.calibration.file import load as load_calibration
    from wavespeed_runner.caching.calibration.find import SHIPPED

    calibration = load_calibration(SHIPPED / f"{model.name}.yaml")
    fitted = {"sampler=fitted": calibration.samplers, "cache=fitted": calibration.caches}
    entries = []
    for count in COUNTS:
        for name in (*RIVALS[model.name], *OWN):
            if count in fitted.get(name, (count,)):
                counted = f"cache.computed={count}" if name.startswith("cache") else f"steps={count}"
                entries.append(Entry(name=name, count=count, config=compose(model, *name.split(), counted)))
    return entries


def compose(model: Model, *overrides: str) -> Any:
    """The config that these overrides compose, its numbers filled in."""
    from wavespeed_runner.caching.calibration.resolve import resolve_cache_numbers
    from wavespeed_runner.config.compose import compose_job, composer
    from wavespeed_runner.config.resolve import resolve_config
    from wavespeed_runner.planning.sampler_numbers import resolve_sampler_numbers

    own = [f"model={model.name}", "device=cpu", *overrides]
    with composer(None):
        config = resolve_config(compose_job(own, own))
    config, _ = resolve_sampler_numbers(config)
    return resolve_cache_numbers(config, model.family)[0]


def draw(model: Model, config: Any, steps: int, prompt: Any) -> tuple[Any, float]:
    """The image of a caption, and the seconds that its denoising took."""
    from wavespeed_runner.caching import attach_strategy
    from wavespeed_runner.models.family import CallInputs
    from wavespeed_runner.models.pipeline_call import watch_steps
    from wavespeed_runner.stages.attached import build_generation_info, use_sampler

    embeddings, pipe = model.encode(prompt), model.pipe
    size = {"width": model.config.width, "height": model.config.height}
    with ExitStack() as stack:
        stack.enter_context(use_sampler(pipe, config.sampler))
        wanted = CallInputs(steps=steps, guidance_scale=None, generator=None, **size)
        info = build_generation_info(pipe, model.family, wanted, 1)
        denoisers = [model.denoiser(pipe)]
        trace = stack.enter_context(attach_strategy(denoisers, model.family.blocks, config.cache, info))
        stack.enter_context(watch_steps(pipe.scheduler, None, trace.end_step))
        began = perf_counter()
        latents = model.latents(pipe, prompt, embeddings, steps)
        took = perf_counter() - began
    return model.image(latents), took


def make_table(results: dict[str, Any]) -> str:
    """Quality and time by number of evaluations; of the plain solvers the best one."""
    from numpy import array, mean

    rows = {}
    for one in results["settings"]:
        plain = one["setting"] not in OWN
        key = ("plain" if plain else one["setting"], one["evaluations"])
        if key not in rows or mean(one["ssim"]) > mean(rows[key]["ssim"]):
            rows[key] = one
    names = {"plain": "best plain solver", **{name: f"`{name}`" for name in OWN}}
    lines = [f"`model={results['model']}`, {results['steps']} steps:", ""]
    counts = [count for count in COUNTS if ("plain", count) in rows]
    lines += ["| | " + " | ".join(map(str, counts)) + " |", "|---" * (len(counts) + 1) + "|"]
    for name, title in names.items():
        cells = []
        for count in counts:
            one, rival = rows.get((name, count)), rows[("plain", count)]
            if one is None:
                cells.append("")
                continue
            text = f"{describe(one['ssim'])}, {100 * sum(one['seconds']) / one['full_seconds']:.0f} %"
            if name == "plain":
                text += f" (`{one['setting'].replace('sampler.', '').replace('sampler=', '')}`)"
            else:
                low, middle, high = compare(array(one["ssim"]), array(rival["ssim"]))
                text += f"; {middle:+.3f} [{low:+.3f}, {high:+.3f}]"
            cells.append(text)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", ""])


def describe(ssim: list[float]) -> str:
    """`.969 / .991 / .938 / 4`: mean, median, 10th percentile, images below 0.9."""
    from numpy import mean, median, percentile

    from wavespeed_runner.metrics.forks import FORK

    figures = (f"{value:.3f}".removeprefix("0") for value in (mean(ssim), median(ssim), percentile(ssim, 10)))
    return f"{' / '.join(figures)} / {sum(value < FORK for value in ssim)}"


def compare(ours: Any, theirs: Any) -> tuple[float, float, float]:
    """Mean difference, and its 95 % interval over captions."""
    import numpy as np

    difference = ours - theirs
    rng = np.random.default_rng(0)
    means = difference[rng.integers(0, len(difference), (DRAWS, len(difference)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(difference.mean()), float(high)


def load(name: str) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((RESULTS / f"fitted_{name}.json").read_text(encoding="utf-8"))
    return results


if __name__ == "__main__":
    main()
