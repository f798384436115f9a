"""First Block Cache and MagCache against diffusers' own: the same decisions and, to the last bit, the same latents."""

from __future__ import annotations

import pytest
import torch
from diffusers.hooks import FirstBlockCacheConfig, MagCacheConfig
from diffusers.hooks.first_block_cache import FBCHeadBlockHook
from diffusers.hooks.mag_cache import FLUX_MAG_RATIOS

from tests.caching.generate import Generated, fbcache
from wavespeed_runner.caching.criteria import published
from wavespeed_runner.caching.criteria.magnitude_ratio import MagnitudeRatio
from wavespeed_runner.caching.predictors.reuse import Reuse
from wavespeed_runner.caching.signals.block_signals import NoSignal
from wavespeed_runner.caching.strategies import MagCache
from wavespeed_runner.config.schema import Rounding


def run_diffusers(generated: Generated, threshold: float, monkeypatch: pytest.MonkeyPatch, steps: int):
    """Latents and decisions (True: computed) of diffusers' hooks, in the order of the denoiser's calls."""
    decisions: list[bool] = []
    original = FBCHeadBlockHook._should_compute_remaining_blocks

    def record(self, residual):
        decisions.append(original(self, residual))
        return decisions[-1]

    monkeypatch.setattr(FBCHeadBlockHook, "_should_compute_remaining_blocks", record)
    generated.denoiser.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    try:
        return generated.denoise(steps=steps), decisions
    finally:
        generated.denoiser.disable_cache()


@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.5, 0.6, 0.8, 1.5])
@pytest.mark.parametrize("which", ["plain", "guided"])
def test_same_decisions_and_same_latents_as_diffusers(which, threshold, request, monkeypatch):
    generated = request.getfixturevalue(which)
    theirs, decisions = run_diffusers(generated, threshold, monkeypatch, steps=12)
    ours, trace = generated.run(fbcache(threshold), steps=12)
    assert [d.computed for d in trace.decisions] == decisions
    assert torch.equal(ours, theirs)


def test_the_thresholds_above_cover_no_hit_some_hits_and_all_hits(plain, monkeypatch):
    hits = [12 - sum(run_diffusers(plain, t, monkeypatch, steps=12)[1]) for t in (0.1, 0.6, 1.5)]
    assert hits[0] == 0
    assert 0 < hits[1] < 11
    assert hits[2] == 11


def test_guidance_branches_decide_independently(guided):
    _, trace = guided.run(fbcache(0.6), steps=12)
    signals = {branch: [d.signal for d in trace.decisions if d.branch == branch] for branch in ("cond", "uncond")}
    assert len(signals["cond"]) == len(signals["uncond"]) == 12
    assert signals["cond"][1:] != signals["uncond"][1:]


def test_after_ours_is_detached_diffusers_own_cache_works_as_before(plain, monkeypatch):
    before, _ = run_diffusers(plain, 0.6, monkeypatch, steps=12)
    plain.run(fbcache(0.6), steps=12)
    after, _ = run_diffusers(plain, 0.6, monkeypatch, steps=12)
    assert torch.equal(before, after)


@pytest.mark.parametrize(("threshold", "limit", "retention"), [(0.06, 3, 0.2), (0.24, 5, 0.1), (1.0, 9, 0.3)])
@pytest.mark.parametrize("which", ["plain", "guided"])
def test_magcache_gives_the_latents_of_diffusers(which, threshold, limit, retention, request):
    generated = request.getfixturevalue(which)
    blocks = generated.denoiser.transformer_blocks
    computed: list[int] = []
    handle = blocks[1].attn.register_forward_hook(lambda *_: computed.append(1))
    config = MagCacheConfig(threshold, limit, retention, num_inference_steps=28, mag_ratios=FLUX_MAG_RATIOS)
    generated.denoiser.enable_cache(config)
    try:
        theirs = generated.denoise(steps=28)
    finally:
        generated.denoiser.disable_cache()
        handle.remove()
    strategy = MagCache(
        signal=NoSignal(),
        criterion=MagnitudeRatio(
            threshold=threshold, ratios=list(published.find_ratios("black-forest-labs/FLUX.1-dev").ratios)
        ),
        predictor=Reuse(),
        start=retention,
        start_rounding=Rounding.nearest,
        max_consecutive_cache_hits=limit,
    )
    ours, trace = generated.run(strategy, steps=28)
    assert sum(d.computed for d in trace.decisions) == len(computed) < len(trace.decisions)
    assert torch.equal(ours, theirs)
