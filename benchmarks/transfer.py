"""How far fitted and calibrated numbers carry: to runs that differ from those that they were fitted for.

    OMP_NUM_THREADS=1 python -m benchmarks.transfer [--model demo | demo_unet] [--tables]

32 captions of each length that nothing else uses, a seed each, on the CPU, each run judged against the model's own
sampler at its own number of steps with everything else the same. Beside them plain solvers of as many evaluations,
those that were the best in `benchmarks.fitted`, on other captions. Where a run refuses the shipped numbers, the refusal
is kept, and they come from a copy of the file whose key says that it is for that run. All values go to
results/transfer_MODEL.json, the tables into docs/fitted_sampling.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .few_steps import RESULTS, write
from .fitted import DOCUMENT, MODELS, OWN, RIVALS
from .fitted import load as load_fitted
from .marked import write_marked

LORA = "pkg://wavespeed_runner/weights/demo_lora/night.safetensors"
EVALUATIONS = {"sampler=fitted": 6, "cache=fitted": 8, "cache=planned": 8}
SHOWN = ((6, "sampler=fitted"), (8, "cache=fitted"), (8, "cache=planned"))


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is different from the runs that the numbers were made for."""

    name: str
    overrides: tuple[str, ...] = ()
    length: str = "usual"
    """Of the captions."""
    models: tuple[str, ...] = MODELS


