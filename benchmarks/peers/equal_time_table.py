"""The tables of docs/fitted_sampling.md on fitted samplers and caches beside what others reach in the same time."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.fitted import OWN, compare

ALLOWED = 0.02
"""A rival may take so much of the full run's time more: times are no more exact than that."""
DRAWS = 2_000


def make_table(results: dict[str, Any]) -> str:
    """One line for each of ours: its figures, and the best peer and plain solver that take no longer."""
    able = [one for one in results["settings"] if "cannot" not in one]
    full = next(one for one in able if one["by"] == "reference")
    times = {one["name"]: find_time(one, full, results["rounds"]) for one in able}
    rivals = {by: [one for one in able if one["by"] == by] for by in ("theirs", "plain")}
    head = "| | time | mean / median | best peer: mean | median | best plain solver: mean | median |"
    lines = [f"`model={results['model']}`, {results['steps']} steps:", "", head, "|---" * 7 + "|"]
    for one in (one for one in able if one["group"] in OWN):
        cells = [f"`{one['group']}` {one['name'].split()[-1]}", f"{100 * times[one['name']]:.0f} %"]
        cells.append(f"{show(np.mean(one['ssim']))} / {show(np.median(one['ssim']))}")
        for some in rivals.values():
            cells += describe_rivals(one, [other for other in some if is_rival(other, one, times)], times)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *list_those_that_cannot(results), ""])


def find_time(one: dict[str, Any], full: dict[str, Any], lengths: list[int]) -> float:
    """Share of the full run's time: median of the rounds' shares, as `figures` has it."""
    ends = np.cumsum(lengths)[:-1]
    own, theirs = (np.array([part.sum() for part in np.split(np.array(s["cpu_seconds"]), ends)]) for s in (one, full))
    return float(np.median(own / theirs))


def is_rival(other: dict[str, Any], one: dict[str, Any], times: dict[str, float]) -> bool:
    """Whether it takes no longer; solvers with as many evaluations do not, whatever the clock says."""
    if one["steps"] and other["steps"] and other["steps"] <= one["steps"]:
        return True
    return times[other["name"]] <= times[one["name"]] + ALLOWED


def describe_rivals(one: dict[str, Any], rivals: list[dict[str, Any]], times: dict[str, float]) -> list[str]:
    """The rival of best mean and that of best median, and how far ours is above each."""
    if not rivals:
        return ["none so fast", ""]
    cells = []
    for figure in ("mean", "median"):
        of = getattr(np, figure)
        best = max(rivals, key=lambda other: of(other["ssim"]))
        low, middle, high = (
            compare(np.array(one["ssim"]), np.array(best["ssim"]))
            if figure == "mean"
            else compare_medians(one["ssim"], best["ssim"])
        )
        text = f"{show(of(best['ssim']))}; {middle:+.3f} [{low:+.3f}, {high:+.3f}]"
        cells.append(f"{text} (`{shorten(best['name'])}`, {100 * times[best['name']]:.0f} %)")
    return cells


def compare_medians(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Difference of the medians, and its 95 % interval over captions, which are drawn in pairs."""
    pairs = np.stack([ours, theirs])
    rng = np.random.default_rng(0)
    drawn = np.median(pairs[:, rng.integers(0, len(ours), (DRAWS, len(ours)))], axis=2)
    low, high = np.quantile(drawn[0] - drawn[1], (0.025, 0.975))
    return float(low), float(np.median(ours) - np.median(theirs)), float(high)


def show(value: Any) -> str:
    return f"{value:.3f}".removeprefix("0")


def shorten(name: str) -> str:
    return name.replace("sampler.", "").replace("sampler=", "").replace("diffusers ", "")


def list_those_that_cannot(results: dict[str, Any]) -> list[str]:
    """Peers that cannot do the model, reason by reason."""
    names: dict[str, list[str]] = {}
    for one in results["settings"]:
        if "cannot" in one:
            names.setdefault(one["cannot"], []).append(one["name"])
    return [f"- {', '.join(found)}: {reason}" for reason, found in names.items()]
