"""What a judge is: a function (image, reference, prompt) -> number, and what a reader of the number has to know.

    from wavespeed_runner.judges import metric

    @metric("brightness", less_is_better=False, needs_reference=False)
    def judge_brightness(image, reference, prompt):
        "Mean brightness, 0 to 255."
        return float(image.mean())

In an installed plugin, `metrics.brightness` then chooses it. Images are uint8 arrays (height, width, 3), RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..registry import register

GROUP = "metric"
"""The kind under which the registry holds judges."""
OWN = ("mae", "mae_similarity", "ssim", "psnr", "forks")
"""Names that a record has already."""

Judge = Callable[[Any, Any, str], float | Sequence[float]]
"""(image, reference or None, prompt) -> value; of whole videos one value for each pair of frames."""


@dataclass(kw_only=True)
class NoOptions:
    """The options of a judge that has none."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A registered judge."""

    name: str
    less_is_better: bool
    needs_reference: bool
    """Compares with the reference. Otherwise it judges an image alone, and the reference too, to compare with."""
    of_videos: bool
    """Takes a whole video, uint8 (frames, height, width, 3). Otherwise videos are judged frame by frame."""
    smallest: int
    """Pixels that the shorter side of an image has at least."""
    make: Callable[[Any], Judge]
    """Options -> judge: loads what it needs, once in a run."""
    check: Callable[[Any, str], None]
    """(options, key) -> None. Raises `ConfigError` where a file or a package is missing; loads no torch."""
    try_files: Callable[[Any, str], None]
    """(options, key) -> None. Raises `ConfigError` for files that only the libraries can find unfit; asked before a run
    writes anything, not by a dry run."""
    check_prompt: Callable[[Any, str], str]
    """(options, prompt) -> why this prompt cannot be judged; empty: it can."""
    list_files: Callable[[Any], list[str]]
    """Files and folders whose content decides the value, as the options name them."""
    function: Callable[..., Any]
    """As it was registered."""


def metric(
    name: str,
    *,
    less_is_better: bool,
    needs_reference: bool,
    options: type = NoOptions,
    of_videos: bool = False,
    smallest: int = 1,
    **more: Callable[..., Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a decorator that registers a judge; with `options` the function takes those, and returns the judge.

    Args:
        name: what `metrics.NAME` and records call it.
        less_is_better: whether a smaller value is a better one.
        needs_reference: whether it compares with the reference, which is None otherwise.
        options: a kw_only dataclass, the keys below `metrics.NAME`.
        of_videos: whether it takes whole videos.
        smallest: least pixels of the shorter side.
        more: `check`, `try_files`, `check_prompt` and `list_files` of `Metric`.

    Raises:
        ValueError: another judge, or a metric of every record, has that name.
    """
    if name in OWN or not name.isidentifier():
        raise ValueError(f"metric {name}: a name is needed that is a word, and none of {', '.join(OWN)}")

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        usual = {"check": _accept, "try_files": _accept, "check_prompt": _accept_prompt, "list_files": _list_none}
        checks: dict[str, Any] = {**usual, **more}
        entry = Metric(
            name=name,
            less_is_better=less_is_better,
            needs_reference=needs_reference,
            of_videos=of_videos,
            smallest=smallest,
            make=function if options is not NoOptions else lambda _: function,
            function=function,
            **checks,
        )
        register(GROUP, name, options)(entry)
        return function

    return add


def _accept(options: Any, key: str) -> None:
    """Checks nothing."""


def _accept_prompt(options: Any, prompt: str) -> str:
    return ""


def _list_none(options: Any) -> list[str]:
    return []
