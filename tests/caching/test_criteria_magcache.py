"""MagCache's published ratios, and the steps that its authors' scripts compute with them."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

from tests.caching.generate import list_computed
from wavespeed_runner.caching.criteria.magnitude_ratio import MagnitudeRatio, MagnitudeRatioCriterion
from wavespeed_runner.caching.criteria.published import MagCacheRatios, find_ratios, load_ratios
from wavespeed_runner.caching.interfaces import StepInfo
from wavespeed_runner.caching.predictors.reuse import Reuse
from wavespeed_runner.caching.signals.block_signals import NoSignal
from wavespeed_runner.caching.strategies import MagCache
from wavespeed_runner.caching.window import CacheHits, is_reuse_allowed
from wavespeed_runner.config.schema import CacheConfig, Rounding
from wavespeed_runner.errors import ConfigError

ROWS = pytest.mark.parametrize("row", load_ratios(), ids=lambda row: row.name)
SCRIPTS = pytest.mark.parametrize(
    "row", [row for row in load_ratios() if row.name != "flux_kontext_20"], ids=lambda row: row.name
)
"""ComfyUI's node for Kontext does not begin anew at the step that it never skips; ours does there too."""


def play_script(ratios: np.ndarray, *, threshold: float, k: int, first: int, kept: int | None = None) -> list[int]:
    """The steps that MagCache's scripts compute, counted from 0, written from their description.

    From step `first` on the ratios are multiplied, and |1 - product| is added up. While the sum is at most the
    threshold, and for at most k steps in a row, the last residual is used; otherwise all begins anew. `kept`: a step of
    28 that is computed whatever the error, as in the FLUX script.
    """
    computed, product, error, run, n = [], 1.0, 0.0, 0, len(ratios)
    for step in range(n):
        skip = False
        if step >= first:
            product, run = product * ratios[step], run + 1
            error += abs(1 - product)
            skip = error <= threshold and run <= k and not (kept and np.round(step * (27 / (n - 1))) == kept)
        if not skip:
            product, error, run = (1.0, 0.0, 0) if step >= first else (product, error, run)
            computed.append(step)
    return computed


def play_ours(options: MagnitudeRatio, window: CacheConfig, steps: int, branch: int = 0) -> list[int]:
    """The steps that we compute, counted from 0."""
    criterion, hits, computed = MagnitudeRatioCriterion(options), CacheHits(), []
    for step in range(steps):
        at = StepInfo(step=step, steps=steps, sigma=nan, branch=branch)
        skip = step > 0 and is_reuse_allowed(window, at, hits) and criterion.should_reuse((), at)
        hits.count(skip)
        if not skip:
            criterion.record_computed(at)
            computed.append(step)
    return computed


@ROWS
def test_a_row_is_complete(row: MagCacheRatios) -> None:
    for ratios in (row.ratios, row.ratios_uncond or row.ratios):
        assert ratios[0] == 1.0 and all(0.5 < ratio < 1.7 for ratio in ratios) and len(ratios) == row.made_for.steps
    assert row.repos and row.settings and row.source.startswith("https://github.com/")
    for setting in row.settings:
        assert setting.threshold > 0 and setting.hits > 0 and 0 < setting.start < 1


@SCRIPTS
@pytest.mark.parametrize("branch", [0, 1])
def test_we_compute_the_steps_of_the_authors_script(row: MagCacheRatios, branch: int) -> None:
    ratios = (row.ratios, row.ratios_uncond or row.ratios)[branch]
    for setting in row.settings:
        steps = len(ratios)
        retained = setting.start * steps
        first = int(retained + 0.5) if row.name.startswith("flux") else int(retained)
        expected = play_script(
            np.array(ratios),
            threshold=setting.threshold,
            k=setting.hits,
            first=first,
            kept=11 if setting.always_computed else None,
        )
        if setting.force_last_step:
            expected = sorted({*expected, steps - 1})
        options = MagnitudeRatio(
            threshold=setting.threshold,
            ratios=list(row.ratios),
            ratios_uncond=list(row.ratios_uncond) if row.ratios_uncond else None,
            always_computed=list(setting.always_computed),
        )
        window = CacheConfig(
            start=setting.start,
            start_rounding=Rounding(setting.start_rounding),
            max_consecutive_cache_hits=setting.hits,
            force_last_step=setting.force_last_step,
        )
        assert play_ours(options, window, steps, branch) == expected, setting


