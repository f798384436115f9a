"""diffusers' own strategies attached by us: the same latents as `enable_cache`, counted, and nothing left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.hooks import FasterCacheConfig, HookRegistry, ModelHook, PyramidAttentionBroadcastConfig

from tests.caching.attention_hooks import (
    FASTER,
    PAB,
    PAB_OF_DIFFUSERS,
    STEPS,
    attach,
    count_attention_rows,
    load_tiny,
    run,
    run_by_diffusers,
)
from tests.caching.shrunk import Shrunk
from tests.caching.transfers import Transfers
from wavespeed_runner.caching import GenerationInfo
from wavespeed_runner.caching.attach.diffusers_hooks import attach_diffusers_hooks
from wavespeed_runner.caching.attach.diffusers_options import FasterCache
from wavespeed_runner.config.schema import CacheConfig

FASTER_OF_DIFFUSERS = {
    "spatial_attention_timestep_skip_range": (-1, 900),
    "unconditional_batch_timestep_skip_range": (-1, 850),
    "unconditional_batch_skip_range": 3,
    "alpha_low_frequency": 1.2,
}
CASES = [
    ("flux", False, PAB, PyramidAttentionBroadcastConfig, PAB_OF_DIFFUSERS),
    ("flux", False, FASTER, FasterCacheConfig, FASTER_OF_DIFFUSERS | {"is_guidance_distilled": True}),
    ("cogvideox_2b", True, PAB, PyramidAttentionBroadcastConfig, PAB_OF_DIFFUSERS),
    ("cogvideox_2b", True, FASTER, FasterCacheConfig, FASTER_OF_DIFFUSERS | {"tensor_format": "BFCHW"}),
]


@pytest.mark.parametrize(("name", "guided", "cache", "config", "options"), CASES)
def test_latents_are_those_of_diffusers_enable_cache(
    name: str, guided: bool, cache: CacheConfig, config: Any, options: dict[str, Any]
) -> None:
    model = load_tiny(name, guided=guided)
    reference = model.denoise()
    with count_attention_rows(model) as rows:
        theirs = run_by_diffusers(model, config(**options))
    with count_attention_rows(model) as our_rows:
        ours, trace = run(model, cache)
    assert torch.equal(ours, theirs) and not torch.equal(ours, reference)
    assert our_rows == rows
    assert trace.module_calls == trace.modules * STEPS
    assert trace.module_calls - trace.module_hits == len(rows)
    assert 0 < trace.module_hits < trace.module_calls
    assert torch.equal(model.denoise(), reference)


def test_fastercache_computes_the_unconditional_half_only_now_and_then() -> None:
    with count_attention_rows(load_tiny("cogvideox_2b", guided=True)) as rows:
        run(load_tiny("cogvideox_2b", guided=True), FASTER)
    assert set(rows) == {1, 2}


def test_the_evidence_is_what_was_counted() -> None:
    _, trace = run(load_tiny("flux"), PAB)
    evidence = trace.build_evidence()
    assert evidence is not None
    assert evidence["modules"] == trace.modules and evidence["calls"] == trace.module_calls
    assert evidence["hits"] == trace.module_hits
    assert evidence["module_share"] == pytest.approx(1 - trace.module_hits / trace.module_calls)


@pytest.mark.parametrize("cache", [PAB, FASTER])
def test_images_of_a_batch_do_not_depend_on_each_other(cache: CacheConfig) -> None:
    model = load_tiny("flux")
    calls: list[dict[str, Any]] = []
    handle = model.denoiser.register_forward_pre_hook(lambda _, __, kwargs: calls.append(kwargs), with_kwargs=True)
    model.denoise()
    handle.remove()
    timesteps = model.called.scheduler.timesteps.tolist()

    def outputs(factors: list[float]) -> torch.Tensor:
        """The output of the last call. The inputs of each row are multiplied by its factor."""

        def rows(name: str, value: Any) -> Any:
            return torch.cat([value * f for f in factors]) if torch.is_tensor(value) and "ids" not in name else value

        info = GenerationInfo(steps=lambda: STEPS, timesteps=lambda: timesteps, images=len(factors))
        with torch.inference_mode(), attach_diffusers_hooks([model.denoiser], cache, info) as trace:
            for call in calls:
                output = model.denoiser(**{name: rows(name, value) for name, value in call.items()})[0]
                trace.end_step()
        assert trace.module_hits > 0
        return output

    both = outputs([1.0, 0.7])
    torch.testing.assert_close(both, torch.cat([outputs([1.0]), outputs([0.7])]), rtol=1e-4, atol=1e-5)


def list_attributes(denoiser: Any) -> list[dict[str, Any]]:
    return [dict(vars(module)) for module in denoiser.modules()]


@pytest.mark.parametrize("cache", [PAB, FASTER])
def test_everything_is_detached_even_after_an_error(cache: CacheConfig) -> None:
    model = load_tiny("flux")
    reference = model.denoise()
    before = list_attributes(model.denoiser)

    with pytest.raises(KeyboardInterrupt), attach(model, cache) as trace:

        def interrupt() -> None:
            trace.end_step()
            if trace.steps == 5:
                raise KeyboardInterrupt

        model.denoise(interrupt)
    assert trace.module_hits > 0
    after = list_attributes(model.denoiser)
    for old, new in zip(before, after, strict=True):
        assert list(old) == list(new)
        assert all(new[name] is old[name] for name in ("forward", "_diffusers_hook") if name in old)
        assert not new["_forward_pre_hooks"] and not new["_forward_hooks"]
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
    model = load_tiny("flux")
    with pytest.raises(TypeError):  # by diffusers itself
        run_by_diffusers(
            model, FasterCacheConfig(spatial_attention_timestep_skip_range=(-1, 1001), is_guidance_distilled=True)
        )
    latents, trace = run(model, everywhere)
    assert torch.isfinite(latents).all() and trace.module_hits == trace.modules * STEPS // 2


def test_the_timestep_costs_one_transfer_from_the_device() -> None:
    model = load_tiny("flux")
    with Transfers() as plain:
        model.denoise()
    with Transfers() as ours:
        run(model, PAB)
    with Transfers() as theirs:
        run_by_diffusers(model, PyramidAttentionBroadcastConfig(**PAB_OF_DIFFUSERS))
    assert ours.count == plain.count + 1  # all timesteps at once
    assert theirs.count > plain.count + STEPS
