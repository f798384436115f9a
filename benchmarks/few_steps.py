"""Fewer steps, done well: every deterministic solver, with several spacings, at 3 to 8 evaluations without a cache.

    OMP_NUM_THREADS=1 python -m benchmarks.few_steps [--model demo | demo_unet] [--only NAME [--update]]

48 captions that nothing else uses, each with a seed of its own; float32 on the CPU. Judged against the model's own
sampler at its own number of steps, which is what `measure.reference_sampler=own` compares with. An evaluation is one
call of the denoiser, so solvers with two calls a step (Heun, DPM2) have fewer steps. The calibrated cache with as many
computed steps stands beside them. All values go to results/few_steps_MODEL.json, and the tables of docs/sampling.md are
made from them: python -m benchmarks.few_steps_tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .peers.models import Model

RESULTS = Path(__file__).parent / "results"
MODELS = ("demo", "demo_unet")
EVALUATIONS = (3, 4, 5, 6, 8)
IN_PAIRS = (3, 5, 7)
"""Of solvers with two calls a step, and one in the last."""
CACHE = "cache=planned"
"""Computes so many steps of the model's own sampler, chosen by its calibration."""
TOGETHER = 8
"""Captions of one batch."""
SHIFT = 3.0
"""Of flow models, beside the model's own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, help="only this one")
    parser.add_argument("--only", default="", help="only settings with this in their name, and write nothing")
    parser.add_argument("--update", action="store_true", help="with --only: put them among the committed results")
    args = parser.parse_args()
    from .peers.models import shipped

    for name in [args.model] if args.model else MODELS:
        measured = measure(shipped(name), args.only)
        path = RESULTS / f"few_steps_{name}.json"
        if not args.only:
            write(path, measured)
        elif args.update:
            write(path, replace_settings(json.loads(path.read_text(encoding="utf-8")), measured["settings"]))


def measure(model: Model, only: str = "") -> dict[str, Any]:
    """SSIM of every caption, for every solver, spacing and number of evaluations."""
    import torch

    from wavespeed_runner.config.environment import describe_environment
    from wavespeed_runner.samplers import DefaultSampler

    from .peers.prompts import fresh

    torch.set_num_threads(1)
    prompts = fresh()
    batches = [prompts[first : first + TOGETHER] for first in range(0, len(prompts), TOGETHER)]
    embedded = [join([model.encode(prompt) for prompt in batch]) for batch in batches]

    def draw(options: Any, steps: int) -> list[Any]:
        return [
            image
            for batch, embeddings in zip(batches, embedded, strict=True)
            for image in generate(model, options, steps, batch, embeddings)
        ]

    references = draw(DefaultSampler(), model.steps)
    settings = []
    for name, options in list_settings(model.family):
        if only in name:
            for evaluations, steps in list_steps(options).items():
                ssim = compare(draw(options, steps), references)
                settings.append({"setting": name, "evaluations": evaluations, "steps": steps, "ssim": ssim})
                print(model.name, describe(settings[-1]), flush=True)
    for computed in EVALUATIONS if only in CACHE else ():
        ssim = compare(draw_cached(model, prompts, computed), references)
        settings.append({"setting": CACHE, "evaluations": computed, "steps": model.steps, "ssim": ssim})
    known = describe_environment("cpu")
    return {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.few_steps",
        "environment": {key: known[key] for key in ("device_name", "platform", "threads", "versions")},
        "model": model.name,
        "steps": model.steps,
        "prompts": [{"text": prompt.text, "seed": prompt.seed} for prompt in prompts],
        "settings": settings,
    }


def replace_settings(results: dict[str, Any], measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Results with these settings measured anew, on the same captions."""
    names = {one["setting"] for one in measured}
    return {**results, "settings": [one for one in results["settings"] if one["setting"] not in names] + measured}


