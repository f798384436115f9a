"""A comparison as one HTML file, which needs no network and no server."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from ..page.images import Album, album, still, within
from ..page.samples import samples_of
from ..page.static import render
from ..rows import Row
from .build import Comparison, Match
from .sides import name_sides, split_settings
from .text import MEANING

PROMPTS = 4
"""Images of each run on the page."""


def page(comparison: Comparison) -> str:
    """Renders the page."""
    count = sum(row is not None for match in comparison.matches for row in match.rows)
    embedded = album(count * 2 * PROMPTS)
    matches = []
    for match in comparison.matches:
        names = name_sides(match)
        matches.append((match, names, *split_settings(match.settings), _list_images(match, names, embedded)))
    return render(
        __package__,
        "page.html.j2",
        comparison=comparison,
        matches=matches,
        singles=matches[0][1] if len(matches) == 1 and not matches[0][0].label else [],
        images=embedded.uris,
        meaning=MEANING,
    )


def _list_images(match: Match, names: list[str], embedded: Album) -> list[dict[str, Any]]:
    """For each of a few prompts the sides' images after their references; empty where prompts are not the same."""
    rows = [row for row in match.rows if row is not None]
    subjects = [[(sample.prompt, sample.seed) for sample in samples_of(row)] for row in rows]
    if not rows or any(one != subjects[0] for one in subjects):
        return []
    sides = [(chr(ord("A") + place), row) for place, row in enumerate(match.rows) if row is not None]
    by_side = {chr(ord("A") + place): name for place, name in enumerate(names)}
    strips = []
    for place, (prompt, seed) in enumerate(subjects[0][:PROMPTS]):
        shown = [{"side": side, "name": by_side[side], **_add(embedded, row, place)} for side, row in sides]
        references = _list_references(embedded, sides, place)
        strips.append({"prompt": f"{' '.join(prompt.split())} (seed {seed})", "images": [*references, *shown]})
    return strips


def _list_references(embedded: Album, sides: list[tuple[str, Row]], place: int) -> list[dict[str, Any]]:
    """What the sides' images were compared with: each once."""
    found: dict[int, list[str]] = {}
    for side, row in sides:
        sample = samples_of(row)[place]
        file = within(row.folder, still(f"reference/{PurePosixPath(sample.file).name}")) if sample.quality else None
        if (at := embedded.add(file)) is not None:
            found.setdefault(at, []).append(side)
    return [
        {
            "side": "",
            "name": f"reference of {', '.join(own)}" if len(found) > 1 else "reference",
            "at": at,
            "ssim": None,
        }
        for at, own in found.items()
    ]


def _add(embedded: Album, row: Row, place: int) -> dict[str, Any]:
    sample = samples_of(row)[place]
    ssim = sample.quality.ssim if sample.quality else None
    return {
        "at": embedded.add(within(row.folder, still(sample.file))),
        "ssim": None if ssim is None else f"SSIM {ssim:.4f}",
    }
