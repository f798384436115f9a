"""Settings of the peers, each with its own public API on a fresh pipeline. Their packages: `requirements.txt`.

    cache-dit 1.5.3     https://github.com/vipshop/cache-dit        DBCache, step masks, Taylor, FoCa, DMD
    diffusers           https://github.com/huggingface/diffusers    First Block Cache, MagCache, TaylorSeer-lite
    ParaAttention       https://github.com/chengzeyi/ParaAttention  First Block Cache, with and without Taylor
    DeepCache 0.1.1     https://github.com/horseee/DeepCache

TeaCache, EasyCache, DiCache and others are scripts tied to CUDA and old versions, not packages: they cannot be run
beside these. Published settings are among the parameters; the others draw the curve around them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from io import StringIO
from itertools import product
from json import loads
from typing import Any
from unittest.mock import patch

from .deep_cache import deep_cache
from .models import Model
from .prompts import calibration
from .settings import Setting

THRESHOLDS = (0.02, 0.04, 0.06, 0.08, 0.10, 0.12, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50, 0.60, 0.80)
"""Of the first block's relative change. Published: 0.05 to 0.12 for FLUX.1-dev."""


def theirs(model: Model) -> list[Setting]:
    """All peers on all models: one that cannot do a model says so itself when it is put on it."""
    transformer = model.family.denoiser == "transformer"
    on_transformers = [*dbcache(), *step_masks(model.steps), *first_block_cache(), *para_attention()]
    on_transformers += [*mag_cache(model.steps), *taylorseer()]
    if transformer:
        return [*on_transformers, *deep_cache()[:1]]
    # One of each group is enough to show that it refuses.
    return [*deep_cache(), *{setting.group: setting for setting in reversed(on_transformers)}.values()]


def dbcache() -> list[Setting]:
    """cache-dit: the first block always runs. Window of warm-up steps, threshold, and what fills.

    Published (its documentation): W4 0.08 alone, with Taylor and with FoCa; W6 0.15 with DMD; W4 0.15 and 0.12 with at
    most 4 skipped in a row with Taylor.
    """
    grid: list[tuple[str, int, float, int]] = [("reuse", 4, threshold, -1) for threshold in THRESHOLDS]
    grid += [("Taylor-1", 4, threshold, -1) for threshold in THRESHOLDS]
    grid += product(("reuse", "Taylor-1"), (2, 8), (0.08, 0.15, 0.3, 0.5), (-1,))
    grid += [("Taylor-1", 4, 0.12, 4), ("Taylor-1", 4, 0.3, 3), ("Taylor-1", 4, 0.5, 2)]
    grid += [(fill, 4, threshold, -1) for fill in ("Taylor-2", "FoCa") for threshold in (0.04, 0.08, 0.15, 0.3)]
    grid += [("DMD", 6, threshold, -1) for threshold in (0.04, 0.08, 0.15, 0.3, 0.5)]
    return [
        Setting(
            name=f"cache-dit F1B0 W{warm} {threshold:g}{f' MC{most}' if most > 0 else ''} {fill}",
            group=f"cache-dit, {fill}",
            by="theirs",
            on=cache_dit,
            parameters={
                "fill": fill,
                "max_warmup_steps": warm,
                "residual_diff_threshold": threshold,
                "max_continuous_cached_steps": most,
            },
        )
        for fill, warm, threshold, most in grid
    ]


def step_masks(steps: int) -> list[Setting]:
    """cache-dit's published step masks, static: which steps are computed is fixed."""
    return [
        Setting(
            name=f"cache-dit mask {mask} {fill}",
            group=f"cache-dit step mask, {fill}",
            by="theirs",
            on=cache_dit,
            parameters={"fill": fill, "mask": mask},
        )
        for fill, mask in product(("reuse", "Taylor-1"), ("slow", "medium", "fast", "ultra"))
    ]


@contextmanager
def cache_dit(pipe: Any, model: Model, *, fill: str, mask: str | None = None, **config: Any) -> Iterator[None]:
    """mask: the published one of that name, for the model's number of steps."""
    import cache_dit
    from cache_dit import DMDCalibratorConfig, FoCaCalibratorConfig, TaylorSeerCalibratorConfig

    fills = {
        "reuse": None,
        "Taylor-1": TaylorSeerCalibratorConfig(taylorseer_order=1),
        "Taylor-2": TaylorSeerCalibratorConfig(taylorseer_order=2),
        "FoCa": FoCaCalibratorConfig(),
        "DMD": DMDCalibratorConfig(),
    }
    if mask is not None:
        config["steps_computation_mask"] = cache_dit.steps_mask(total_steps=model.steps, mask_policy=mask)
        config["steps_computation_policy"] = "static"
    cache_dit.enable_cache(
        pipe,
        cache_config=cache_dit.DBCacheConfig(
            Fn_compute_blocks=1, Bn_compute_blocks=0, num_inference_steps=model.steps, **config
        ),
        calibrator_config=fills[fill],
    )
    try:
        yield
    finally:
        cache_dit.disable_cache(pipe)


