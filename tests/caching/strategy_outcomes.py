"""What every family does with every shipped strategy: the expected outcome, and configs and plans of each pair."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any

from tests.caching.tiny_models import families
from tests.models.shipped import compose_shipped
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import Plan, build_plan
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.samplers import count_denoiser_calls, resolve_sampler

CALLS = 6
"""Calls of the denoiser in each guidance branch."""
SAMPLE = {"prompt": "a red circle above a blue square", "seed": 3}
WHOLE = ("generic", "generic_video")
"""Families for any pipeline: they have no shipped weights and no tiny ones."""
STEP_RULES = {"schedule-fits", "window-empty"}
"""Rules that refuse a strategy because of the number of steps only."""

ACTING: dict[str, tuple[tuple[str, ...], list[int] | None]] = {
    "fbcache": (("cache.residual_diff_threshold=1e9",), [1]),
    "wavespeed": (("cache.residual_diff_threshold=1e9",), None),
    "wavespeed_residual": (("cache.residual_diff_threshold=1e9",), None),
    "whole_reuse": ((), None),
    "dbcache": (("cache.residual_diff_threshold=1e9",), [1, 2, 3, 4]),
    "teacache": (("cache.rel_l1_thresh=1e9",), [1, 6]),
    "deepcache": ((), [1, 4]),
    "balanced": ((), [1, 4]),
    "max_speed": ((), [1, 6]),
    "max_quality": ((), [1, 3, 5]),
    "partial": ((), [1, 2, 3, 6]),
    "magcache": (("cache.threshold=1e9",), [1, 5]),
    "magcache_flux": (("cache.threshold=1e9", "cache.criterion.always_computed=[]"), [1]),
    "easycache": (("cache.threshold=1e9",), [1, 2, 6]),
    "seacache": (("cache.threshold=1e9",), [1, 4, 6]),
    "dicache": (("cache.threshold=1e9",), [1, 2, 6]),
    "taylorseer": ((), [1, 2, 3, 5]),
    "step_mask": (("cache.criterion.mask=110101",), [1, 2, 4, 6]),
    "lemica": (("cache.criterion.mask=110101",), [1, 2, 4, 6]),
    "planned": (("cache.computed=3",), None),
    "fitted": (("cache.computed=3",), None),
    "custom": (("cache.criterion.threshold=1e9",), [1]),
    "fastercache": ((), None),
    "pab": ((), None),
}
"""Shipped strategy -> overrides that make it reuse within six calls, and the steps that are then computed by its
published rule (with thresholds that always allow reuse, window, warm-up and limits decide). None: it depends on the
model."""

UNETS = {"sd", "sdxl"}
EVERY = [*families(), *WHOLE]
UNET_STRATEGIES = ("deepcache", "balanced", "max_speed", "max_quality", "partial", "whole_reuse")
ONE_CALL_A_BRANCH = {
    *("chroma", "lumina2", "qwen_image", "qwen_image_edit", "qwen_image_edit_plus"),
    *("hunyuan_video15", "hunyuan_video15_i2v", "wan", "wan_i2v", "wan22", "wan22_i2v", "wan22_5b"),
}
"""Families whose pipelines, with guidance, call the denoiser once for each guidance branch. FLUX and HunyuanVideo run
without guidance by default."""
REFUSED: dict[str, set[str]] = {
    **{strategy: set() for strategy in ACTING},
    **{strategy: set(families()) - UNETS for strategy in UNET_STRATEGIES},
    "teacache": UNETS,
    "pab": ONE_CALL_A_BRANCH | {"ltx2"},  # whose other kinds of guidance have calls of their own
    "fastercache": ONE_CALL_A_BRANCH
    | UNETS
    | {"hidream", "ltx2", "ltx_video", "pixart_sigma", "sana", "sd3", "z_image"},
}
"""Strategy -> families whose plan refuses it, besides those of `WHOLE`, to which no strategy can attach."""
RATIOS = {
    *("flux_kontext", "hunyuan_video", "hunyuan_video15_i2v", "qwen_image", "qwen_image_edit"),
    *("wan", "wan22", "wan22_5b", "wan22_i2v", "wan_i2v"),
}
PUBLISHED = {
    "teacache": {
        *("cogvideox", "cogvideox_i2v", "flux_kontext", "hidream", "hunyuan_video", "hunyuan_video15"),
        *("hunyuan_video15_i2v", "lumina2", "qwen_image", "wan", "wan_i2v", "wan22_5b"),
    },
    "magcache": RATIOS,
    "magcache_flux": RATIOS,
    "planned": set(),
    "fitted": set(),
}
"""Strategy that needs a calibration -> families whose model in these tests has published numbers."""
COUNTS = {
    **dict.fromkeys(ACTING, (2, 0, 30)),
    **dict.fromkeys(UNET_STRATEGIES, (30, 0, 2)),
    "teacache": (4, 16, 12),
    "magcache": (2, 20, 10),
    "magcache_flux": (2, 20, 10),
    "planned": (2, 30, 0),
    "fitted": (2, 30, 0),
    "pab": (15, 0, 17),
    "fastercache": (23, 0, 9),
}
"""Strategy -> number of families that refuse it, that need a calibration first, and that run it."""


def expect_outcome(family: str, strategy: str) -> str:
    """`refused`, `calibration` or `runs`."""
    if family in WHOLE or family in REFUSED[strategy]:
        return "refused"
    return "runs" if family in PUBLISHED.get(strategy, EVERY) else "calibration"


def choose_graph(name: str) -> str:
    """A graph for the family's first task."""
    if name in WHOLE:
        return "text_to_video" if name == "generic_video" else "text_to_image"
    _, family = families()[name]
    task = next(iter(family.tasks))
    return f"{task}_seen" if "image" in signature(family.encode).parameters else task


@lru_cache(maxsize=1)
def compose_configs() -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Composed configs: family -> that of one of its models, uncached; strategy -> its `cache` node as in `ACTING`.

    Shared by all tests: copy before changing.
    """
    shipped, graphs = compose_shipped()
    with composer(None):

        def compose(*overrides: str) -> dict[str, Any]:
            return compose_job(list(overrides), list(overrides))

        models = {name: compose(f"model={name}", "model.repo=a/b", "device=cpu") for name in WHOLE}
        strategies = {name: compose(f"cache={name}", *overrides)["cache"] for name, (overrides, _) in ACTING.items()}
    models |= {name: shipped[model] for name, (model, _) in families().items()}
    return {name: {**data, "graph": graphs[choose_graph(name)], **SAMPLE} for name, data in models.items()}, strategies


@lru_cache
def find_steps(family: str) -> int:
    """How many steps make `CALLS` calls of the denoiser."""
    config = resolve_config(compose_configs()[0][family])
    sampler = resolve_sampler(find_implementation("model", config.model), config.model, config.sampler)
    return next(steps for steps in range(1, CALLS + 1) if count_denoiser_calls(sampler, steps) == CALLS)


def build_config(family: str, cache: Any = None, folder: Path | None = None) -> dict[str, Any]:
    """A config as plain data, as `build_plan` takes it."""
    data = deepcopy(compose_configs()[0][family]) | {"steps": find_steps(family), "outputs": str(folder or "outputs")}
    return data | ({"cache": deepcopy(cache)} if cache else {})


def try_plan(data: dict[str, Any]) -> Plan | str:
    """A plan, or the reason why there is none."""
    try:
        return build_plan(data)
    except ConfigError as error:
        return str(error)


def needs_calibration(plan: Plan | str) -> bool:
    return isinstance(plan, str) and "needs a calibration" in plan
