"""How much one command may ask for: counted before anything is made, so that a slip or a hostile file costs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep

from ..errors import ConfigError, Unfit
from .measure import find_reference_steps

MAX_STEPS = 1000
"""Denoising steps of one generation: models were trained on so many noise levels."""


@dataclass(kw_only=True)
class LimitsConfig:
    """Limits that only the command line can raise, as in `limits.jobs=50000`. They say nothing about the images."""

    jobs: int = 10_000
    """Jobs of a sweep."""
    images: int = 10_000
    """Images or videos of one job; planning so many takes a second."""
    sweep_images: int = 100_000
    """Images or videos of all jobs of a sweep together."""
    values: int = 10_000_000
    """Values in the configs of all jobs of a sweep together; some 400 in a job without lists of its own."""
    steps: int = 100_000_000
    """Denoising steps of all jobs together, with repeats."""
    pixels: int = 2**30
    """Width x height x frames of one image or video."""
    ranks: int = 8
    """Ranks of a run on a CPU, where each has a copy of the model in the same memory. On CUDA: as many as GPUs."""


RAISE = ", or raise it on the command line, "
"""How a message says which limit allows it. Programs and their users have no command line (`api/settings.py`)."""


def refuse_more(key: str, count: int, allowed: int, what: str) -> None:
    """Raises ConfigError if there is more of something than `limits.KEY` allows.

    Args:
        key: of `LimitsConfig`.
        count: how much there would be.
        allowed: the limit.
        what: for the message: what there would be that much of.
    """
    if count > allowed:
        # A number of thousands of digits would be the whole message.
        amount, raised = (str(count), f"limits.{key}={count}") if count < 10**18 else ("very many", f"limits.{key}=N")
        raise ConfigError(f"{what}: {amount}, and limits.{key}={allowed}; ask for less{RAISE}{raised}")


class Total:
    """What the jobs of a command come to, while they are planned one by one."""

    def __init__(self, jobs: int, *, equal: bool) -> None:
        """Begins with nothing.

        Args:
            jobs: their number.
            equal: each has as many images as the first.
        """
        self.jobs, self.equal = jobs, equal
        self.images = self.steps = 0

    def add(self, config: Any, images: int, composed: Any) -> None:
        """Adds a job.

        Args:
            config: its typed `Config`, of which this file knows a part.
            images: their number.
            composed: its config as plain data.

        Raises:
            ConfigError: with those before it, or as the first of as many jobs, it asks for too much.
        """
        limits, is_first = config.limits, not self.images
        if is_first and self.jobs > 1:  # composing and checking a job takes time by its values
            values = count_leaves(composed) * self.jobs
            refuse_more("values", values, limits.values, f"values in the configs of {self.jobs} jobs")
        self.images += images
        self.steps += count_steps(config, images // config.num_images_per_prompt)[1]
        if self.jobs > 1:
            if self.equal and is_first:
                refuse_more("sweep_images", images * self.jobs, limits.sweep_images, f"images of {self.jobs} jobs")
            refuse_more("sweep_images", self.images, limits.sweep_images, "images of the first jobs")
        refuse_more("steps", self.steps, limits.steps, "denoising steps of the first jobs")


def count_leaves(node: Any) -> int:
    """Counts the values of a config, at any depth."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else None
    return 1 if inner is None else sum(map(count_leaves, inner))


def count_values(override: Override) -> int:
    """Counts the values of an override, without listing them."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, RangeSweep):
        start, stop, step = (float(n) if isinstance(n, float) else n for n in (value.start, value.stop, value.step))
        if not step or start is None or stop is None:
            return 1  # Hydra says what is wrong
        try:
            return max(0, ceil((stop - start) / step))
        except (OverflowError, ValueError):
            return 10**30
    if isinstance(value, Glob) and override.config_loader:
        return len(value.filter(override.config_loader.get_group_options(override.key_or_group)))
    return 1


def refuse_too_many_jobs(overrides: Iterable[Override], points: int, limits: Any) -> None:
    """Refuses a sweep of too many jobs before Hydra lists them.

    Args:
        overrides: those that are swept over among them.
        points: number of `points`.
        limits: the composed node `limits`, plain data.

    Raises:
        ConfigError: says how many there would be.
    """
    allowed = limits.get("jobs") if isinstance(limits, dict) else None
    if isinstance(allowed, int):
        refuse_more("jobs", prod(map(count_values, overrides)) * points, allowed, "jobs of the sweep")


def count_steps(config: Any, prompts: int, *, warmed: bool = True) -> tuple[int, int]:
    """Counts the images of a run and their denoising steps, repeats and reference included.

    Args:
        config: the typed `Config` of the run, of which this file knows a part.
        prompts: their number.
        warmed: whether the warm-up counts, which a call from Python has not.
    """
    images = prompts * max(config.num_images_per_prompt, 1)
    own = _find_longest(config)
    reference = max(find_reference_steps(config) or own, 1) if config.measure.reference else 0
    repeats = max(config.measure.repeats, 1)
    warmup = max(config.measure.warmup, 0) if warmed else 0
    return images, (images * repeats + warmup) * (own + reference)


def _find_longest(config: Any) -> int:
    """The most steps of a generation: the run's own, or those that a stage has."""
    given = [stage.options for stage in config.graph.stages.values() if isinstance(stage.options, dict)]
    of_stages = [options["steps"] for options in given if isinstance(options.get("steps"), int)]
    return max(config.steps or 1, 1, *of_stages)


def check_limits(config: Any, prompts: int = 1, *, warmed: bool = True) -> None:
    """Refuses a run of too many images, steps or pixels; before anything is listed or computed for each of them.

    Args:
        config: the typed `Config` of the run, of which this file knows a part.
        prompts: their number, as far as it is known.
        warmed: as of `count_steps`.

    Raises:
        ConfigError: names the limit.
    """
    limits = config.limits
    images, all_steps = count_steps(config, prompts, warmed=warmed)
    refuse_more("images", images, limits.images, f"images of {prompts} x num_images_per_prompt")
    refuse_more("images", config.batch_size, limits.images, "batch_size")
    longest = max(_find_longest(config), find_reference_steps(config) or 0)
    if longest > MAX_STEPS:  # here, because the rules look at each step
        raise Unfit(f"steps={longest}: at most {MAX_STEPS} steps; a mistyped zero?")
    counted = "measure.repeats x steps, with measure.warmup and the reference" if warmed else "steps"
    refuse_more("steps", all_steps, limits.steps, f"denoising steps of {images} x {counted}")
    size = (config.width, config.height, config.num_frames)
    refuse_more("pixels", prod(max(n, 1) for n in size if n is not None), limits.pixels, "width x height x num_frames")