CONDITIONS = (
    Condition(name="as fitted"),
    Condition(name="short captions", length="short"),
    Condition(name="long captions", length="long"),
    Condition(name="other seeds", overrides=("seed=123456789",)),
    Condition(name="bfloat16", overrides=("model.dtype=bfloat16",)),
    Condition(name="guidance 2", overrides=("guidance_scale=2",), models=("demo_unet",)),
    Condition(name="guidance 4", overrides=("guidance_scale=4",), models=("demo_unet",)),
    Condition(name="guidance 6", overrides=("guidance_scale=6",), models=("demo_unet",)),
    Condition(name="96 x 64 pixels", overrides=("width=96",)),
    Condition(name="from an image, strength 0.6", overrides=("graph=image_to_image", "strength=0.6", "image={image}")),
    Condition(name="with a LoRA", overrides=("adapters=lora", f"adapters.path={LORA}"), models=("demo",)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, help="only this one")
    parser.add_argument("--tables", action="store_true", help="only the tables again, from the committed results")
    args = parser.parse_args()
    from .transfer_table import make_table

    for name in [] if args.tables else [args.model] if args.model else MODELS:
        write(RESULTS / f"transfer_{name}.json", measure(name))
    measured = [path for name in MODELS if (path := RESULTS / f"transfer_{name}.json").exists()]
    shown = "\n".join(make_table(json.loads(path.read_text(encoding="utf-8"))) for path in measured)
    write_marked(DOCUMENT, "transfer", shown)


def measure(model: str) -> dict[str, Any]:
    """SSIM of every caption under every condition."""
    import torch

    from wavespeed_runner.config.environment import describe_environment
    from wavespeed_runner.execution.process_cache import ProcessCache

    from .peers.prompts import FIRST_MOVED_SEED, moved

    torch.set_num_threads(1)
    settings, cache = [], ProcessCache()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        draw_image(home / "image.png")
        for length, prompts in moved().items():
            (home / f"{length}.txt").write_text("".join(f"{prompt.text}\n" for prompt in prompts), encoding="utf-8")
        for condition in CONDITIONS:
            if model in condition.models:
                given = [f"model={model}", "device=cpu", "measure.warmup=0", f"outputs={home / 'outputs'}"]
                given += ["measure.reference_sampler=own", "seeds=per_prompt", f"seed={FIRST_MOVED_SEED}"]
                given += ["prompts=file", f"prompts.path={home / condition.length}.txt"]
                changed = [override.format(image=home / "image.png") for override in condition.overrides]
                for name, overrides in list_settings(model):
                    found = run(home, cache, merge(given, changed), overrides)
                    settings.append({"condition": condition.name, "setting": name, **found})
                    print(model, condition.name, name, found.get("refused", ""), len(found.get("ssim", [])), flush=True)
    known = describe_environment("cpu")
    return {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.transfer",
        "environment": {key: known[key] for key in ("device_name", "platform", "threads", "versions")},
        "model": model,
        "prompts": {length: [prompt.text for prompt in prompts] for length, prompts in moved().items()},
        "settings": settings,
    }


def draw_image(path: Path) -> None:
    """What runs from an image start with."""
    import numpy as np
    from PIL import Image

    from training.scenes import parse, place, render

    scene = place(parse("a red circle above a blue square on a gray background"), np.random.default_rng(0))
    Image.fromarray(render(scene)).save(path)


def merge(given: list[str], changed: list[str]) -> list[str]:
    """Overrides, of which later ones of the same key replace earlier ones."""
    return list({override.partition("=")[0]: override for override in [*given, *changed]}.values())


def list_settings(model: str) -> list[tuple[str, list[str]]]:
    """The best plain solvers of 6 and 8 evaluations, and ours."""
    import numpy as np

    measured = load_fitted(model)["settings"]
    found = []
    for count in sorted(set(EVALUATIONS.values())):
        some = [one for one in measured if one["evaluations"] == count and one["setting"] in RIVALS[model]]
        best = max(some, key=lambda one: np.mean(one["ssim"]))["setting"]
        found.append((f"{best} {count}", [*best.split(), f"steps={count}"]))
    for name, count in EVALUATIONS.items():
        counted = f"cache.computed={count}" if name.startswith("cache") else f"steps={count}"
        found.append((f"{name} {count}", [name, counted]))
    return found


def run(home: Path, cache: Any, given: list[str], setting: list[str]) -> dict[str, Any]:
    """SSIM image by image, by a run as a user types it; and its refusal of the shipped numbers, if it refuses them."""
    from wavespeed_runner.errors import ConfigError, Unfit
    from wavespeed_runner.execution.runner import run_plan
    from wavespeed_runner.sweeps.jobs import plan_jobs

    refused = {}
    try:
        plan = plan_jobs(Namespace(overrides=[*given, *setting], config_dir=None, multirun=False))[0].plan
    except (Unfit, ConfigError) as error:
        refused = {"refused": str(error).replace(f"{home}/", "")}
        try:
            named = name_numbers(home, given, setting)
            plan = plan_jobs(Namespace(overrides=[*given, *setting, named], config_dir=None, multirun=False))[0].plan
        except (Unfit, ConfigError) as another:
            return {**refused, "refused_named": str(another).replace(f"{home}/", "")}
    assert plan is not None
    record = run_plan(plan, home / "run", [], cache=cache)
    if record.error:
        raise SystemExit(f"{' '.join([*given, *setting])}: {record.error.message}")
    return {**refused, "ssim": [round(float(sample.quality.ssim or 0), 4) for sample in record.samples]}


def name_numbers(home: Path, given: list[str], setting: list[str]) -> str:
    """The override that names a copy of the shipped calibration whose key says that it is for this run."""
    from wavespeed_runner.caching.calibration.data import build_key
    from wavespeed_runner.caching.calibration.file import load, save
    from wavespeed_runner.caching.calibration.find import SHIPPED
    from wavespeed_runner.config.compose import compose_job, composer
    from wavespeed_runner.config.resolve import resolve_config
    from wavespeed_runner.planning.sampler_numbers import build_full_key

    own = [*given, *setting]
    with composer(None):
        config = resolve_config(compose_job(own, own))
    shipped = load(SHIPPED / f"{given[0].removeprefix('model=')}.yaml")
    group = setting[0].partition("=")[0]
    key = build_full_key(config) if group == "sampler" else build_key(config)
    save(replace(shipped, key=key), home / "numbers.yaml")
    return f"{group}.calibration={home / 'numbers.yaml'}"


assert set(EVALUATIONS) == set(OWN)

if __name__ == "__main__":
    main()
