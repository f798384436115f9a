"""diffusers' own strategies: pipelines and options that they cannot work with are refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from diffusers.hooks import FasterCacheConfig, PyramidAttentionBroadcastConfig

from tests.caching.attention_hooks import FASTER, PAB, STEPS, count_attention_rows, load_tiny, run, run_by_diffusers
from tests.caching.generate import fbcache
from wavespeed_runner.caching import GenerationInfo
from wavespeed_runner.caching.attach.diffusers_hooks import attach_diffusers_hooks
from wavespeed_runner.caching.attach.diffusers_options import FasterCache, PyramidAttentionBroadcast
from wavespeed_runner.caching.signals.block_signals import FirstBlockResidual
from wavespeed_runner.config.schema import CacheConfig
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.registry import find_implementation


@pytest.mark.parametrize("cache", [PAB, FASTER])
def test_a_pipeline_that_calls_once_for_each_branch_is_refused(cache: CacheConfig) -> None:
    """Because one branch would reuse the attention of the other, as the next test shows."""
    with pytest.raises(RunError, match="once for each guidance branch"):
        run(load_tiny("wan21", guided=True), cache)
    latents, trace = run(load_tiny("wan21"), cache)
    assert torch.isfinite(latents).all() and trace.module_hits > 0


def test_diffusers_own_pab_mixes_the_branches_of_such_a_pipeline() -> None:
    """The reason for the refusal: with range 2 the second branch never computes its own self-attention."""
    model = load_tiny("wan21", guided=True)
    with count_attention_rows(model) as rows:
        run_by_diffusers(
            model,
            PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=2,
                spatial_attention_timestep_skip_range=(-1, 1001),
                spatial_attention_block_identifiers=("attn1",),
            ),
        )
    self_attentions = sum(name.endswith("attn1") for name, _ in model.denoiser.named_modules())
    cross_attentions = self_attentions
    assert len(rows) == self_attentions * STEPS + cross_attentions * 2 * STEPS


@pytest.mark.parametrize("name", ["sd35_large", "ltx_video"])
def test_a_batch_that_fastercache_cannot_halve_is_refused(name: str) -> None:
    with pytest.raises(RunError, match="cannot halve"):
        run(load_tiny(name, guided=True), FASTER)


def test_a_denoiser_without_attention_that_can_be_hooked_is_refused() -> None:
    with pytest.raises(RunError, match="UNet2DConditionModel has no attention"):
        run(load_tiny("sdxl", guided=True), FASTER)
    with (
        pytest.raises(RunError, match="not known which module"),
        attach_diffusers_hooks([], PAB, GenerationInfo(steps=lambda: 1)),
    ):
        pass


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"start": 0.2}, "cache.start"),
        ({"max_consecutive_cache_hits": 2}, "cache.max_consecutive_cache_hits"),
        ({"signal": FirstBlockResidual()}, "cache.signal=first_block_residual"),
        ({"spatial_attention_block_skip_range": 1}, "cache.spatial_attention_block_skip_range=1"),
        ({"spatial_attention_timestep_skip_range": [800, 100]}, "cache.spatial_attention_timestep_skip_range"),
        ({"temporal_attention_timestep_skip_range": [1]}, "cache.temporal_attention_timestep_skip_range"),
    ],
)
@pytest.mark.parametrize("options", [PyramidAttentionBroadcast, FasterCache])
def test_keys_that_could_not_take_effect_are_refused(options: Any, given: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        options(**given)
    assert str(error.value).startswith(key)


def test_pab_that_skips_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="could not take effect"):
        PyramidAttentionBroadcast(spatial_attention_block_skip_range=None)


@pytest.mark.parametrize(
    ("options", "theirs"),
    [(PyramidAttentionBroadcast, PyramidAttentionBroadcastConfig), (FasterCache, FasterCacheConfig)],
)
def test_keys_and_defaults_are_diffusers(options: Any, theirs: Any) -> None:
    """Except those that follow from the run, and the one weight that is a function there."""
    config = theirs()
    ours = {field.name for field in fields(options)} - {field.name for field in fields(CacheConfig)}
    assert {name for name in ours if not hasattr(config, name)} <= {"attention_weight"}
    for name in ours - {"attention_weight"}:
        if not name.endswith("_identifiers") and (options, name) != (
            PyramidAttentionBroadcast,
            "spatial_attention_block_skip_range",
        ):
            value = getattr(options(), name)
            assert (tuple(value) if isinstance(value, list) else value) == getattr(config, name)


def test_only_diffusers_strategies_have_an_implementation_of_their_own() -> None:
    assert (
        find_implementation("cache", PAB) is attach_diffusers_hooks
        and find_implementation("cache", fbcache(0.1)) is None
    )
