"""docs/cache_benchmark.md: the tables of every model that has results."""

from __future__ import annotations

from collections.abc import Iterable

from .figures import Point, Results, lowest_error, lowest_share

LEVELS = (0.99, 0.97, 0.95, 0.90)
SHARES = (0.5, 0.4, 0.35, 0.3, 0.25, 0.2)
HEAD = """# The cache engine compared with its peers

Made by `python -m benchmarks.peers.plot` from `benchmarks/results/peers_*.json`; not written by hand. Weights,
prompts and seeds are the same for all, on one thread, and everything is compared with the uncached image of full
steps. *Fewer steps* means fewer steps of the model's own sampler (Euler for the FLUX models): a solver such as UniPC
does better than Euler at few steps and is not in these tables, nor are fitted samplers and caches: these are beside the
best of the settings here [in the same time](fitted_sampling.md#beside-caches-of-others-in-the-same-time), with today's
calibrations. `planned` of the demo models was measured here with earlier ones,
of 8 captions and without what an error at each step costs; `dicache` before it computed the steps of
DiCache's script (its last step, its first skip). Share: the part of that image's block computations
that ran, mean over the prompts. Error: mean|x - r| / mean|r| of the final latents. Time: CPU seconds of denoising,
one thread, median over the rounds (lowest to highest).
"""


def page(models: dict[str, Results]) -> str:
    """The whole file."""
    return "\n".join([HEAD, *(_model(name, results) for name, results in models.items())])


def _model(name: str, results: Results) -> str:
    raw = results.raw
    versions, peers = raw["environment"]["versions"], raw["environment"]["peers"]
    used = {"torch": versions["torch"], "diffusers": versions["diffusers"], **peers}
    parts = [
        f"## {name}\n",
        f"![What quality costs](cache_pareto_{name}.png)\n",
        f"`{raw['command']}`: {sum(raw['rounds'])} prompts, {raw['steps']} steps, "
        f"{raw['environment']['device_name']}; {', '.join(f'{package} {number}' for package, number in used.items())}. "
        f"A share counts {raw['unit']}.\n",
        _levels(results) if results.metric == "ssim" else _errors(results),
        _against(results),
        _costs(results),
        _same(results),
        _cannot(results),
        _settings(results),
    ]
    return "\n".join(part for part in parts if part)


def _levels(results: Results) -> str:
    """Lowest share for each level of mean SSIM; the best of each column is bold."""
    rows = {group: [lowest_share(results.of(group), level) for level in LEVELS] for group in results.groups()}
    best = [_least(column) for column in zip(*rows.values(), strict=True)]
    lines = _table(
        ["", *(f"SSIM {level:g}" for level in LEVELS)],
        ([group, *(_percent(v, v == best[i]) for i, v in enumerate(row))] for group, row in rows.items()),
    )
    return f"Lowest computed share at which the mean SSIM reaches the level (-: no setting tried does):\n\n{lines}"


def _errors(results: Results) -> str:
    """Lowest error for each share; the best of each column is bold."""
    rows = {}
    for group in results.groups():
        found = [lowest_error(results.of(group), share) for share in SHARES]
        rows[group] = [point.error if point else None for point in found]
    best = [_least(column) for column in zip(*rows.values(), strict=True)]
    lines = _table(
        ["", *(f"≤ {share:.0%}" for share in SHARES)],
        ([group, *(_number(v, v == best[i]) for i, v in enumerate(row))] for group, row in rows.items()),
    )
    return f"Lowest error at a computed share of at most (-: no setting tried computes so little):\n\n{lines}"


def _against(results: Results) -> str:
    """Every method's settings against our best at no more computation: how often ours is better, and the worst case."""
    ours = [point for point in results.points if point.by == "ours"]
    if not ours:
        return ""
    rows = []
    for group in results.groups():
        ratios = []
        for point in results.of(group):
            beside = lowest_error(ours, point.share)
            # A setting that skips nothing has no error, and nothing can be below that.
            if point.by != "ours" and beside and point.error > 0:
                ratios.append((beside.error / point.error, point, beside))
        if ratios:
            worst, point, beside = max(ratios, key=lambda item: item[0])
            better = sum(ratio <= 1 for ratio, *_ in ratios)
            half = sum(ratio <= 0.5 for ratio, *_ in ratios)
            rows.append(
                [group, f"{better} of {len(ratios)}", f"{half}", f"{worst:.2f}", f"{point.name} / {beside.name}"]
            )
    lines = _table(["", "our error not higher", "at most half", "worst ratio", "where (theirs / ours)"], rows)
    return f"Our least error at no more computation than each setting of theirs, divided by theirs:\n\n{lines}"


def _costs(results: Results) -> str:
    """What each rule itself takes in a call of the denoiser."""
    kinds = ("computed", "skipped")
    able = {name: cost for name, cost in results.costs.items() if cost}
    rows = ([name, *(f"{cost[kind]:.0f}" if kind in cost else "-" for kind in kinds)] for name, cost in able.items())
    lines = _table(["", "computed call", "skipped call"], rows)
    return f"CPU microseconds of a call of the denoiser outside its blocks, median:\n\n{lines}" if results.costs else ""


def _same(results: Results) -> str:
    """Settings of different methods whose latents are the same bits for every prompt."""
    by_latents: dict[tuple[str, ...], list[Point]] = {}
    for point in results.points:
        if point.share < 1 and point.by != "fewer steps":
            by_latents.setdefault(point.latents, []).append(point)
    lines = []
    for points in by_latents.values():
        one_of_each = {point.group: point.name for point in points}
        if len(one_of_each) > 1:
            lines.append("- " + " = ".join(one_of_each.values()))
    return "Latents equal to the last bit for every prompt:\n\n" + "\n".join(lines) + "\n" if lines else ""


def _cannot(results: Results) -> str:
    """Reason by reason."""
    names: dict[str, list[str]] = {}
    for name, reason in results.cannot.items():
        names.setdefault(reason, []).append(name)
    lines = [f"- {', '.join(found)}: {reason}" for reason, found in names.items()]
    return "Cannot do this model, in their own words:\n\n" + "\n".join(lines) + "\n" if lines else ""


def _settings(results: Results) -> str:
    quality = ["SSIM mean", "median", "10th percentile"] if results.metric == "ssim" else []
    rows = []
    for point in results.points:
        middle, least, greatest = point.seconds
        row = [point.name, _percent(point.share), _number(point.error)]
        row += [f"{point.quality[name]:.4f}" for name in ("mean", "median", "tail")] if quality else []
        rows.append([*row, f"{middle:.3f} ({least:.3f}-{greatest:.3f})", f"{point.time:.2f}"])
    lines = _table(["setting", "share", "error", *quality, "seconds", "of uncached"], rows)
    return f"<details><summary>Every setting</summary>\n\n{lines}\n</details>\n"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _least(column: Iterable[float | None]) -> float | None:
    return min((value for value in column if value is not None), default=None)


def _percent(value: float | None, bold: bool = False) -> str:
    return "-" if value is None else _marked(f"{100 * value:.1f} %", bold)


def _number(value: float | None, bold: bool = False) -> str:
    return "-" if value is None else _marked(f"{value:.5f}", bold)


def _marked(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text
