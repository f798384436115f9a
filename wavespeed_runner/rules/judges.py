"""Rules on the config group `metrics`: which judges a run has something for."""

from __future__ import annotations

from collections.abc import Callable

from ..config.schema import Config
from ..judges.chosen import Chosen, list_chosen
from ..judges.scene_words import SIDE
from ..models.family import Family
from .rule import Rule

TESTS = "tests/judges/test_judging.py"


def _find(c: Config, matches: Callable[[Chosen], bool]) -> str:
    """The key of the first judge that matches; empty: none does."""
    return next((chosen.key for chosen in list_chosen(c) if matches(chosen)), "")


def _find_comparing(c: Config) -> str:
    return "" if c.measure.reference else _find(c, lambda chosen: chosen.metric.needs_reference)


def _find_of_videos(c: Config) -> str:
    return _find(c, lambda chosen: chosen.metric.of_videos)


def _find_too_small(c: Config) -> str:
    side = min(c.width or 0, c.height or 0)
    return _find(c, lambda chosen: side < chosen.metric.smallest)


def _is_no_scene(c: Config) -> bool:
    return "scene" in c.metrics and not _find_too_small(c) and (c.width != c.height or (c.width or 0) % SIDE != 0)


def _say_too_small(c: Config, f: Family) -> str:
    key = _find_too_small(c)
    least = next(chosen.metric.smallest for chosen in list_chosen(c) if chosen.key == key)
    return f"{key}: it needs images of at least {least} x {least} pixels, and these are {c.width} x {c.height}"


JUDGING: tuple[Rule, ...] = (
    Rule(
        id="metrics-reference",
        verdict="bad",
        when=lambda c, f: bool(_find_comparing(c)),
        message=lambda c, f: f"{_find_comparing(c)}: it compares with the reference, and measure.reference=false",
        fix="measure.reference=true, or leave it out",
        source=TESTS,
    ),
    Rule(
        id="metrics-videos",
        verdict="bad",
        when=lambda c, f: bool(_find_of_videos(c)) and (f.kind != "video" or (c.num_frames or 0) < 2),
        message=lambda c, f: f"{_find_of_videos(c)}: it judges a video of two frames or more, and this run makes none",
        fix="leave it out, or a model of videos with num_frames=N",
        source=TESTS,
    ),
    Rule(
        id="metrics-size",
        verdict="bad",
        when=lambda c, f: bool(_find_too_small(c)),
        message=_say_too_small,
        fix="larger images, or leave it out",
        source=TESTS,
    ),
    Rule(
        id="scene-size",
        verdict="bad",
        when=lambda c, f: _is_no_scene(c),
        message=f"metrics.scene: it reads squares of {SIDE} pixels a side, or of a multiple, and these images are "
        "{c.width} x {c.height}",
        fix=f"width={SIDE} height={SIDE}, or leave it out",
        source="tests/judges/test_scene.py",
    ),
)
