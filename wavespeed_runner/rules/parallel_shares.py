"""Rules on what ranks share beside the tokens of an image: the images of a run, and the tiles of the autoencoder."""

from __future__ import annotations

from typing import Any

from ..accelerate.memory import MemorySettings
from ..accelerate.parallel.options import DataOptions, find_layout
from ..accelerate.switches import SwitchSettings
from ..config.schema import Config
from ..registry import list_names, lookup
from .rule import Rule


def _shares_images(c: Config) -> bool:
    return isinstance(c.parallel, DataOptions)


def _find_own_parallel(c: Config) -> str:
    """The stage whose own `parallel` cannot be had beside the run's; empty if there is none."""
    for name, stage in c.graph.stages.items():
        options: Any = stage.options if isinstance(stage.options, dict) else {}
        own = options.get("parallel")
        if own is not None and (_shares_images(c) or (isinstance(own, dict) and own.get("name") == "data")):
            return name
    return ""


def _find_unstored(c: Config) -> str:
    """The stage whose output is not stored, and so nothing behind it; empty if there is none."""
    for name, given in c.graph.stages.items():
        if given.stage in list_names("stage"):
            stage = lookup("stage", given.stage).implementation
            if not stage.pure and stage.identity is None:
                return name
    return ""


def _shares_tiles(c: Config) -> bool:
    return bool(getattr(c.parallel, "vae", False)) and find_layout(c.parallel).ranks > 1


def _is_tiled(c: Config) -> bool:
    return isinstance(c.memory, MemorySettings) and c.memory.vae_tiling


def _is_tiny(c: Config) -> bool:
    return isinstance(c.accelerate, SwitchSettings) and c.accelerate.tiny_vae is not None


SHARES: tuple[Rule, ...] = (
    Rule(
        id="data-stage",
        verdict="bad",
        when=lambda c, f: bool(_find_own_parallel(c)),
        message=lambda c, f: (
            f"graph.stages.{_find_own_parallel(c)}.options.parallel: parallel=data is for a whole run, and beside it "
            "no stage has ranks of its own"
        ),
        fix="set parallel for the run alone",
    ),
    Rule(
        id="data-stored",
        verdict="bad",
        when=lambda c, f: _shares_images(c) and bool(_find_unstored(c)),
        message=lambda c, f: (
            f"parallel=data: ranks hand images on in the store, and what stage '{_find_unstored(c)}' gives is not "
            "stored, because it does not say what decides it"
        ),
        fix="parallel=none, or give the stage an identity",
        source="tests/rules/test_parallel_shares.py",
    ),
    Rule(
        id="tiles-data",
        verdict="bad",
        when=lambda c, f: _shares_tiles(c) and _shares_images(c),
        message="parallel.vae=true: with parallel=data each rank decodes images of its own",
        fix="leave it out, or use parallel=ulysses, ring, unified or cfg",
    ),
    Rule(
        id="tiles-of-one",
        verdict="bad",
        when=lambda c, f: bool(getattr(c.parallel, "vae", False)) and find_layout(c.parallel).ranks == 1,
        message="parallel.vae=true: there is one rank",
        fix="a degree of 2 or more, or parallel.vae=false",
    ),
    Rule(
        id="tiles-without-tiling",
        verdict="bad",
        when=lambda c, f: _shares_tiles(c) and not _shares_images(c) and not _is_tiled(c),
        message="parallel.vae=true: the autoencoder decodes the image as a whole, so there are no tiles to share",
        fix="memory.vae_tiling=true",
    ),
    Rule(
        id="tiles-tiny",
        verdict="bad",
        when=lambda c, f: _shares_tiles(c) and _is_tiny(c),
        message="parallel.vae=true: accelerate.tiny_vae decodes without tiles",
        fix="one of the two",
    ),
    Rule(
        id="tiles-model",
        verdict="bad",
        when=lambda c, f: _shares_tiles(c) and f.single_call,
        message="parallel.vae=true: model={c.model.name} decodes inside its own pipeline, whose tiles are not known",
        fix="parallel.vae=false",
    ),
)
