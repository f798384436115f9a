"""The tables of docs/fitted_sampling.md on how far fitted numbers carry, from the results of `benchmarks.transfer`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .fitted import OWN, compare
from .transfer import EVALUATIONS


def make_table(results: dict[str, Any]) -> str:
    """A line for each condition: the best plain solvers, ours, and how far ours is above them."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for one in results["settings"]:
        rows.setdefault(one["condition"], {})[one["setting"]] = one
    plain = {int(name.split()[-1]): name for name in rows["as fitted"] if not name.startswith(OWN)}
    heads = [f"`{name}`" for name in plain.values()] + [f"`{name}` {count}" for name, count in EVALUATIONS.items()]
    lines = [f"`model={results['model']}`:", "", f"| | {' | '.join(map(shorten, heads))} |", "|---" * 6 + "|"]
    for condition, found in rows.items():
        cells = [describe(found[name]["ssim"]) for name in plain.values()]
        for name, count in EVALUATIONS.items():
            cells.append(describe_own(found[f"{name} {count}"], found[plain[count]]))
        lines.append(f"| {condition} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *list_refusals(results["settings"]), ""])


def describe_own(one: dict[str, Any], rival: dict[str, Any]) -> str:
    """Figures, with a mark where the shipped numbers are refused, and how far they are above the plain solver's."""
    if "ssim" not in one:
        return "refused"
    low, middle, high = compare(np.array(one["ssim"]), np.array(rival["ssim"]))
    mark = "*" if "refused" in one else ""
    return f"{describe(one['ssim'])}{mark}; {middle:+.3f} [{low:+.3f}, {high:+.3f}]"


def describe(ssim: list[float]) -> str:
    """`.969 / .991 / 4`: mean, median, images below 0.9."""
    from wavespeed_runner.metrics.forks import FORK

    figures = (f"{value:.3f}".removeprefix("0") for value in (np.mean(ssim), np.median(ssim)))
    return f"{' / '.join(figures)} / {sum(value < FORK for value in ssim)}"


def shorten(name: str) -> str:
    return name.replace("sampler.", "").replace("`sampler=unipc", "`unipc")


def list_refusals(settings: list[dict[str, Any]]) -> list[str]:
    """What the difference is that a run is refused for, condition by condition."""
    found: dict[str, str] = {}
    for one in settings:
        if "refused" in one:
            said = one["refused"].partition("does not fit: ")[2].partition("; python")[0] or one["refused"]
            found.setdefault(one["condition"], said)
    return [f'- {condition}: refused, "{said}"' for condition, said in found.items()]
