"""Rules on published numbers: a run that differs from what they are for is told in what, and what they gave there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wavespeed_runner.caching.calibration.resolve import resolve_cache_numbers
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.rules.cache_published import PUBLISHED
from wavespeed_runner.rules.check import Finding, apply_rules

FLUX_MAGCACHE = "https://github.com/Zehong-Ma/MagCache/blob/main/MagCache4FLUX/magcache_flux.py"
WAN_14B = (
    "model=wan21_14b cache=magcache cache.threshold=0.24 cache.start=0.2 cache.max_consecutive_cache_hits=6 width=1280 "
    "height=720"
)
WAN_14B_MEASURED = "which measured 2.8x (A800, 60:04 to 21:40 min, PSNR 24.39)"
WAYS_OUT = {
    "teacache": "cache.calibration=FILE, and `thresholds` with it",
    "magcache": "cache.calibration=FILE, and `thresholds` with it",
    "seacache": "`thresholds`",
    "lemica": "cache=planned",
}


@pytest.fixture(scope="module", autouse=True)
def composing() -> Iterator[None]:
    with composer(None):
        yield


def find_published(text: str) -> Finding | None:
    """What these rules say of a run with the overrides; None: nothing. More than one thing is an error."""
    overrides = text.split()
    config = resolve_config(compose_job(overrides, overrides))
    config, _ = resolve_cache_numbers(config, find_implementation("model", config.model))
    known = [rule.id for rule in PUBLISHED]
    found = [finding for finding in apply_rules(config) if finding.rule in known]
    assert len(found) < 2
    return found[0] if found else None


@pytest.mark.parametrize(
    ("overrides", "measured"),
    [
        ("model=flux cache=teacache", "which measured 1.5x"),
        ("model=flux cache=teacache cache.rel_l1_thresh=0.4", "which measured 1.8x"),
        ("model=flux cache=magcache_flux", "which measured 2.8x (A800, 14.26 to 5.05 s)"),
        ("model=flux cache=fbcache", 'which measured 1.55x (L20, 26.36 to 17.01 s, "nearly zero quality loss")'),
        ("model=flux cache=teacache cache.criterion.clamp=none", "which measured 1.5x"),
        ("model=flux cache=magcache_flux sampler=euler", "which measured 2.8x (A800, 14.26 to 5.05 s)"),
        (WAN_14B, WAN_14B_MEASURED),
        (f"{WAN_14B} sampler=unipc", WAN_14B_MEASURED),
        (f"{WAN_14B} sampler=unipc sampler.shift=5", WAN_14B_MEASURED),
        ("model=wan21_i2v_480p cache=teacache cache.rel_l1_thresh=0.26", "which measured 2.5x"),
        ("model=flux cache=dicache steps=30", "which gives no figures"),
        ("model=flux cache=lemica steps=50", "which gives no figures"),
        # What vLLM-Omni names for these thresholds is of no one model.
        (
            "model=qwen_image cache=teacache cache.rel_l1_thresh=0.4 cache.force_last_step=false width=1024 "
            "height=1024",
            "which gives no figures",
        ),
        # Neither window has an end or a step outside.
        ("model=flux cache=magcache_flux cache.include_end=true", "which measured 2.8x (A800, 14.26 to 5.05 s)"),
        ("model=flux cache=teacache cache.rel_l1_thresh=0.4 cache.force_last_step=false", "which measured 2x"),
        (
            "model=wan21 cache=lemica steps=50 cache.criterion.mask=lemica_wan21_20 sampler=unipc sampler.shift=5.0 "
            "guidance_scale=5",
            "which measured 1.76 to 0.79 min, 2.23x",
        ),
    ],
)
def test_a_run_as_published_is_told_what_to_expect(overrides: str, measured: str) -> None:
    found = find_published(overrides)
    assert found is not None and found.rule == "published-same" and found.verdict == "good"
    assert found.message.endswith(measured) and " as published in https://" in found.message


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("steps=20", "published for steps=28 (here 20); "),
        ("width=512", "published for width=1024 (here 512); "),
        ("height=512", "published for height=1024 (here 512); "),
        ("guidance_scale=5", "published for guidance_scale=3.5 (here 5); "),
        ("sampler=heun", "published for sampler=euler (here heun)"),
        ("sampler=euler sampler.shift=2.0", "published for sampler.shift=the model's own (here 2); "),
        ("sampler=euler_karras", "published for sampler.sigmas=the model's own (here karras); "),
        ("sampler=euler sampler.sigmas=beta", "published for sampler.sigmas=the model's own (here beta); "),
        ("sampler=euler sampler.stochastic=true", "published for sampler.stochastic=false (here true); "),
        (
            "model.true_cfg_scale=2 negative_prompt=blurry",
            "published for model.true_cfg_scale=null (here 2); ",
        ),
        ("model.dtype=float32", "published for model.dtype=bfloat16 (here float32); "),
        ("cache/predictor=taylor", "published for cache/predictor=reuse (here taylor); "),
        ("quant=int8_wo", "published for quant=none (here int8_wo); "),
        ("compile=regional", "published for compile=none (here regional); "),
        ("attention=math", "published for attention=none (here math); "),
        ("accelerate=fuse_qkv", "published for accelerate.fuse_qkv=false (here true); "),
        ("adapters=lora adapters.path=mine.safetensors", "published for adapters=none (here lora); "),
        ("cache.start=0.2", "published for cache.start=0.1 (here 0.2; there 2.8x (A800, 14.26 to 5.05 s)); "),
        ("cache.end=0.9", "published for cache.end=1 (here 0.9; "),
        (
            "cache.include_end=true cache.end=0.9",
            "published for cache.end=1 cache.include_end=false (here 0.9, true; there 2.8x (A800",
        ),
        ("cache.window=sigmas", "published for cache.window=steps (here sigmas; "),
        ("cache.warmup_steps=4", "published for cache.warmup_steps=1 (here 4; "),
        ("cache.force_last_step=true", "published for cache.force_last_step=false (here true; "),
        ("cache.max_consecutive_cache_hits=3", "published for cache.max_consecutive_cache_hits=5 (here 3; "),
        ("cache.threshold=0.1", "published for cache.threshold=0.24 (here 0.1; "),
        ("cache.criterion.always_computed=[]", "published for cache.criterion.always_computed=[12] (here []; "),
    ],
)
def test_each_difference_is_named_with_both_values(override: str, difference: str) -> None:
    found = find_published(f"model=flux cache=magcache_flux {override}")
    assert found is not None and found.rule == "published-differs" and found.verdict == "unverified"
    assert difference in found.message and found.message.endswith(f"({FLUX_MAGCACHE})")
    assert found.fix.startswith("the published values; or values of this run: python -m wavespeed_runner calibrate")


@pytest.mark.parametrize(
    ("overrides", "difference"),
    [
        (
            "model=lumina2 cache=teacache cache.variant=comfy cache.rel_l1_thresh=0.38 cache.start=0.2 cache.end=0.9",
            "cache.end=1 cache.include_end=true cache.force_last_step=false cache.criterion.outside_window=true (here",
        ),
        (
            "model=flux cache=fbcache cache.residual_diff_threshold=0.3",
            "published for cache.residual_diff_threshold=0.12 (here 0.3; there 1.9x (L20, 26.36 to 13.78 s)); speed",
        ),
        (
            "model=lumina2 cache=teacache cache.variant=comfy cache.start=0.2 cache.rel_l1_thresh=0.38",
            "cache.force_last_step=false cache.criterion.outside_window=true (here true, false; there 1.7x)",
        ),
        ("model=flux cache=teacache cache/predictor=taylor", "published for cache/predictor=reuse (here taylor); "),
        (
            "model=flux cache=teacache cache.criterion.clamp=absolute",
            "cache.criterion.clamp=none (here absolute; there 1.5x",
        ),
        ("model=wan21_14b cache=teacache sampler=unipc sampler.shift=3", "sampler.shift=5 (here 3)"),
        ("model=wan21_14b cache=teacache sampler=unipc_karras", "sampler.sigmas=the model's own (here karras)"),
        ("model=wan21_i2v_480p cache=teacache model.shift=5", "sampler.shift=3 (here 5)"),
        ("model=wan21 cache=teacache", "sampler.shift=5 (here 8)"),
        ("model=flux cache=seacache", "cache/signal=filtered modulated input (here filtered_latents)"),
        ("model=flux cache=seacache", "cache/predictor=reuse (here taylor)"),
        ("model=flux cache=lemica steps=50 cache/predictor=taylor", "cache/predictor=reuse (here taylor)"),
        ("model=hunyuan_video cache=easycache", "width=960 (here 1280), height=544 (here 720), cache.threshold=0.025"),
        ("model=wan21 cache=magcache sampler=unipc num_frames=17", "num_frames=81 (here 17)"),
        (
            "model=lumina2 cache=teacache cache.rel_l1_thresh=0.3",
            "published for model.repo=NietaAniLumina_Alpha_full_round5_ep5_s182000.pth (here Alpha-VLLM/Lumina-Image-"
            "2.0), model.cfg_trunc_ratio=1 (here 0.25); ",
        ),
        ("model=lumina2 cache=teacache cache.variant=v1 steps=30", "Lumina-Image-2.0), steps=50 (here 30), model.cfg"),
        (
            "model=lumina2 cache=teacache cache.variant=comfy model.cfg_trunc_ratio=1",
            "published for steps=30 (here 50), sampler=res_multistep (here default), cache.rel_l1_thresh=0.38 ",
        ),
        (
            "model=qwen_image cache=teacache",
            "width=1024 (here 1328), height=1024 (here 1328), cache.rel_l1_thresh=0.2 cache.force_last_step=false "
            "(here 0.25, true; there 1.91x (H200, 20.0 s of diffusers to 10.47 s of vLLM-Omni)); ",
        ),
        ("model=hidream cache=teacache steps=30", "published for steps=50 (here 30), cache.start=0.1 "),
        ("model=flux_kontext cache=teacache", "published for steps=28 (here 30), cache.rel_l1_thresh=0.22 "),
        (
            "model=ltx_video model.repo=a-r-r-o-w/LTX-Video-0.9.1-diffusers cache=teacache cache.rel_l1_thresh=0.05",
            "published for width=768 (here 704); ",
        ),
    ],
)
def test_what_else_may_differ(overrides: str, difference: str) -> None:
    found = find_published(overrides)
    assert found is not None and found.rule == "published-differs" and difference in found.message
    strategy = next(word for word in overrides.split() if word.startswith("cache=")).partition("=")[2]
    assert found.fix.endswith(f"then {WAYS_OUT.get(strategy, '`thresholds`')}")


def test_a_list_of_other_weights_is_told_with_those_of_these() -> None:
    found = find_published("model=flux2 cache=lemica steps=50")
    assert found is not None and found.rule == "published-weights" and found.verdict == "unverified"
    assert found.message.startswith(
        "cache.criterion.mask=lemica_flux_medium: steps that were found for black-forest-labs/FLUX.1-dev; other weights"
    )
    assert found.fix.startswith(
        "cache.criterion.mask=lemica_flux2_slow, lemica_flux2_medium, lemica_flux2_fast of black-forest-labs/FLUX.2-dev"
    )
    without = find_published("model=sd35_large cache=lemica steps=50")
    assert without is not None and without.fix.startswith("python -m wavespeed_runner calibrate")


@pytest.mark.parametrize(
    ("hits", "there"), [(4, "2.8x (A800, 189 to 68 s, PSNR 18.93)"), (2, "2.2x (A800, 189 to 87 s, PSNR 20.51)")]
)
def test_of_several_settings_the_nearest_speaks(hits: int, there: str) -> None:
    found = find_published(
        f"model=wan21 cache=magcache cache.threshold=0.12 cache.start=0.3 cache.max_consecutive_cache_hits={hits}"
    )
    assert found is not None and f"cache.start=0.2 (here 0.3; there {there})" in found.message


@pytest.mark.parametrize(
    "overrides",
    [
        "model=flux cache=wavespeed",  # watches another signal
        "model=flux_schnell cache=fbcache",
        "model=flux cache=step_mask",
        "model=flux cache=magcache_flux model.init=tiny",
        "model=flux cache=none",
        "model=flux cache=custom cache.criterion.threshold=0.1",
        "model=qwen_image cache=dicache",
        "model=flux cache=teacache cache.criterion.coefficients=[1.0,0.0]",
    ],
)
def test_without_numbers_of_these_weights_nothing_is_said(overrides: str) -> None:
    assert find_published(overrides) is None


def test_every_rule_is_met_above() -> None:
    assert [rule.id for rule in PUBLISHED] == ["published-weights", "published-differs", "published-same"]
