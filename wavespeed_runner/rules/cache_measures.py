"""Rules on how other programs measure a cache's window, and on what they reuse."""

from __future__ import annotations

from ..caching.criteria.schedules import Interval, Spacing
from ..config.schema import Config, Rounding, Window
from ..models.family import Family, UNetBlocks
from .cache import get_name, is_cached, uses_engine
from .rule import Rule

WAVESPEED = {"wavespeed": "output", "wavespeed_residual": "residual"}
"""Presets of Comfy-WaveSpeed's node -> what they watch."""
WHOLE = "whole_reuse"

MEASURES: tuple[Rule, ...] = (
    Rule(
        id="window-end",
        verdict="bad",
        when=lambda c, f: is_cached(c) and c.cache.include_end and c.cache.window is not Window.steps,
        message="cache.include_end=true with cache.window={c.cache.window.value}: the end is inside that window anyway",
        fix="leave cache.include_end out",
    ),
    Rule(
        id="window-rounding",
        verdict="bad",
        when=lambda c, f: (
            is_cached(c) and c.cache.start_rounding is not Rounding.up and c.cache.window is not Window.steps
        ),
        message="cache.start_rounding={c.cache.start_rounding.value} with cache.window={c.cache.window.value}: that "
        "window begins at no number of steps, so nothing is rounded",
        fix="cache.start_rounding=up",
    ),
    Rule(
        id="interval-window",
        verdict="bad",
        when=lambda c, f: (
            isinstance(c.cache.criterion, Interval)
            and c.cache.criterion.spacing is Spacing.uniform
            and c.cache.window is not Window.steps
            and c.cache.start > 0
        ),
        message="cache.criterion.spacing=uniform with cache.window={c.cache.window.value}: intervals would be counted "
        "from a fraction of the steps, which is not where this window begins",
        fix="cache.criterion.spacing=in_window",
    ),
    Rule(
        id="whole-output",
        verdict="bad",
        when=lambda c, f: uses_engine(c) and c.cache.whole_output and bool(_explain_idle_output(c, f)),
        message=lambda c, f: f"{_name_whole_output(c)}: {_explain_idle_output(c, f)}, so it could not take effect",
        fix=lambda c, f: (
            "leave cache.depth out"
            if isinstance(f.blocks, UNetBlocks)
            else "another cache, such as cache=fbcache"
            if _name_whole_output(c).startswith("cache=")
            else "leave cache.whole_output out"
        ),
    ),
    Rule(
        id="wavespeed-signal",
        verdict="unverified",
        when=lambda c, f: (
            c.cache.title in WAVESPEED and get_name(c.cache.signal) != f"first_block_{WAVESPEED[_find_node_preset(c)]}"
        ),
        message=lambda c, f: (
            f"cache={c.cache.title}: with this model Comfy-WaveSpeed's node watches the first block's "
            f"{WAVESPEED[_find_node_preset(c)]}, and thresholds for one say nothing of the other"
        ),
        fix=lambda c, f: f"cache={_find_node_preset(c)}",
        source="https://github.com/chengzeyi/Comfy-WaveSpeed/blob/main/first_block_cache.py",
    ),
)


def _name_whole_output(c: Config) -> str:
    """What was typed to have whole outputs: the preset that is nothing else, or the key."""
    return f"cache={WHOLE}" if c.cache.title == WHOLE else "cache.whole_output=true"


def _explain_idle_output(c: Config, f: Family) -> str:
    """Why whole outputs cannot be reused; empty where they can."""
    if not isinstance(f.blocks, UNetBlocks):
        return "only U-Nets have it"
    return "" if c.cache.depth is None else "with cache.depth the layers' output is replaced anyway"


def _find_node_preset(c: Config) -> str:
    """The preset that is Comfy-WaveSpeed's node with a model: FLUX.1 has a rule of its own there."""
    return "wavespeed" if c.model.name in ("flux", "flux_fill", "flux_kontext") else "wavespeed_residual"
