"""Published numbers of a strategy: which weights, variants and graphs get them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from wavespeed_runner.caching.calibration.resolve import resolve_cache_numbers
from wavespeed_runner.caching.criteria import published
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import Config
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.registry import find_implementation

FLUX_DEV = "black-forest-labs/FLUX.1-dev"


@pytest.fixture(scope="module", autouse=True)
def composing() -> Iterator[None]:
    with composer(None):
        yield


def config(*overrides: str) -> Config:
    return resolve_config(compose_job(list(overrides), list(overrides)))


def fill(given: Config):
    """The config with its numbers filled in, and what was filled in."""
    return resolve_cache_numbers(given, find_implementation("model", given.model))


def test_a_tiny_run_uses_published_numbers_and_says_that_its_weights_are_random():
    given, resolved = fill(config("model=flux", "model.init=tiny", "cache=magcache"))
    assert given.cache.criterion.ratios == list(published.find_ratios(FLUX_DEV).ratios)
    assert resolved[0].why.endswith("model.init=tiny has random weights")


def test_a_published_polynomial_of_another_watched_input_is_not_used():
    """The one published for HiDream-Dev is for the image tokens; here the time embedding is watched."""
    assert published.find_polynomial("HiDream-ai/HiDream-I1-Dev").watched == "hidden_states"
    with pytest.raises(ConfigError, match=r"cache\.criterion\.coefficients=null: cache=teacache needs a calibration"):
        fill(config("model=hidream_dev", "cache=teacache"))


def test_numbers_of_other_weights_are_told_with_those():
    _, resolved = fill(config("model=lumina2", "cache=teacache"))
    assert resolved[0].why.startswith("published for NietaAniLumina_Alpha_full_round5_ep5_s182000.pth, https://")


def test_an_unknown_variant_is_refused():
    with pytest.raises(ConfigError, match=r"cache\.variant=retsteps: no such polynomial of the modulated input"):
        fill(config("model=flux", "cache=teacache", "cache.variant=retsteps"))


def test_published_numbers_fit_any_step_count_of_their_weights_only():
    given, _ = fill(config("model=flux", "cache=teacache"))
    assert fill(replace(given, steps=20))[1] == []
    with pytest.raises(ConfigError, match=f"cache.calibrated_for=repo={FLUX_DEV}"):
        fill(replace(given, model=replace(given.model, repo="somebody/else")))


def test_the_polynomial_is_that_of_the_signals_variant():
    parts = ("cache=custom", "cache/signal=modulated_input", "cache/criterion=accumulated_polynomial")
    overrides = ("model=wan21", *parts)
    plain = fill(config(*overrides))[0].cache.criterion.coefficients
    other = fill(config(*overrides, "cache.signal.variant=ret_steps"))[0].cache.criterion.coefficients
    assert plain == list(published.find_polynomial("Wan-AI/Wan2.1-T2V-1.3B-Diffusers").coefficients)
    assert other == list(published.find_polynomial("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "ret_steps").coefficients)


def test_published_ratios_are_for_a_whole_schedule():
    with pytest.raises(ConfigError, match=r"cache\.criterion\.ratios=null.*needs a calibration"):
        fill(config("model=flux", "cache=magcache", "graph=image_to_image"))


def test_each_guidance_branch_gets_its_own_ratios():
    given, resolved = fill(config("model=wan21", "cache=magcache"))
    row = published.find_ratios("Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
    assert given.cache.criterion.ratios == list(row.ratios)
    assert given.cache.criterion.ratios_uncond == list(row.ratios_uncond) != list(row.ratios)
    assert resolved[0].why.endswith(row.source)
    keys = ["cache.criterion.ratios", "cache.criterion.ratios_uncond"]
    assert [(change.key, change.value) for change in resolved] == [(key, "[50 numbers]") for key in keys]


def test_a_range_that_nothing_is_clamped_to_is_not_said_to_be_set():
    clamped = ("model=flux", "cache=teacache")
    assert [change.key for change in fill(config(*clamped))[1]] == [
        "cache.criterion.coefficients",
        "cache.criterion.range",
    ]
    assert len(fill(config(*clamped, "cache.criterion.clamp=none"))[1]) == 1


def test_an_image_to_video_runs_a_whole_schedule_from_its_image():
    given, _ = fill(config("model=wan21_i2v_480p", "cache=magcache"))
    assert given.cache.criterion.ratios == list(published.find_ratios("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers").ratios)


def test_of_two_sizes_the_nearer_one():
    large, small = (
        fill(config("model=hunyuan_video", "cache=magcache", f"width={w}", f"height={h}"))[0].cache.criterion.ratios
        for w, h in ((1280, 720), (960, 544))
    )
    assert large != small
    assert [large, small] == [
        list(row.ratios) for row in published.load_ratios() if row.name.startswith("hunyuan_video_")
    ]


def test_ltx_videos_polynomial_is_that_of_version_0_9_1():
    with pytest.raises(ConfigError, match=r"coefficients=null: cache=teacache needs a calibration"):
        fill(config("model=ltx_video", "cache=teacache"))
    given, _ = fill(config("model=ltx_video", "cache=teacache", "model.repo=a-r-r-o-w/LTX-Video-0.9.1-diffusers"))
    assert given.cache.criterion.coefficients[0] == 21.4700694
