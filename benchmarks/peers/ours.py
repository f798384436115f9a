"""Settings of this project's engine: strategies as they are shipped, composed as a user composes them.

Numbers that belong to a model come from its calibration: of the demo models the shipped one (prompts that are not
judged here), of the tiny FLUX one that is made on the spot from the first calibration prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

from .models import Model
from .prompts import calibration
from .settings import Setting

THRESHOLDS = (0.04, 0.06, 0.08, 0.12, 0.15, 0.20, 0.30, 0.50)
TAKEN = 8
"""Calibration prompts for the tiny FLUX; as many as `python -m wavespeed_runner calibrate` takes."""


def ours(model: Model) -> list[Setting]:
    """What is chosen on calibration runs, what tests a threshold, and schedules; with reuse and with prediction."""
    found = [setting("planned", f"planned, {n} computed", *planned(n)) for n in range(3, model.steps)]
    for n in range(4, 15):
        found.append(
            setting("planned, order 2", f"planned, {n} computed, order 2", *planned(n), "cache.predictor.order=2")
        )
    for fill in ("reuse", "taylor", "fitted"):
        for t in THRESHOLDS:
            own = ("fbcache", f"cache/predictor={fill}", f"cache.residual_diff_threshold={t}")
            found.append(setting(f"First Block Cache, {fill}", f"First Block Cache {t:g} {fill}", *own))
    for n in (3, 4, 5, 6):
        spaced = "cache.criterion.spacing=since_computed"  # not where diffusers' TaylorSeer computes
        own = ("taylorseer", f"cache.interval={n}", spaced, "cache/predictor=fitted")
        found.append(setting("every N-th step, fitted", f"every {n}th step fitted", *own))
    for name in ("easycache", "seacache", "dicache"):
        for t in (0.05, 0.1, 0.2):
            found.append(setting(name, f"{name} {t:g}", name, f"cache.threshold={t}"))
    for t in (0.06, 0.24):
        found.append(setting("MagCache, fitted", f"MagCache {t:g} fitted", "magcache", f"cache.threshold={t}", FITTED))
    if model.family.denoiser == "unet":
        for depth in range(5):
            for n in (2, 3, 5):
                own = ("deepcache", f"cache.interval={n}", f"cache.depth={depth}")
                found.append(setting("DeepCache", f"DeepCache interval {n} depth {depth}", *own))
                taylor = (*own, "cache/predictor=taylor")
                found.append(setting("DeepCache, Taylor-1", f"DeepCache interval {n} depth {depth} Taylor-1", *taylor))
    return found


FITTED = "cache/predictor=fitted"


def planned(computed: int) -> tuple[str, str]:
    """So many steps computed, chosen on the calibration's prompts."""
    return "planned", f"cache.computed={computed}"


def setting(group: str, name: str, cache: str, *overrides: str) -> Setting:
    return Setting(
        name=f"ours: {name}",
        group=f"ours: {group}",
        by="ours",
        on=engine,
        parameters={"overrides": [f"cache={cache}", *overrides]},
    )


@contextmanager
def engine(pipe: Any, model: Model, *, overrides: list[str]) -> Iterator[None]:
    """The strategy on the pipeline, its state fresh for every call."""
    with each_call(pipe, model, strategy(model, *overrides), None):
        yield


@contextmanager
def each_call(pipe: Any, model: Model, cache: Any, observer: Any) -> Iterator[None]:
    """A strategy attached for each call of the pipeline, as the denoising stage does it."""
    from wavespeed_runner.caching import attach_strategy
    from wavespeed_runner.models.family import CallInputs
    from wavespeed_runner.models.pipeline_call import watch_steps
    from wavespeed_runner.stages.attached import build_generation_info

    size = {"width": model.config.width, "height": model.config.height}
    run = build_generation_info(
        pipe, model.family, CallInputs(steps=model.steps, guidance_scale=None, generator=None, **size), 1
    )
    plain = type(pipe).__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with (
            attach_strategy([model.denoiser(self)], model.family.blocks, cache, run, observer=observer) as trace,
            watch_steps(self.scheduler, kwargs["generator"], trace.end_step),
        ):
            return plain(self, *args, **kwargs)

    type(pipe).__call__ = call
    try:
        yield
    finally:
        type(pipe).__call__ = plain


def strategy(model: Model, *overrides: str) -> Any:
    """The strategy that these overrides compose, with its numbers filled in."""
    from wavespeed_runner.caching.calibration.resolve import resolve_cache_numbers
    from wavespeed_runner.config.compose import compose_job, composer
    from wavespeed_runner.config.resolve import resolve_config

    shipped = model.name != "tiny_flux"
    own = [f"model={model.name if shipped else 'demo'}", "device=cpu", *overrides]
    with composer(None):
        config = resolve_config(compose_job(own, own))
    return resolve_cache_numbers(config, model.family)[0].cache if shipped else with_numbers(model, config.cache)


def with_numbers(model: Model, cache: Any) -> Any:
    """What `resolve_cache_numbers` does, with numbers from a calibration that is in no file."""
    from wavespeed_runner.caching.calibration.best_schedule import find_best_schedule
    from wavespeed_runner.caching.window import count_head_blocks

    found = recorded(model)
    if cache.predictor.name == "fitted":
        cache = replace(cache, predictor=replace(cache.predictor, gram=found.gram[count_head_blocks(cache)]))
    if cache.criterion.name == "planned":
        count, first = cache.criterion.computed, cache.criterion.first
        own = {name: getattr(cache.predictor, name) for name in ("history", "ridge", "order")}
        steps = find_best_schedule(found.gram[0], count, first=first, **own)
        cache = replace(cache, criterion=replace(cache.criterion, schedule=[step + 1 for step in steps]))
    if cache.criterion.name == "magnitude_ratio":
        cache = replace(cache, criterion=replace(cache.criterion, ratios=found.ratios))
    return cache


@lru_cache(maxsize=1)
def recorded(model: Model) -> Any:
    """A calibration, by the code of `python -m wavespeed_runner calibrate`."""
    from wavespeed_runner.caching.calibration.build import build_calibration, summarize_recording
    from wavespeed_runner.caching.calibration.recorder import Recorder, build_recording_cache

    numbers = []
    for prompt in calibration()[:TAKEN]:
        pipe, recorder = model.fresh(), Recorder()
        with each_call(pipe, model, build_recording_cache(), recorder):
            model.latents(pipe, prompt, model.encode(prompt), model.steps)
        numbers += summarize_recording(recorder)
    return build_calibration({}, {}, numbers)