def first_block_cache() -> list[Setting]:
    """diffusers' own; ParaAttention's rule."""
    return [
        Setting(
            name=f"diffusers First Block Cache {threshold:g}",
            group="diffusers First Block Cache",
            by="theirs",
            on=diffusers_cache,
            parameters={"config": "FirstBlockCacheConfig", "threshold": threshold},
        )
        for threshold in THRESHOLDS
    ]


def mag_cache(steps: int) -> list[Setting]:
    """Published for FLUX.1-dev: threshold 0.24, at most 5 skipped in a row, the first tenth computed; diffusers'
    defaults: 0.06, 3, a fifth."""
    grid = [*product((0.03, 0.06, 0.12, 0.24, 0.5), (1, 2, 3, 5), (0.1,)), (1.0, 5, 0.1), (1.0, 8, 0.1)]
    return [
        Setting(
            name=f"diffusers MagCache {threshold:g} K{most} R{first:g}",
            group="diffusers MagCache",
            by="theirs",
            on=diffusers_cache,
            parameters={
                "config": "MagCacheConfig",
                "threshold": threshold,
                "max_skip_steps": most,
                "retention_ratio": first,
                "num_inference_steps": steps,
            },
        )
        for threshold, most, first in [*grid, (0.06, 3, 0.2)]
    ]


def taylorseer() -> list[Setting]:
    """The first steps and every N-th are computed; diffusers' defaults: 3 first, N 5, order 1. Factors in float32, as
    the model is."""
    grid = [*product((1, 2), (2, 3, 4, 5, 6, 7, 8, 10), (3,)), *product((1, 2), (4, 6, 8), (6,))]
    return [
        Setting(
            name=f"diffusers TaylorSeer-lite N{interval} O{order} W{first}",
            group=f"diffusers TaylorSeer-lite, order {order}",
            by="theirs",
            on=diffusers_cache,
            parameters={
                "config": "TaylorSeerCacheConfig",
                "cache_interval": interval,
                "max_order": order,
                "disable_cache_before_step": first,
                "use_lite_mode": True,
            },
        )
        for order, interval, first in grid
    ]


@contextmanager
def diffusers_cache(pipe: Any, model: Model, *, config: str, **values: Any) -> Iterator[None]:
    """config: class of `diffusers.hooks`."""
    import diffusers.hooks
    import torch

    if config == "MagCacheConfig":
        values["mag_ratios"] = list(mag_ratios(model))
    elif config == "TaylorSeerCacheConfig":
        values["taylor_factors_dtype"] = torch.float32
    denoiser = model.denoiser(pipe)
    denoiser.enable_cache(getattr(diffusers.hooks, config)(**values))
    try:
        yield
    finally:
        denoiser.disable_cache()


@lru_cache(maxsize=1)
def mag_ratios(model: Model) -> tuple[float, ...]:
    """Magnitude ratio of each step by diffusers' own calibration, which prints it; mean over the calibration prompts
    (its authors take one prompt)."""
    import numpy as np
    from diffusers.hooks import MagCacheConfig

    found = []
    for prompt in calibration():
        pipe, printed = model.fresh(), StringIO()
        model.denoiser(pipe).enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=model.steps))
        with redirect_stdout(printed):
            model.latents(pipe, prompt, model.encode(prompt), model.steps)
        found.append(loads(printed.getvalue().split("=...):")[-1]))
    return tuple(np.mean(found, axis=0).tolist())


def para_attention() -> list[Setting]:
    """Without Taylor its rule is diffusers': two settings show that the latents are the same."""
    grid = [*product((0.08, 0.12), (False,), (0,)), *product(THRESHOLDS, (True,), (0,))]
    grid += product((0.15, 0.2, 0.3, 0.5), (True,), (4,))
    return [
        Setting(
            name=f"ParaAttention {threshold:g}{f' W{warm}' if warm else ''}{' Taylor-2' if taylor else ''}",
            group=f"ParaAttention, {'Taylor-2' if taylor else 'reuse'}",
            by="theirs",
            on=para_attn,
            parameters={"residual_diff_threshold": threshold, "enable_taylorseer": taylor, "warmup_steps": warm},
        )
        for threshold, taylor, warm in grid
    ]


@contextmanager
def para_attn(pipe: Any, model: Model, **options: Any) -> Iterator[None]:
    """Its FLUX adapter was written for single blocks that take one joined sequence. Those of today's diffusers take and
    return both streams; the one function that calls them is replaced."""
    from para_attn.first_block_cache import utils
    from para_attn.first_block_cache.diffusers_adapters import apply_cache_on_pipe

    def remaining(self: Any, hidden: Any, encoder: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any, Any]:
        image, text = hidden, encoder
        for block in [*self.transformer_blocks[1:], *self.single_transformer_blocks]:
            text, image = block(image, text, *args, **kwargs)
        return image, text, image - hidden, text - encoder

    with patch.object(utils.CachedTransformerBlocks, "call_remaining_transformer_blocks", remaining):
        apply_cache_on_pipe(pipe, **options)
        yield
