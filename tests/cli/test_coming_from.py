"""docs/coming_from.md: every row can be planned, and the steps that it names are those of the other tool's rule.

The replicas below are written from the descriptions of the rules in `coming_from.yaml`, for changes that always allow
reuse; steps are counted from 0 in them.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import FlowMatchEulerDiscreteScheduler

from wavespeed_runner.caching.calibration.resolve import resolve_cache_numbers
from wavespeed_runner.caching.interfaces import StepInfo
from wavespeed_runner.caching.window import CacheHits, ask
from wavespeed_runner.cli.support_coming_from import AGREE, _shorten, describe_tools, read_tools
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import CacheConfig, Window
from wavespeed_runner.config.unknown_keys import NOTES
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.rules.cache_calls import count_steps_by_stage
from wavespeed_runner.rules.check import apply_rules
from wavespeed_runner.samplers.progress import measure_progress
from wavespeed_runner.sweeps.jobs import plan_jobs

ROWS = [(tool["tool"], row) for tool in read_tools() for row in tool["rows"]]
MU = 1.15
"""ComfyUI's shift of FLUX."""
IDS = [f"{tool}: {row['theirs']}" for tool, row in ROWS]
SUPPORT = Path(__file__).parents[2] / "docs" / "support.md"
May = Callable[[int, int, int, int], bool]
"""(step, steps, hits in a row so far, hits so far) -> whether the other tool may skip a step."""


def window(low: float, high: float, most: int = 10**6) -> May:
    return lambda step, steps, row, hits: low <= step / steps <= high and row < most


def between_levels(start: float, end: float, most: int) -> May:
    """Noise levels between those of two shares of sampling (`percent_to_sigma`), of FLUX's own spacing."""

    def level(t: float) -> float:
        return exp(MU) / (exp(MU) + 1 / t - 1)

    return lambda step, steps, row, hits: level(1 - end) <= level(1 - step / steps) <= level(1 - start) and row < most


def warm(first: int, most: int = 10**6, total: int = 10**6, last: bool = False) -> May:
    return lambda step, steps, row, hits: (
        step >= first and row < most and hits < total and not (last and step == steps - 1)
    )


def every(interval: int) -> May:
    return lambda step, steps, row, hits: step % interval != 0


def masked(text: str) -> May:
    return lambda step, steps, row, hits: text[step] == "0"


RULES: dict[str, May] = {
    "Comfy-WaveSpeed: FLUX.1-dev: residual_diff_threshold 0.12, the rest as it comes": window(0, 1),
    "Comfy-WaveSpeed: FLUX.1-dev: 0.12, start 0.2, end 0.8, max_consecutive_cache_hits 5": between_levels(0.2, 0.8, 5),
    "Comfy-WaveSpeed: SDXL: 0.2, 25 steps": window(0, 1),
    "Comfy-WaveSpeed: SD3.5 large: 0.12": window(0, 1),
    "Comfy-WaveSpeed: HunyuanVideo: 0.1": window(0, 1),
    "TeaCache: FLUX: rel_l1_thresh 0.6": warm(1, last=True),
    "TeaCache: Wan 2.1 1.3B without use_ret_steps, teacache_thresh 0.08": warm(1, last=True),
    "TeaCache: Wan 2.1 1.3B with use_ret_steps, teacache_thresh 0.05": warm(5),
    "TeaCache: HiDream-I1-Full: 0.3": window(0.1, 1),
    "ComfyUI-TeaCache: FLUX: 0.4, start_percent 0, end_percent 1": window(0, 1),
    "ComfyUI-TeaCache: FLUX: start_percent 0.2, end_percent 0.8": window(0.2, 0.8),
    "ComfyUI-TeaCache: Wan 2.1 t2v 14B: 0.2": window(0, 1),
    "LightDiffusion-Next: balanced: interval 3, depth 2, Euler": every(3),
    "LightDiffusion-Next: max speed: interval 5, depth 3, Euler": every(5),
    "LightDiffusion-Next: max quality: interval 2, depth 1, Euler": every(2),
    "LightDiffusion-Next: interval 3, DPM++ 2M with Karras spacing": every(3),
    "cache-dit: F1B0, W4, MC4, residual_diff_threshold 0.08, TaylorSeer of order 1": warm(4, most=4),
    "cache-dit: F8B0, W8, the defaults": warm(8),
    "cache-dit: F8B8, W8, MC2": warm(8, most=2),
    "cache-dit: max_cached_steps 10": warm(4, total=10),
    "cache-dit: steps_mask fast, 28 steps, TaylorSeer": masked("1111110100010000100000100001"),
    "ParaAttention: residual_diff_threshold 0.08 on FLUX.1-dev": warm(1),
    "diffusers: FirstBlockCacheConfig(threshold=0.05)": warm(1),
    "diffusers: TaylorSeerCacheConfig(cache_interval=6)": lambda step, steps, row, hits: (
        step >= 3 and (step - 3 - 1) % 6 != 0  # three computed, then from the second after them every sixth
    ),
    "pruna: deepcache, deepcache_interval 2": every(2),
}
"""Rows whose rule is one of window and limits alone. MagCache's depends on its ratios, see below."""


