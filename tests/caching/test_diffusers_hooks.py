"""diffusers' own strategies, put on by us: the same latents as diffusers' `enable_cache`, and nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import lru_cache
from typing import Any

import pytest
import torch
from diffusers.hooks import (
    FasterCacheConfig,
    HookRegistry,
    ModelHook,
    PyramidAttentionBroadcastConfig,
)

from tests.caching.generate import fbcache
from tests.caching.shrunk import Shrunk
from tests.caching.transfers import Transfers
from wavespeed_runner.caching import GenerationInfo, Trace
from wavespeed_runner.caching.attach.diffusers_hooks import attach_diffusers_hooks
from wavespeed_runner.caching.attach.diffusers_options import FasterCache, PyramidAttentionBroadcast
from wavespeed_runner.caching.signals.block_signals import FirstBlockResidual
from wavespeed_runner.config.schema import CacheConfig
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.registry import find_implementation

STEPS = 10
PAB = PyramidAttentionBroadcast(spatial_attention_block_skip_range=3, spatial_attention_timestep_skip_range=[50, 950])
FASTER = FasterCache(
    spatial_attention_timestep_skip_range=[-1, 900],
    unconditional_batch_timestep_skip_range=[-1, 850],
    unconditional_batch_skip_range=3,
    alpha_low_frequency=1.2,
)


@contextmanager
def on(model: Shrunk, cache: CacheConfig) -> Iterator[Trace]:
    timesteps = lambda: model.called.scheduler.timesteps.tolist()  # noqa: E731
    with attach_diffusers_hooks(
        [model.denoiser], cache, GenerationInfo(steps=lambda: STEPS, timesteps=timesteps)
    ) as trace:
        yield trace


def run(model: Shrunk, cache: CacheConfig) -> tuple[torch.Tensor, Trace]:
    with on(model, cache) as trace:
        return model.denoise(trace.end_step), trace


@lru_cache(maxsize=3)
def tiny(name: str, *, guided: bool = False) -> Shrunk:
    return Shrunk(name, guided=guided, steps=STEPS)


def by_diffusers(model: Shrunk, config: Any) -> torch.Tensor:
    """Latents with diffusers' own way to put it on, and with its pipeline's own timestep."""
    config.current_timestep_callback = lambda: model.called.current_timestep
    model.denoiser.enable_cache(config)
    try:
        return model.denoise()
    finally:
        model.denoiser.disable_cache()


@contextmanager
def computed(model: Shrunk) -> Iterator[list[int]]:
    """Rows of every call of an attention's own code, seen at its projection of the queries."""
    rows: list[int] = []
    queries = [
        module for name, module in model.denoiser.named_modules() if "blocks." in name and name.endswith(".to_q")
    ]
    handles = [module.register_forward_pre_hook(lambda _, args: rows.append(len(args[0]))) for module in queries]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


PAB_BY_DIFFUSERS = {"spatial_attention_block_skip_range": 3, "spatial_attention_timestep_skip_range": (50, 950)}
FASTER_BY_DIFFUSERS = {
    "spatial_attention_timestep_skip_range": (-1, 900),
    "unconditional_batch_timestep_skip_range": (-1, 850),
    "unconditional_batch_skip_range": 3,
    "alpha_low_frequency": 1.2,
}
CASES = [
    ("flux", False, PAB, PyramidAttentionBroadcastConfig, PAB_BY_DIFFUSERS),
    ("flux", False, FASTER, FasterCacheConfig, FASTER_BY_DIFFUSERS | {"is_guidance_distilled": True}),
    ("cogvideox_2b", True, PAB, PyramidAttentionBroadcastConfig, PAB_BY_DIFFUSERS),
    ("cogvideox_2b", True, FASTER, FasterCacheConfig, FASTER_BY_DIFFUSERS | {"tensor_format": "BFCHW"}),
]


@pytest.mark.parametrize(("name", "guided", "cache", "config", "given"), CASES)
def test_latents_are_those_of_diffusers_enable_cache(
    name: str, guided: bool, cache: CacheConfig, config: Any, given: dict[str, Any]
) -> None:
    model = tiny(name, guided=guided)
    reference = model.denoise()
    with computed(model) as rows:
        theirs = by_diffusers(model, config(**given))
    with computed(model) as ours_rows:
        ours, trace = run(model, cache)
    assert torch.equal(ours, theirs) and not torch.equal(ours, reference)
    assert ours_rows == rows
    assert trace.module_calls == trace.modules * STEPS
    assert trace.module_calls - trace.module_hits == len(rows)
    assert 0 < trace.module_hits < trace.module_calls
    assert torch.equal(model.denoise(), reference)


def test_fastercache_computes_the_unconditional_half_only_now_and_then() -> None:
    with computed(tiny("cogvideox_2b", guided=True)) as rows:
        run(tiny("cogvideox_2b", guided=True), FASTER)
    assert set(rows) == {1, 2}


def test_the_evidence_is_what_was_counted() -> None:
    _, trace = run(tiny("flux"), PAB)
    found = trace.build_evidence()
    assert found is not None
    assert found["modules"] == trace.modules and found["calls"] == trace.module_calls
    assert found["hits"] == trace.module_hits
    assert found["module_share"] == pytest.approx(1 - trace.module_hits / trace.module_calls)


