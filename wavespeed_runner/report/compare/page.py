"""A comparison as one HTML file: it needs no network, no server and no script."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ... import __version__
from ..page.images import Album, album, still, within
from ..page.samples import samples_of
from ..rows import Row
from .build import Comparison, Match
from .text import MEANING

if TYPE_CHECKING:
    from jinja2 import Template

PROMPTS = 4
"""Images of each run on the page."""


def page(comparison: Comparison) -> str:
    """Renders the page."""
    count = sum(row is not None for match in comparison.matches for row in match.rows)
    pictures = album(count * (PROMPTS + 1))
    strips = [_list_images(match, pictures) for match in comparison.matches]
    return _template().render(
        comparison=comparison,
        matches=list(zip(comparison.matches, strips, strict=True)),
        images=pictures.uris,
        style=(files("wavespeed_runner.report.page") / "page.css").read_text(encoding="utf-8"),
        version=__version__,
        meaning=MEANING,
    )


def _list_images(match: Match, pictures: Album) -> list[dict[str, Any]]:
    """For each of a few prompts the places of the sides' images in the album; empty where prompts are not the same."""
    rows = [row for row in match.rows if row is not None]
    subjects = [[(sample.prompt, sample.seed) for sample in samples_of(row)] for row in rows]
    if not rows or any(one != subjects[0] for one in subjects):
        return []
    strips = []
    for place, (prompt, seed) in enumerate(subjects[0][:PROMPTS]):
        shown = [_add(pictures, row, place) if row is not None else None for row in match.rows]
        strips.append({"prompt": f"{' '.join(prompt.split())} (seed {seed})", "images": shown})
    return strips


def _add(pictures: Album, row: Row, place: int) -> dict[str, Any]:
    sample = samples_of(row)[place]
    ssim = sample.quality.ssim if sample.quality else None
    return {
        "at": pictures.add(within(row.folder, still(sample.file))),
        "ssim": None if ssim is None else f"SSIM {ssim:.4f}",
    }


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((files(__package__) / "page.html.j2").read_text(encoding="utf-8"))