def plan(ours: str) -> Plan:
    init = "random" if "blocks=" in ours else "tiny"  # a tiny model has too few blocks
    overrides = [*ours.split(), f"model.init={init}", "prompt=x", "dry_run=true"]
    (job,) = plan_jobs(Namespace(overrides=overrides, config_dir=None, multirun=False))
    assert job.plan is not None, job.skipped
    return job.plan


def replicate(may: May, steps: int) -> list[int]:
    row = hits = 0
    computed = []
    for step in range(steps):
        skipped = step > 0 and may(step, steps, row, hits)
        row, hits = (row + 1, hits + 1) if skipped else (0, hits)
        if not skipped:
            computed.append(step + 1)
    return computed


def compute_ours(cache: CacheConfig, steps: int, mu: float = MU) -> list[int]:
    """As the engine asks, with changes of nothing at every step."""
    criterion: Any = find_implementation("cache/criterion", cache.criterion)(cache.criterion)
    numbers: tuple[float, ...] = {"nothing": (), "model": (0.0, 0.0)}.get(criterion.watches, (0.0,))
    if criterion.watches != "nothing":
        criterion.threshold = float("inf")
    progress: list[float] = []
    if cache.window is not Window.steps:
        scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
        scheduler.last_mu = mu
        progress = measure_progress(scheduler, Window.sigmas, flow=True)
    hits, computed = CacheHits(), []
    for step in range(steps):
        at = StepInfo(step=step, steps=steps, sigma=0.0, progress=progress[step] if progress else None)
        skipped = ask(criterion, cache, numbers if step else None, at, hits)
        hits.count(skipped)
        if not skipped:
            criterion.record_computed(at)
            computed.append(step + 1)
    return computed


@pytest.mark.parametrize(("tool", "row"), ROWS, ids=IDS)
def test_a_row_can_be_planned_and_computes_what_the_other_tool_does(tool: str, row: dict[str, Any]) -> None:
    config = plan(row["ours"]).config
    cache = config.cache
    assert row.get("steps", config.steps) == config.steps, "so many does the command run"
    assert ("computed" in row) is (f"{tool}: {row['theirs']}" in RULES or tool == "MagCache")
    if "computed" in row:
        if tool != "MagCache":
            assert replicate(RULES[f"{tool}: {row['theirs']}"], row["steps"]) == row["computed"], "theirs"
        assert compute_ours(cache, row["steps"]) == row["computed"], "ours"