@pytest.mark.parametrize("steps", [20, 28, 30, 50])
def test_the_flux_preset_never_skips_the_twelfth_of_28_steps(steps: int) -> None:
    """Also for other numbers of steps, to which the script stretches its ratios."""
    row = find_ratios("black-forest-labs/FLUX.1-dev")
    assert row is not None
    stretched = np.array(row.ratios)[np.round(np.arange(steps) * (27 / (steps - 1))).astype(int)]
    first = int(0.1 * steps + 0.5)
    expected = play_script(stretched, threshold=0.24, k=5, first=first, kept=11)
    options = MagnitudeRatio(threshold=0.24, ratios=list(row.ratios), always_computed=[12])
    window = CacheConfig(start=first / steps, max_consecutive_cache_hits=5)
    assert play_ours(options, window, steps) == expected
    plain = MagnitudeRatio(threshold=0.24, ratios=list(row.ratios))
    without = play_script(stretched, threshold=0.24, k=5, first=first)
    assert play_ours(plain, window, steps) == without and (steps != 28 or 11 in {*expected} - {*without})


def test_each_guidance_branch_has_its_own_ratios() -> None:
    options = MagnitudeRatio(threshold=0.5, ratios=[1.0, 1.1, 1.1, 1.1], ratios_uncond=[1.0, 2.0, 1.1, 1.1])
    assert play_ours(options, CacheConfig(), 4, branch=0) == [0, 3]
    assert play_ours(options, CacheConfig(), 4, branch=1) == [0, 1]


def test_the_engine_tells_the_branches_apart(guided) -> None:
    options = MagnitudeRatio(threshold=0.5, ratios=[1.0, 1.1, 1.1, 1.1], ratios_uncond=[1.0, 2.0, 1.1, 1.1])
    _, trace = guided.run(MagCache(threshold=0.5, criterion=options, signal=NoSignal(), predictor=Reuse()), steps=4)
    assert list_computed(trace, "cond") == [1, 4]
    assert list_computed(trace, "uncond") == [1, 2]


@pytest.mark.parametrize(
    ("repo", "steps", "pixels", "name"),
    [
        ("Qwen/Qwen-Image", 50, None, "qwen_image"),
        ("Qwen/Qwen-Image", 30, None, "qwen_image_40"),
        ("hunyuanvideo-community/HunyuanVideo", 50, 544 * 960, "hunyuan_video_544p"),
        ("hunyuanvideo-community/HunyuanVideo", 30, 1280 * 720, "hunyuan_video_720p"),
        ("Wan-AI/Wan2.2-TI2V-5B-Diffusers", None, None, "wan22_5b"),
    ],
)
def test_the_row_nearest_to_the_run(repo: str, steps: int | None, pixels: int | None, name: str) -> None:
    row = find_ratios(repo, steps, pixels)
    assert row is not None and row.name == name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratios": [1.0, 1.1], "ratios_uncond": [1.0]}, "ratios_uncond: 1 numbers; as many as cache.criterion.ratios"),
        ({"ratios": [1.0, 1.1], "ratios_uncond": [1.0, -1.0]}, "ratios_uncond=.*numbers above 0"),
        ({"ratios_uncond": [1.0]}, r"needed \(0\); or null"),
        ({"ratios": [1.0, 1.1], "always_computed": [3]}, r"always_computed=\[3\]: steps, counted from 1, of the 2"),
        ({"always_computed": [0]}, r"always_computed=\[0\]: steps, counted from 1"),
    ],
)
def test_lists_that_do_not_fit_are_refused(options: dict[str, list[float]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MagnitudeRatio(**options)
