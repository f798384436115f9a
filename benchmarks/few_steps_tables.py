"""The tables of docs/sampling.md, from the results of `benchmarks.few_steps`.

python -m benchmarks.few_steps_tables
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from numpy import mean, median, percentile

from wavespeed_runner.metrics.forks import FORK

from .few_steps import CACHE, EVALUATIONS, MODELS, RESULTS
from .marked import write_marked
from .readme import ROOT

DOCUMENT = ROOT / "docs" / "sampling.md"
OWN = {"demo": "sampler=euler", "demo_unet": "sampler=dpmpp_2m"}
"""What the models' own schedulers compute: the plain fewer steps."""
IMAGE = 0.5
"""Median SSIM to the full steps below which there is no image."""


class Cell(NamedTuple):
    """What one setting reached."""

    mean: float
    median: float
    tenth: float
    forks: int
    steps: int

    def __str__(self) -> str:
        figures = (f"{value:.3f}".removeprefix("0") for value in (self.mean, self.median, self.tenth))
        return f"{' / '.join(figures)} / {self.forks}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    write_marked(DOCUMENT, "few steps", make_tables(load()))


def load(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Model -> results."""
    return {name: json.loads((folder / f"few_steps_{name}.json").read_text(encoding="utf-8")) for name in MODELS}


def read_cells(results: dict[str, Any]) -> dict[str, dict[int, Cell]]:
    """Setting -> evaluations -> what it reached."""
    cells: dict[str, dict[int, Cell]] = {}
    for one in results["settings"]:
        ssim = one["ssim"]
        figures = (float(mean(ssim)), float(median(ssim)), float(percentile(ssim, 10)))
        cell = Cell(*figures, sum(value < FORK for value in ssim), one["steps"])
        cells.setdefault(one["setting"], {})[one["evaluations"]] = cell
    return cells


def choose_spacings(cells: dict[str, dict[int, Cell]]) -> dict[str, dict[int, Cell]]:
    """Of each solver the spacing and order with the best mean, averaged over what was measured."""
    best: dict[str, str] = {}
    for setting, reached in cells.items():
        solver, score = setting.split()[0], float(mean([cell.mean for cell in reached.values()]))
        if solver not in best or score > float(mean([cell.mean for cell in cells[best[solver]].values()])):
            best[solver] = setting
    return {setting: cells[setting] for setting in best.values()}


def find_imageless(results: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """`deis sigmas=beta order=3` -> (the steps at which no image came, those at which one did)."""
    found = {}
    for setting, reached in read_cells(results).items():
        imageless, others = (
            (*sorted(c.steps for c in reached.values() if (c.median < IMAGE) is no),) for no in (True, False)
        )
        if imageless:
            found[setting.replace("sampler=", "").replace("sampler.", "")] = imageless, others
    return found


def make_tables(results: dict[str, dict[str, Any]]) -> str:
    """Text and tables in Markdown."""
    first = results[MODELS[0]]
    count = len(first["prompts"])
    parts = [
        f"`{first['command']}` on {first['environment']['device_name']}, {count} captions that nothing else uses, a "
        "seed each, against the model's own sampler at its own number of steps: SSIM mean / median / 10th percentile / "
        f"images below {FORK:g} (forks). Of each solver the spacing and order with the best mean; the first "
        "line is plain fewer steps, the last the calibrated cache with as many computed steps, which takes longer than "
        "as many plain steps. **Bold**: the best mean. All spacings, and 7 evaluations of the solvers with two calls a "
        "step, are in `benchmarks/results/few_steps_*.json`."
    ]
    for name, measured in results.items():
        parts += [f"`model={name}`, {measured['steps']} steps:", _make_table(name, read_cells(measured))]
    return "\n" + "\n\n".join(parts) + "\n\n" + _list_imageless(results)


def _make_table(model: str, cells: dict[str, dict[int, Cell]]) -> str:
    cached = cells.pop(CACHE, {})
    chosen = choose_spacings(cells)
    order = sorted(chosen, key=lambda setting: -float(mean([cell.mean for cell in chosen[setting].values()])))
    rows = {OWN[model]: cells[OWN[model]], **{setting: chosen[setting] for setting in order}, CACHE: cached}
    tops = {count: max(row[count].mean for row in rows.values() if count in row) for count in EVALUATIONS}
    lines = [f"| evaluations | {' | '.join(map(str, EVALUATIONS))} |", f"|---|{'---|' * len(EVALUATIONS)}"]
    for setting, row in rows.items():
        texts = [f"**{row[n]}**" if n in row and row[n].mean == tops[n] else str(row.get(n, "")) for n in EVALUATIONS]
        lines.append(f"| `{setting.replace(' ', '` `')}` | {' | '.join(texts)} |")
    return "\n".join(lines)


def _list_imageless(results: dict[str, dict[str, Any]]) -> str:
    """What gives no image, for each model."""
    lines = []
    for name, measured in results.items():
        found = find_imageless(measured)
        listed = [f"`{key}` in {_list_numbers(steps)} steps" for key, (steps, _) in found.items()]
        what = ", ".join(listed) if listed else "none of them"
        lines.append(f"- No image (median below {IMAGE:g}) on `{name}`: {what}.")
    return "\n".join(lines) + "\n"


def _list_numbers(numbers: tuple[int, ...]) -> str:
    """`3, 4 and 6`."""
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


if __name__ == "__main__":
    main()