def test_at_30_steps_of_flux_the_size_decides_which_steps_are_in_the_window() -> None:
    row = next(row for _, row in ROWS if row["ours"] == "model=flux cache=wavespeed")
    for size in (512, 1024):
        mu = 0.5 + (MU - 0.5) * ((size // 16) ** 2 - 256) / (4096 - 256)  # the shift of FLUX.1-dev's repository
        computed = compute_ours(plan(row["ours"]).config.cache, 30, mu)
        assert f"{_shorten(computed)}{' are computed' * (size == 512)} at {size}" in row["note"]


def test_denoise_is_told_with_the_steps_that_run_there() -> None:
    comfy = next(tool for tool in read_tools() if tool["tool"] == "ComfyUI")
    said = r"30 (?:steps at denoise |at )0.6 are steps=(\d+) strength=([\d.]+\d)"
    for text in (comfy["about"], NOTES["denoise"]):
        ((steps, strength),) = re.findall(said, " ".join(text.split()))
        assert int(steps) == round(30 / 0.6) and int(int(steps) * float(strength)) == 30


@pytest.mark.parametrize(
    "row",
    [row for tool, row in ROWS if tool == "ComfyUI" and "denoise" in row["theirs"]],
    ids=lambda row: row["theirs"],
)
def test_at_a_denoise_as_many_steps_run_as_there(row: dict[str, Any]) -> None:
    steps, denoise = re.findall(r"(\d+) steps, denoise ([\d.]+)", row["theirs"])[0]
    config = plan(row["ours"]).config
    assert config.steps == int(int(steps) / float(denoise))
    assert count_steps_by_stage(config, find_implementation("model", config.model)) == [int(steps)]


@pytest.mark.parametrize("row", [row for tool, row in ROWS if tool == "MagCache"], ids=lambda row: row["theirs"])
def test_magcache_computes_what_its_scripts_do_with_their_ratios(row: dict[str, Any]) -> None:
    """Their rule: ratios multiply, distances from 1 add up; at most K skips in a row, none in the first part.

    FLUX's script rounds to the nearest number of steps, the others down, and never skips the 12th of 28 steps.
    """
    theirs = row["theirs"] if "thresh" in row["theirs"] else "FLUX.1-dev: thresh 0.24, K 5, retention_ratio 0.1"
    threshold, most, retention = map(float, re.findall(r"(?:thresh|K|ratio) ([\d.]+)", theirs))
    half, steps = (0.5, row["steps"]) if theirs.startswith("FLUX") else (0.0, row["steps"])
    always = [step for step in range(steps) if round(step * 27 / (steps - 1)) == 11] if half else []
    ratios = plan(row["ours"]).config.cache.criterion.ratios  # type: ignore[union-attr]
    assert ratios
    ratios = [ratios[round(step * (len(ratios) - 1) / (steps - 1))] for step in range(steps)]  # `nearest_interp`
    ratio, error, skips, computed = 1.0, 0.0, 0, []
    for step in range(steps):
        if step >= int(retention * steps + half):
            ratio, skips = ratio * ratios[step], skips + 1
            error += abs(1 - ratio)
            if error <= threshold and skips <= most and step not in always:
                continue
        ratio, error, skips = 1.0, 0.0, 0
        computed.append(step + 1)
    assert computed == row["computed"]


NODE = [row for tool, row in ROWS if tool == "ComfyUI-TeaCache"]


@pytest.mark.parametrize("row", NODE, ids=lambda row: row["theirs"])
def test_teacache_s_node_is_judged_by_its_own_window(row: dict[str, Any]) -> None:
    """What the node publishes is `published-same`, and else the window differs only where another was typed."""
    with composer(None):
        overrides = row["ours"].split()
        config = resolve_config(compose_job(overrides, overrides))
        config, _ = resolve_cache_numbers(config, find_implementation("model", config.model))
        (found,) = [finding for finding in apply_rules(config) if finding.rule.startswith("published-")]
    assert "https://github.com/welltop-cn/ComfyUI-TeaCache/" in found.message
    named = set(re.findall(r"(cache\.[\w.]+)=", found.message))
    assert named == ({"cache.start", "cache.end"} if "cache.start" in row["ours"] else set())
    assert (found.rule == "published-same") is ("FLUX: 0.4" in row["theirs"])


def test_support_lists_the_node_s_settings_as_they_are_typed() -> None:
    """`support flux` and docs/coming_from.md name one setting of the cache, key by key."""
    settings = {
        frozenset(word for word in match.split() if word.startswith("cache"))
        for match in re.findall(r"`(cache=teacache [^`]*)`", SUPPORT.read_text(encoding="utf-8"))
    }
    rows = [row["ours"].split() for row in NODE if "cache.start" not in row["ours"]]
    assert rows and all(frozenset(row) - {row[0]} in settings for row in rows)


def test_a_threshold_of_1_is_compared_like_any_other() -> None:
    cache_dit = next(tool for tool in read_tools() if tool["tool"] == "cache-dit")
    criterion = plan("model=flux cache=dbcache cache.residual_diff_threshold=1").config.cache.criterion
    always = plan("model=flux cache=dbcache cache.residual_diff_threshold=1000").config.cache.criterion
    at = StepInfo(step=5, steps=28, sigma=0.5)
    made: Any = find_implementation("cache/criterion", criterion)
    assert not made(criterion).should_reuse((1.09,), at) and made(always).should_reuse((1.09,), at)
    assert "cache.residual_diff_threshold=1000 reuses always" in " ".join(cache_dit["about"].split())


def test_rows_say_how_much_they_agree_and_why_not_wholly() -> None:
    assert all(row["agree"] in AGREE and (row["agree"] == "same" or row.get("note")) for _, row in ROWS)
    assert set(RULES) <= set(IDS)


def test_the_page_is_what_the_command_prints() -> None:
    page = Path(__file__).parents[2] / "docs" / "coming_from.md"
    assert page.read_text(encoding="utf-8").rstrip() == describe_tools()
