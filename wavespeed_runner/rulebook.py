"""What fits with what, as data: the table of rules that `rules.py` reads to a configuration.

A rule speaks when `when(config, family)` holds. Its texts are formatted with `c` (the configuration) and `f` (the
facts of the model family). Sources are papers, issues, or our own tests.
"""

from __future__ import annotations

from sys import platform

from .accelerate.rules import ADAPTERS, MEMORY
from .caching.window import inside
from .config import Config, Dtype, Init
from .environment import has_cuda, resolve_device
from .graph_rules import GRAPHS
from .models.family import Family, two_passes
from .rule import Rule
from .sampler_rules import SAMPLERS
from .samplers import denoiser_calls


def _cached(c: Config) -> bool:
    return c.cache.name != "none"


def _guidance(c: Config) -> str:
    return c.model.guidance.value


def _uses_negative(c: Config, f: Family) -> bool:
    return two_passes(c.model, c.guidance_scale, off=f.unguided)


def _threshold(c: Config) -> float | None:
    return getattr(c.cache.criterion, "threshold", None)


def _only_size(c: Config, f: Family) -> tuple[int, int] | None:
    return (f.tiny_size, f.tiny_size) if c.model.init is Init.tiny else f.fixed_size


def _fits_frames(count: int, multiple: int) -> bool:
    return count >= 1 and (count - 1) % multiple == 0


VALUES: tuple[Rule, ...] = (
    Rule(
        id="steps-positive",
        verdict="bad",
        when=lambda c, f: (c.steps or 0) < 1,
        message="steps={c.steps}: at least 1 is needed",
        fix="steps={c.model.steps} is the model's own",
    ),
    Rule(
        id="size",
        verdict="bad",
        when=lambda c, f: any(v is None or v < 1 or v % f.size_multiple for v in (c.width, c.height)),
        message="width={c.width} height={c.height}: both must be positive multiples of {f.size_multiple}",
        fix="such as width={f.tiny_size} height={f.tiny_size}",
    ),
    Rule(
        id="too-much",
        verdict="bad",
        when=lambda c, f: (c.steps or 0) > 1000 or max(c.width or 0, c.height or 0) > 16384,
        message="steps={c.steps} width={c.width} height={c.height}: at most 1000 steps and 16384 pixels a side",
        fix="a mistyped zero?",
    ),
    Rule(
        id="seed",
        verdict="bad",
        when=lambda c, f: not 0 <= c.seed < 2**63,
        message="seed={c.seed}: a whole number from 0 to 2**63 - 1 is needed",
        fix="seed=0",
    ),
    Rule(
        id="repeats",
        verdict="bad",
        when=lambda c, f: c.measure.repeats < 1 or c.measure.warmup < 0,
        message="measure.repeats={c.measure.repeats} measure.warmup={c.measure.warmup}: "
        "at least 1 repeat, and no negative warm-up",
        fix="measure=default",
    ),
    Rule(
        id="size-limit",
        verdict="bad",
        when=lambda c, f: f.max_pixels is not None and (c.width or 0) * (c.height or 0) > f.max_pixels,
        message="width={c.width} height={c.height}: model {c.model.name} makes at most {f.max_pixels} pixels",
        fix="width={c.model.width} height={c.model.height}",
    ),
    Rule(
        id="size-fixed",
        verdict="bad",
        when=lambda c, f: f.fixed_size is not None and (c.width, c.height) != _only_size(c, f),
        message="width={c.width} height={c.height}: model {c.model.name} has learned positions of one size, "
        "{f.fixed_size[0]} x {f.fixed_size[1]} (init=tiny: {f.tiny_size} x {f.tiny_size})",
        fix="leave width and height out",
        source="diffusers CogVideoXPatchEmbed",
    ),
    Rule(
        id="batch",
        verdict="bad",
        when=lambda c, f: c.batch_size < 1 or c.num_images_per_prompt < 1,
        message="batch_size={c.batch_size} num_images_per_prompt={c.num_images_per_prompt}: at least 1 each",
        fix="batch_size=1 num_images_per_prompt=1",
    ),
    Rule(
        id="batch-fits",
        verdict="bad",
        when=lambda c, f: c.batch_size > 1 and not f.batches,
        message="batch_size={c.batch_size}: prompts of model {c.model.name} cannot be joined to one batch",
        fix="batch_size=1",
    ),
    Rule(
        id="difference-gain",
        verdict="bad",
        when=lambda c, f: c.measure.difference_gain <= 0,
        message="measure.difference_gain={c.measure.difference_gain}: must be above 0",
        fix="measure.difference_gain=4",
    ),
    Rule(
        id="device",
        verdict="bad",
        when=lambda c, f: c.device not in ("auto", "cpu", "mps") and not _is_cuda(c.device),
        message="device={c.device}: allowed are auto, cpu, cuda, cuda:N, mps",
        fix="device=auto",
    ),
    Rule(
        id="device-present",
        verdict="bad",
        when=lambda c, f: _is_cuda(c.device) and not has_cuda(),
        message="device={c.device}: no NVIDIA driver, or a torch built without CUDA",
        fix="device=cpu",
    ),
    Rule(
        id="device-mps",
        verdict="bad",
        when=lambda c, f: c.device == "mps" and platform != "darwin",
        message="device=mps: only macOS has it",
        fix="device=auto",
    ),
    Rule(
        id="num-frames",
        verdict="bad",
        when=lambda c, f: c.num_frames is not None and f.kind == "image",
        message="num_frames={c.num_frames}: model {c.model.name} makes pictures, not videos",
        fix="leave num_frames out",
    ),
    Rule(
        id="num-frames-fit",
        verdict="bad",
        when=lambda c, f: f.kind == "video" and not _fits_frames(c.num_frames or 0, f.frame_multiple),
        message="num_frames={c.num_frames}: one more than a multiple of {f.frame_multiple} is needed",
        fix="num_frames={c.model.num_frames} is the model's own",
    ),
)