def list_settings(family: Any) -> Iterator[tuple[str, Any]]:
    """Every deterministic sampler of a family with every order and spacing, as typed and as options."""
    from wavespeed_runner.samplers import Sigmas, deterministic_samplers, why_unusable
    from wavespeed_runner.samplers.options import OPTIONS
    from wavespeed_runner.samplers.table import TimestepSpacing

    spacings: list[dict[str, Any]] = [
        {},
        {"shift": SHIFT},
        {"sigmas": Sigmas.karras},
        {"sigmas": Sigmas.beta},
        {"timestep_spacing": TimestepSpacing.leading},
    ]
    for name in deterministic_samplers(family):
        known = OPTIONS[name].__dataclass_fields__
        for order in (2, 3) if "order" in known else (None,):
            for spacing in spacings:
                if not set(spacing) <= set(known):
                    continue
                options = OPTIONS[name](**spacing, **({} if order is None else {"order": order}))
                if not why_unusable(family, options):
                    chosen = {**spacing, **({"order": 3} if order == 3 else {})}
                    values = [f"sampler.{key}={getattr(value, 'value', value)}" for key, value in chosen.items()]
                    yield " ".join([f"sampler={name}", *values]), options


def list_steps(options: Any) -> dict[int, int]:
    """Evaluations -> the steps in which a sampler calls the denoiser so often."""
    from wavespeed_runner.samplers import count_denoiser_calls

    calls = {count_denoiser_calls(options, steps): steps for steps in range(1, max(EVALUATIONS) + 1)}
    return {count: calls[count] for count in (EVALUATIONS if 4 in calls else IN_PAIRS) if count in calls}


def draw_cached(model: Model, prompts: list[Any], computed: int) -> Iterator[Any]:
    """The images with the calibrated cache, one by one."""
    from .peers.ours import engine

    pipe = model.fresh()
    with engine(pipe, model, overrides=[CACHE, f"cache.computed={computed}"]):
        for prompt in prompts:
            yield model.image(model.latents(pipe, prompt, model.encode(prompt), model.steps))


def join(embeddings: list[dict[str, Any]]) -> dict[str, Any]:
    from wavespeed_runner.stages.generate import concatenate

    return concatenate(embeddings)


def generate(model: Model, options: Any, steps: int, prompts: list[Any], embeddings: dict[str, Any]) -> Iterator[Any]:
    """The images of a batch."""
    import torch

    from wavespeed_runner.models.family import CallInputs
    from wavespeed_runner.models.pipeline_call import denoise
    from wavespeed_runner.stages.attached import use_sampler

    size = {"width": model.config.width, "height": model.config.height}
    generators = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
    wanted = CallInputs(steps=steps, guidance_scale=model.config.guidance_scale, generator=generators, **size)
    with torch.inference_mode(), use_sampler(model.pipe, options):
        tensors = denoise(model.family, model.pipe, model.config, embeddings, wanted)
        yield from model.family.decode(model.pipe, tensors, **size)


def compare(images: Iterable[Any], references: list[Any]) -> list[float]:
    from wavespeed_runner.metrics.quality import compare_images

    return [round(compare_images(*pair)["ssim"], 4) for pair in zip(images, references, strict=True)]


def describe(setting: dict[str, Any]) -> str:
    from numpy import mean, median, percentile

    ssim = setting["ssim"]
    forks = sum(value < 0.9 for value in ssim)
    figures = f"{mean(ssim):.3f} / {median(ssim):.3f} / {percentile(ssim, 10):.3f} / {forks}"
    return f"{setting['setting']:45} {setting['evaluations']} {figures}"


def write(path: Path, results: dict[str, Any]) -> None:
    """One setting a line, so that a difference can be read."""
    head = json.dumps({name: value for name, value in results.items() if name != "settings"}, indent=1)
    rows = ",\n".join("  " + json.dumps(setting) for setting in results["settings"])
    path.write_text(head.removesuffix("\n}") + ',\n "settings": [\n' + rows + "\n ]\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
