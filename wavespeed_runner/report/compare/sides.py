"""What the sides of a comparison are called on the page, and which of their settings tell most."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import make_printable
from .build import Match

Settings = list[tuple[str, list[str]]]
LONGEST = 40
"""Characters of a side's name."""


def split_settings(settings: Settings) -> tuple[Settings, Settings]:
    """What was chosen, and what follows from it: keys of options where the options are not the same.

    With `cache=fbcache` on one side and `cache=taylorseer` on another, `cache` tells both apart, and all other keys of
    `cache` are those that only one of them has, or defaults of theirs.
    """
    options = {key.removesuffix(".name") for key, _ in settings if key.endswith(".name")}

    def follows(key: str) -> bool:
        parts = key.removesuffix(".name").split(".")
        return any(".".join(parts[:count]) in options for count in range(1, len(parts)))

    chosen = [(key.removesuffix(".name"), values) for key, values in settings if not follows(key)]
    return chosen, [(key, values) for key, values in settings if follows(key)]


def name_sides(match: Match) -> list[str]:
    """A few words on each side: what tells them apart, by label, by hardware, or by the first setting that differs."""
    labels = [row.label if row else "" for row in match.rows]
    if _differ(labels):
        return list(map(_shorten, labels))
    settings = {key: values for key, values in match.settings if key != "images"}
    key = "hardware" if "hardware" in settings else next(iter(settings), "")
    if not key:
        return [""] * len(labels)
    prefix = "" if key == "hardware" or key.endswith(".name") else f"{key}="
    return [_shorten(f"{prefix}{value}") if value else "" for value in settings[key]]


def _differ(names: Sequence[str]) -> bool:
    known = [name for name in names if name]
    return len(known) > 1 and len(set(known)) == len(known)


def _shorten(text: str) -> str:
    text = make_printable(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"