GUIDANCE: tuple[Rule, ...] = (
    Rule(
        id="guidance-negative",
        verdict="bad",
        when=lambda c, f: (c.guidance_scale or 0) < 0,
        message="guidance_scale={c.guidance_scale}: 0 or more is needed",
        fix="guidance_scale={c.model.guidance_scale} is the model's own",
    ),
    Rule(
        id="guidance-none",
        verdict="bad",
        when=lambda c, f: _guidance(c) == "none" and c.guidance_scale is not None,
        message="guidance_scale={c.guidance_scale}: this model takes no guidance, so it could not take effect",
        fix="leave guidance_scale out",
    ),
    Rule(
        id="guidance-below-one",
        verdict="bad",
        when=lambda c, f: _guidance(c) == "true_cfg" and c.guidance_scale is not None and c.guidance_scale < f.unguided,
        message="guidance_scale={c.guidance_scale}: classifier-free guidance acts above {f.unguided:g}, so it could "
        "not take effect",
        fix="guidance_scale={f.unguided:g} for none",
        source="diffusers FluxPipeline: 'enabled when `true_cfg_scale` > 1'",
    ),
    Rule(
        id="negative-prompt",
        verdict="bad",
        when=lambda c, f: bool(c.negative_prompt) and not _uses_negative(c, f),
        message="negative_prompt is given, but nothing uses it with guidance_scale={c.guidance_scale}",
        fix="guidance_scale above {f.unguided:g} on a model with classifier-free guidance, or no negative_prompt",
        source="diffusers FluxPipeline: 'Ignored when not using guidance'",
    ),
)

