"""Draws docs/cache_pareto_MODEL.png and writes docs/cache_benchmark.md from the results that there are.

    python -m benchmarks.peers.plot [--results DIR] [--docs DIR]

Quality against computed share and against time: ours, theirs, and plain fewer steps. Points are settings, lines the
Pareto front of each method.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .__main__ import RESULTS
from .figures import Point, Results, front, load

DOCS = Path(__file__).parents[2] / "docs"
MODELS = ("demo", "demo_unet", "tiny_flux")
COLOURS = {
    "ours": (
        *("#d1123f", "#ff7f0e", "#8c1a6a", "#e3559b", "#b8860b", "#7f0000", "#ff7f96", "#c71585", "#a0522d", "#f2b100"),
    ),
    "cache-dit": ("#9ecae1", "#3182bd", "#08306b", "#6baed6", "#4f9dbf", "#756bb1", "#54278f"),
    "diffusers": ("#a1d99b", "#41ab5d", "#006d2c", "#1f8f7f"),
    "ParaAttention": ("#c7a76c", "#7f5a1a"),
    "DeepCache": ("#2b7bba",),
}
"""A family of colours for each package."""
SSIM_TICKS = (0.7, 0.8, 0.9, 0.95, 0.97, 0.99, 0.997, 0.999)
COLUMNS = {"ssim": ("mean", "median", "10th percentile"), "error": ("mean", "median", "90th percentile")}
X_AXES = {"share": "computed share (%)", "time": "time (% of uncached)"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    args = parser.parse_args()
    from .table import page

    models = {name: load(name, args.results) for name in MODELS if (args.results / f"peers_{name}.json").exists()}
    if not models:
        raise SystemExit(f"no peers_*.json in {args.results}; first: python -m benchmarks.peers")
    for name, results in models.items():
        draw(name, results, args.docs / f"cache_pareto_{name}.png")
    (args.docs / "cache_benchmark.md").write_text(page(models), encoding="utf-8")
    print(args.docs / "cache_benchmark.md")


def draw(name: str, results: Results, target: Path) -> None:
    """Two rows (share, time) of three panels (mean, median, tail)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(15, 10.5), sharey=True, layout="constrained")
    styles = style(results)
    for row, cost in zip(axes, X_AXES, strict=True):
        for panel, statistic, title in zip(row, ("mean", "median", "tail"), COLUMNS[results.metric], strict=True):
            for group in results.groups():
                curve(panel, results.of(group), cost, statistic, results.metric, styles[group])
            panel.set(xlabel=X_AXES[cost], title=title, xlim=(8, 88))
            panel.grid(which="major", alpha=0.35, linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("SSIM against the uncached image" if results.metric == "ssim" else "error of the latents")
    scale(axes[0][0], results)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=10)
    prompts = sum(results.raw["rounds"])
    figure.suptitle(f"{name}, {results.raw['steps']} steps: quality of {prompts} images, up and left is better")
    figure.savefig(target, dpi=110)
    plt.close(figure)


def loss(value: float, metric: str) -> float:
    """What the vertical axis measures: 1 - SSIM, or the error; kept off zero, which a logarithm cannot show."""
    return max(1 - value if metric == "ssim" else value, 1e-7)


def curve(panel: Any, points: list[Point], cost: str, statistic: str, metric: str, style: dict[str, Any]) -> None:
    """The settings of one method, and their front as a line."""
    pairs = [(100 * getattr(point, cost), loss(point.quality[statistic], metric)) for point in points]
    marks = {"color": style["color"], "marker": style["marker"], "zorder": style["zorder"]}
    panel.scatter(*zip(*pairs, strict=True), s=9, alpha=0.35, linewidths=0, **marks)
    line = {name: value for name, value in style.items() if name != "marker"}
    panel.plot(*zip(*front(pairs), strict=True), marker=style["marker"], markersize=style["linewidth"] + 1.6, **line)


def scale(panel: Any, results: Results) -> None:
    """Logarithmic in the loss, better upwards; for SSIM with its own values as ticks."""
    panel.set_yscale("log")
    if results.metric == "error":
        panel.set_ylim(0.05, 1e-4)
        return
    panel.set_ylim(1 - SSIM_TICKS[0], (1 - SSIM_TICKS[-1]) / 1.5)
    panel.set_yticks([1 - tick for tick in SSIM_TICKS], [f"{tick:g}" for tick in SSIM_TICKS])
    panel.minorticks_off()


def style(results: Results) -> dict[str, dict[str, Any]]:
    """Each method's line: packages by colour, ours thick and on top, fewer steps black."""
    by = {point.group: point.by for point in results.points}
    used = dict.fromkeys(COLOURS, 0)
    found: dict[str, dict[str, Any]] = {}
    for group in results.groups():
        if by[group] == "fewer steps":
            found[group] = {"color": "black", "linewidth": 2.0, "linestyle": "--", "marker": "x", "zorder": 4}
        else:
            package = "ours" if by[group] == "ours" else next(name for name in COLOURS if group.startswith(name))
            colour = COLOURS[package][used[package] % len(COLOURS[package])]
            used[package] += 1
            thick = group.startswith("ours: planned")
            found[group] = {"color": colour, "linewidth": 2.8 if thick else 1.3, "zorder": 5 if thick else 3}
            found[group] |= {"linestyle": "-", "marker": "s" if "mask" in group else "o"}
        found[group]["label"] = group
    return found


if __name__ == "__main__":
    main()
