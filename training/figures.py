"""Draw a model's loss curve and a grid of its samples into training/results.

    python -m training.figures [--model demo | demo_unet]

Samples are the first held-out captions of the evaluation with its seeds, not picked by eye; a
red title marks an image that the oracle finds wrong.
"""

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from diffusers import DiffusionPipeline

from training.common import RESULTS
from training.evaluate import captions, generate, load
from training.oracle import judge

ROWS, COLUMNS = 4, 8  # half of the images show one object, half two
WORDS_PER_LINE = 4
LOGS = {"demo": "flow", "demo_unet": "denoising"}


def loss_curve(log: Path, target: Path) -> None:
    """Training loss over steps, on logarithmic axes, where its slow fall stays visible."""
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    axes.loglog([int(r["step"]) for r in rows], [float(r["loss"]) for r in rows], linewidth=1)
    axes.set(xlabel="step", ylabel="loss (mean of 25 steps)")
    axes.grid(which="both", alpha=0.3)
    figure.savefig(target, dpi=100)
    plt.close(figure)


def _title(text: str) -> str:
    words = text.split()
    lines = [words[i : i + WORDS_PER_LINE] for i in range(0, len(words), WORDS_PER_LINE)]
    return "\n".join(" ".join(part) for part in lines)


def sample_grid(pipe: DiffusionPipeline, target: Path) -> None:
    """Captioned samples, one-object images in the upper half."""
    half = ROWS * COLUMNS // 2
    figure, axes = plt.subplots(ROWS, COLUMNS, figsize=(1.5 * COLUMNS, 2.15 * ROWS), layout="constrained")
    cells = iter(axes.flat)
    for pair in (False, True):
        prompts = captions(half, pair=pair)
        for text, image in zip(prompts, generate(pipe, prompts), strict=True):
            cell = next(cells)
            cell.imshow(image, interpolation="nearest")
            right = judge(image, text).right
            cell.set_title(_title(text), fontsize=6.5, color="black" if right else "red")
            cell.set(xticks=[], yticks=[])
    figure.savefig(target, dpi=80)
    plt.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=LOGS, default="demo")
    args = parser.parse_args()
    suffix = args.model.removeprefix("demo")
    loss_curve(RESULTS / f"{LOGS[args.model]}.csv", RESULTS / f"loss{suffix}.png")
    sample_grid(load(args.model), RESULTS / f"samples{suffix}.png")


if __name__ == "__main__":
    main()