CACHES: tuple[Rule, ...] = (
    Rule(
        id="cache-off",
        verdict="bad",
        when=lambda c, f: not _cached(c) and c.cache != type(c.cache)(),
        message="cache=none with cache.start={c.cache.start} cache.end={c.cache.end} "
        "cache.max_consecutive_cache_hits={c.cache.max_consecutive_cache_hits}: nothing is skipped, so they could not "
        "take effect",
        fix="cache=fbcache, or leave cache.KEY=VALUE out",
    ),
    Rule(
        id="cache-attaches",
        verdict="bad",
        when=lambda c, f: _cached(c) and f.blocks is None,
        message="cache={c.cache.name}: model {c.model.name} has no blocks that a block cache can skip",
        fix="cache=none",
    ),
    Rule(
        id="batch-cache",
        verdict="bad",
        when=lambda c, f: _cached(c) and c.batch_size > 1,
        message="batch_size={c.batch_size} with cache={c.cache.name}: the strategy would decide for all pictures of a "
        "batch together, and each would depend on its neighbours",
        fix="batch_size=1, or cache=none",
        source="tests/test_batches.py",
    ),
    Rule(
        id="cache-parts",
        verdict="bad",
        when=lambda c, f: _cached(c) and None in (c.cache.signal, c.cache.criterion, c.cache.predictor),
        message="cache={c.cache.name}: a strategy needs a signal, a criterion and a predictor",
        fix="name all three in its defaults list",
    ),
    Rule(
        id="cache-head",
        verdict="bad",
        when=lambda c, f: getattr(c.cache.signal, "blocks", 1) < 1,
        message="cache.signal.blocks={c.cache.signal.blocks}: at least one block must run to see what has changed",
        fix="cache.signal.blocks=1",
    ),
    Rule(
        id="cache-one",
        verdict="good",
        when=lambda c, f: _cached(c) and f.blocks is not None,
        message="one cache strategy, {c.cache.name}, on the denoiser; two at once are not possible here",
        source="tests/caching/test_engine.py",
    ),
    Rule(
        id="threshold",
        verdict="bad",
        when=lambda c, f: (_threshold(c) or 0) < 0,
        message="cache.criterion.threshold={c.cache.criterion.threshold} (it follows cache.residual_diff_threshold): "
        "0 or more is needed",
        fix="cache.residual_diff_threshold=0.08",
    ),
    Rule(
        id="threshold-twice",
        verdict="bad",
        when=lambda c, f: (
            _threshold(c) is not None and getattr(c.cache, "residual_diff_threshold", None) not in (None, _threshold(c))
        ),
        message="cache.criterion.threshold={c.cache.criterion.threshold} and cache.residual_diff_threshold="
        "{c.cache.residual_diff_threshold}: only the first would take effect",
        fix="set cache.residual_diff_threshold alone, the criterion follows it",
    ),
    Rule(
        id="threshold-zero",
        verdict="unverified",
        when=lambda c, f: _threshold(c) == 0,
        message="a threshold of 0 never allows reuse: the run costs what no cache costs, and a little more",
        fix="cache.residual_diff_threshold=0.08, or cache=none",
    ),
    Rule(
        id="window-order",
        verdict="bad",
        when=lambda c, f: _cached(c) and not 0 <= c.cache.start < c.cache.end <= 1,
        message="cache.start={c.cache.start} cache.end={c.cache.end}: 0 <= start < end <= 1 is needed",
        fix="cache.start=0.2 cache.end=0.8",
    ),
    Rule(
        id="window-empty",
        verdict="bad",
        when=lambda c, f: _cached(c) and _no_step_inside(c),
        message="cache.start={c.cache.start} cache.end={c.cache.end}: none of {c.steps} steps lies inside "
        "(the first is always computed), so the cache could not take effect",
        fix="a wider window, or more steps",
    ),
    Rule(
        id="hit-limit",
        verdict="bad",
        when=lambda c, f: (
            _cached(c) and (c.cache.max_consecutive_cache_hits < -1 or c.cache.max_consecutive_cache_hits == 0)
        ),
        message="cache.max_consecutive_cache_hits={c.cache.max_consecutive_cache_hits}: 1 or more, or -1 for no limit",
        fix="cache.max_consecutive_cache_hits=5",
    ),
    Rule(
        id="few-steps",
        verdict="unverified",
        when=lambda c, f: _cached(c) and 1 < (c.steps or 0) <= 8,
        message="with {c.steps} steps each changes much, and a cache seldom or never hits",
        fix="12 steps or more, or cache=none",
        source="https://github.com/X-GenGroup/Flow-Factory/issues/196",
    ),
)

NUMERICS: tuple[Rule, ...] = (
    Rule(
        id="half-on-cpu",
        verdict="unverified",
        when=lambda c, f: c.model.dtype is not Dtype.float32 and resolve_device(c.device) == "cpu",
        message="model.dtype={c.model.dtype.value}: without CPU instructions for it, far slower than float32",
        fix="model.dtype=float32",
    ),
    Rule(
        id="whole",
        verdict="unverified",
        when=lambda c, f: f.whole,
        message="model={c.model.name} calls the pipeline whole, because nobody has said how to split it: the stages "
        "encode and decode only pass on, and denoising times include both",
        fix="a family of its own, wavespeed_runner/models/",
    ),
    Rule(
        id="tiny-quality",
        verdict="unverified",
        when=lambda c, f: c.model.init is not Init.pretrained,
        message="model.init={c.model.init.value}: the weights are random, pictures and their likeness mean nothing",
        fix="model.init=pretrained for figures on quality",
    ),
)


def _is_cuda(device: str) -> bool:
    kind, _, index = device.partition(":")
    return kind == "cuda" and (not index or index.isdigit())


def _no_step_inside(c: Config) -> bool:
    """Only said when the window itself is well formed; `window-order` speaks otherwise."""
    steps = denoiser_calls(c.sampler, c.steps or 0)
    well_formed = 0 <= c.cache.start < c.cache.end <= 1
    return well_formed and steps >= 1 and not any(inside(c.cache, step, steps) for step in range(1, steps))


RULES = (*VALUES, *GRAPHS, *GUIDANCE, *SAMPLERS, *CACHES, *ADAPTERS, *MEMORY, *NUMERICS)