@pytest.mark.parametrize("cache", [PAB, FASTER])
def test_images_of_a_batch_do_not_depend_on_each_other(cache: CacheConfig) -> None:
    model = tiny("flux")
    inputs: list[dict[str, Any]] = []
    handle = model.denoiser.register_forward_pre_hook(lambda _, __, given: inputs.append(given), with_kwargs=True)
    model.denoise()
    handle.remove()
    timesteps = model.called.scheduler.timesteps.tolist()

    def outputs(factors: list[float]) -> torch.Tensor:
        """Of the last call. The inputs of a row are multiplied by its factor."""

        def rows(name: str, value: Any) -> Any:
            return torch.cat([value * f for f in factors]) if torch.is_tensor(value) and "ids" not in name else value

        run = GenerationInfo(steps=lambda: STEPS, timesteps=lambda: timesteps, images=len(factors))
        with torch.inference_mode(), attach_diffusers_hooks([model.denoiser], cache, run) as trace:
            for given in inputs:
                made = model.denoiser(**{name: rows(name, value) for name, value in given.items()})[0]
                trace.end_step()
        assert trace.module_hits > 0
        return made

    both = outputs([1.0, 0.7])
    torch.testing.assert_close(both, torch.cat([outputs([1.0]), outputs([0.7])]), rtol=1e-4, atol=1e-5)


def attributes(denoiser: Any) -> list[dict[str, Any]]:
    return [dict(vars(module)) for module in denoiser.modules()]


@pytest.mark.parametrize("cache", [PAB, FASTER])
def test_everything_is_taken_off_also_after_an_error(cache: CacheConfig) -> None:
    model = tiny("flux")
    reference = model.denoise()
    before = attributes(model.denoiser)

    with pytest.raises(KeyboardInterrupt), on(model, cache) as trace:

        def broken() -> None:
            trace.end_step()
            if trace.steps == 5:
                raise KeyboardInterrupt

        model.denoise(broken)
    assert trace.module_hits > 0
    after = attributes(model.denoiser)
    for had, has in zip(before, after, strict=True):
        assert list(had) == list(has)
        assert all(has[name] is had[name] for name in ("forward", "_diffusers_hook") if name in had)
        assert not has["_forward_pre_hooks"] and not has["_forward_hooks"]
    assert torch.equal(model.denoise(), reference)


def test_hooks_of_others_stay() -> None:
    class Doubled(ModelHook):
        def post_forward(self, module: Any, output: Any) -> Any:
            return output * 2

    model = Shrunk("flux", guided=False, steps=STEPS)
    registry = HookRegistry.check_if_exists_or_initialize(model.denoiser.single_transformer_blocks[0].attn)
    registry.register_hook(Doubled(), "doubled")
    doubled = model.denoise()
    cached, _ = run(model, PAB)
    assert not torch.equal(cached, doubled)
    assert list(registry.hooks) == ["doubled"]
    assert torch.equal(model.denoise(), doubled)


def test_a_generation_that_begins_inside_the_range_computes_its_first_call() -> None:
    everywhere = FasterCache(spatial_attention_timestep_skip_range=[-1, 1001])
    model = tiny("flux")
    with pytest.raises(TypeError):  # what diffusers itself does
        by_diffusers(
            model, FasterCacheConfig(spatial_attention_timestep_skip_range=(-1, 1001), is_guidance_distilled=True)
        )
    made, trace = run(model, everywhere)
    assert torch.isfinite(made).all() and trace.module_hits == trace.modules * STEPS // 2


def test_the_timestep_costs_one_transfer_from_the_device() -> None:
    model = tiny("flux")
    with Transfers() as plain:
        model.denoise()
    with Transfers() as ours:
        run(model, PAB)
    with Transfers() as theirs:
        by_diffusers(model, PyramidAttentionBroadcastConfig(**PAB_BY_DIFFUSERS))
    assert ours.count == plain.count + 1  # all timesteps at once
    assert theirs.count > plain.count + STEPS


@pytest.mark.parametrize("cache", [PAB, FASTER])
def test_a_pipeline_that_calls_once_for_each_branch_is_refused(cache: CacheConfig) -> None:
    """Why: attention of the one branch would be answered with the other's, see the next test."""
    with pytest.raises(RunError, match="once for each guidance branch"):
        run(tiny("wan21", guided=True), cache)
    made, trace = run(tiny("wan21"), cache)
    assert torch.isfinite(made).all() and trace.module_hits > 0


def test_diffusers_own_pab_mixes_the_branches_of_such_a_pipeline() -> None:
    """Known limitation that the refusal rests on: with range 2 the second branch never computes its own attention."""
    model = tiny("wan21", guided=True)
    with computed(model) as rows:
        by_diffusers(
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
        run(tiny(name, guided=True), FASTER)


def test_a_denoiser_without_attention_that_can_be_hooked_is_refused() -> None:
    with pytest.raises(RunError, match="UNet2DConditionModel has no attention"):
        run(tiny("sdxl", guided=True), FASTER)
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
    """But for those that follow from the run, and the one weight that is a function there."""
    known = theirs()
    own = {field.name for field in fields(options)} - {field.name for field in fields(CacheConfig)}
    assert {name for name in own if not hasattr(known, name)} <= {"attention_weight"}
    for name in own - {"attention_weight"}:
        if not name.endswith("_identifiers") and (options, name) != (
            PyramidAttentionBroadcast,
            "spatial_attention_block_skip_range",
        ):
            value = getattr(options(), name)
            assert (tuple(value) if isinstance(value, list) else value) == getattr(known, name)


def test_rules_can_tell_them_from_strategies_of_parts() -> None:
    assert (
        find_implementation("cache", PAB) is attach_diffusers_hooks
        and find_implementation("cache", fbcache(0.1)) is None
    )
