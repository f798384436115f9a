"""Score a demo model: how many held-out captions come out entirely right?

    python -m training.evaluate [--model demo | demo_unet | DIR] [--singles 100] [--pairs 100] [--cfg SCALE]

Sampling by the model's own pipeline on captions that training never showed, fixed seeds, judged by
`training.oracle`. Prints the share right with its Wilson 95 % interval, then every failure.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline, FluxPipeline

from training.common import WEIGHTS
from training.oracle import judge
from training.scenes import SIDE, Image, random_caption

DEFAULTS = {"FluxPipeline": (28, 1.0), "StableDiffusionPipeline": (25, 3.0)}  # steps, guidance
CAPTION_SEED = 20251


def captions(count: int, *, pair: bool) -> list[str]:
    """Captions of the held-out part, the same at every call; distinct as far as there are any.

    One object can be asked for in 100 held-out ways, so more than 100 repeat (with other seeds).
    """
    rng = np.random.default_rng((CAPTION_SEED, pair))
    drawn = (random_caption(rng, pair=pair, from_held_out=True) for _ in range(50 * count))
    found = list(dict.fromkeys(drawn))
    return [found[i % len(found)] for i in range(count)]


def load(model: str) -> DiffusionPipeline:
    """The pipeline of a shipped model, or of a folder."""
    pipe = DiffusionPipeline.from_pretrained(WEIGHTS / model if (WEIGHTS / model).exists() else model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def settings(pipe: DiffusionPipeline, steps: int | None, cfg: float | None) -> tuple[int, float]:
    """Steps and guidance; what is None takes the value that suits the model."""
    usual_steps, usual_cfg = DEFAULTS[type(pipe).__name__]
    return usual_steps if steps is None else steps, usual_cfg if cfg is None else cfg


def guided(pipe: DiffusionPipeline, cfg: float, count: int) -> dict[str, Any]:
    """How a pipeline is told the text length and the guidance; a scale of 1 is none."""
    if not isinstance(pipe, FluxPipeline):
        return {"guidance_scale": cfg}
    length = {"max_sequence_length": pipe.tokenizer_2.model_max_length}
    return {**length, "true_cfg_scale": cfg, "negative_prompt": [""] * count} if cfg > 1 else length


def generate(
    pipe: DiffusionPipeline,
    prompts: Sequence[str],
    *,
    steps: int | None = None,
    cfg: float | None = None,
    batch: int = 20,
) -> list[Image]:
    """One image per prompt; the i-th has seed i whatever the batch size."""
    steps, cfg = settings(pipe, steps, cfg)
    images: list[Image] = []
    for start in range(0, len(prompts), batch):
        part = list(prompts[start : start + batch])
        seeds = [torch.Generator().manual_seed(start + i) for i in range(len(part))]
        made = pipe(
            part,
            height=SIDE,
            width=SIDE,
            num_inference_steps=steps,
            generator=seeds,
            output_type="np",
            **guided(pipe, cfg, len(part)),
        ).images
        images += list(np.rint(made * 255).astype(np.uint8))
    return images


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    share, extra = right / count, z * z / count
    middle = (share + extra / 2) / (1 + extra)
    half = z / (1 + extra) * float(np.sqrt(share * (1 - share) / count + extra / (4 * count)))
    return middle - half, middle + half


def line(name: str, right: int, count: int) -> str:
    """One line of the result."""
    low, high = wilson(right, count)
    return f"{name:8s} {right:4d} of {count:4d} right  {right / count:6.1%}  [{low:.1%}, {high:.1%}]"


def evaluate(
    pipe: DiffusionPipeline, singles: int, pairs: int, *, steps: int | None = None, cfg: float | None = None
) -> dict[str, tuple[int, int]]:
    """Generate, judge and print; returns (right, count) for each kind of caption."""
    totals: dict[str, tuple[int, int]] = {}
    failures = []
    for kind, count in (("singles", singles), ("pairs", pairs)):
        if not count:
            continue
        prompts = captions(count, pair=kind == "pairs")
        images = generate(pipe, prompts, steps=steps, cfg=cfg)
        verdicts = [judge(p, text) for p, text in zip(images, prompts, strict=True)]
        totals[kind] = (sum(v.right for v in verdicts), count)
        failures += [
            f"seed {seed:3d}  {text}: {'; '.join(v.problems)}"
            for seed, (text, v) in enumerate(zip(prompts, verdicts, strict=True))
            if not v.right
        ]
        print(line(kind, *totals[kind]), flush=True)
    totals["all"] = (sum(r for r, _ in totals.values()), sum(n for _, n in totals.values()))
    print(line("all", *totals["all"]))
    print(*failures, sep="\n")
    return totals


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="demo", help="a shipped model, or a folder")
    parser.add_argument("--singles", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--steps", type=int, help="default: 28 for demo, 25 for demo_unet")
    parser.add_argument(
        "--cfg", type=float, help="scale of the guidance, 1 is none; default: 1 for demo, 3 for demo_unet"
    )
    parser.add_argument("--sampler", help="a scheduler class of diffusers; default: the model's own")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    pipe = load(args.model)
    if args.sampler:
        pipe.scheduler = getattr(diffusers, args.sampler).from_config(pipe.scheduler.config)
    steps, cfg = settings(pipe, args.steps, args.cfg)
    start = time.monotonic()
    totals = evaluate(pipe, args.singles, args.pairs, steps=steps, cfg=cfg)
    print(f"{time.monotonic() - start:.0f} s, {steps} steps, guidance {cfg}")
    if args.json:
        figures = {k: {"right": r, "count": n, "wilson_95": wilson(r, n)} for k, (r, n) in totals.items()}
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
