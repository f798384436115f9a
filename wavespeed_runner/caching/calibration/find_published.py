"""Finds the published numbers that fit a run: TeaCache's polynomial, MagCache's ratios."""

from __future__ import annotations

from typing import Any

from ...config.schema import Config, Init
from ...errors import Unfit
from ...models.family import Blocks, Family, infer_task, starts_from_image
from ..criteria import published


def find_published(config: Config, family: Family, key: str) -> tuple[dict[str, Any], str] | None:
    """Published values for one key of a strategy, and where they come from; None if there are none for the weights.

    Runs with random weights (`model.init=tiny`) get them too: such runs exercise the code, and no numbers fit them.

    Args:
        config: of the run.
        family: the model's.
        key: `coefficients` or `ratios`; nothing else is published.
    """
    repo = config.model.repo
    note = "" if config.model.init is Init.pretrained else f"; model.init={config.model.init.value} has random weights"
    if key == "coefficients" and (
        row := _find_polynomial(repo, get_variant(config), _get_watched_input(config, family))
    ):
        values = {"coefficients": list(row.coefficients), "range": list(row.range)}
        return values, f"published for {row.made_for.weights or repo}, {row.source}{note}"
    if key == "ratios" and not skips_steps(config, family) and (found := _find_ratios(config)):
        values = {"ratios": list(found.ratios)}
        if found.ratios_uncond:
            values["ratios_uncond"] = list(found.ratios_uncond)
        return values, f"published for {repo}, {found.source}{note}"
    return None


def get_variant(config: Config) -> str | None:
    """Which variant of the published polynomial the user asked for; None: the default one."""
    return getattr(config.cache.signal, "variant", None)


def skips_steps(config: Config, family: Family) -> bool:
    """True if a stage runs only part of the schedule, from an image: published ratios are those of a whole one."""
    tasks = (
        infer_task(family.kind, stage.inputs) for stage in config.graph.stages.values() if stage.stage == "denoise"
    )
    return any(starts_from_image(family, task) for task in tasks)


def _find_ratios(config: Config) -> published.MagCacheRatios | None:
    """Of several rows for the weights, the one whose steps and size are nearest."""
    pixels = config.width * config.height if config.width and config.height else None
    return published.find_ratios(config.model.repo, config.steps, pixels)


def _find_polynomial(repo: str, variant: str | None, watched: str) -> published.TeaCachePolynomial | None:
    """The polynomial for what is watched here. If no variant is asked for, the default one comes before the others."""
    rows = [row for row in published.load_polynomials() if repo in row.repos and row.watched == watched]
    fitting = [row for row in rows if variant in (None, row.variant)]
    if variant is not None and not fitting:
        available = ", ".join(sorted({str(row.variant) for row in rows}))
        raise Unfit(
            f"cache.variant={variant}: no such polynomial of the {watched.replace('_', ' ')} is published for {repo}"
            + (f" (published: {available})" if available else "; use cache.variant=null and a calibration")
        )
    return min(fitting, key=lambda row: row.variant is not None, default=None)


def _get_watched_input(config: Config, family: Family) -> str:
    return name_watched(family, get_variant(config))


def name_watched(family: Family, variant: str | None) -> str:
    """Which of `published.WATCHED` the signal `modulated_input` is, for this family and variant.

    Told by the name of the family's function: one that watches something else is called `time_embedding`, and so on.
    """
    if not isinstance(family.blocks, Blocks):
        return "modulated_input"
    function = family.blocks.variants.get(variant or "", family.blocks.modulated_input)
    name = getattr(function, "__name__", "")
    return name if name in published.WATCHED else "modulated_input"
