"""What the sides of a comparison are called on the page, and which of their settings tell most."""

from __future__ import annotations

from collections.abc import Iterator

from .build import Match, shorten, shorten_apart

Settings = list[tuple[str, list[str]]]
LONGEST = 40
"""Characters of one of the words of a side's name."""


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
    """A few words on each side: labels where they differ, then what tells sides of one label apart.

    That is the hardware, else settings in their order, else the prompts: `fbcache, a red circle`.
    """
    labels = [row.label if row else "" for row in match.rows]
    names = (
        [shorten(label, LONGEST) for label in labels]
        if len({label for label in labels if label}) > 1
        else [""] * len(labels)
    )
    for values in _list_distinctions(match.settings):
        names = _tell_apart(names, values, [row is not None for row in match.rows])
    return names


def _tell_apart(names: list[str], values: list[str], present: list[bool]) -> list[str]:
    """Adds the values to the names that several sides have and that the values split; the others stay as they are."""

    def find_values(name: str) -> set[str]:
        return {value for other, value, there in zip(names, values, present, strict=True) if there and other == name}

    return [
        ", ".join(filter(None, [name, value])) if there and len(find_values(name)) > 1 else name
        for name, value, there in zip(names, values, present, strict=True)
    ]


def _list_distinctions(settings: Settings) -> Iterator[list[str]]:
    """What may tell sides apart, in the order in which it is told: a value for each side, empty where it has none."""
    known = dict(settings)
    images = known.pop("images", None)
    chosen, filled = split_settings([(key, values) for key, values in known.items() if key != "hardware"])
    if "hardware" in known:
        yield [shorten(value, LONGEST) for value in known["hardware"]]
    for key, values in chosen:
        prefix = "" if f"{key}.name" in known else f"{key}="
        yield [shorten(f"{prefix}{value}", LONGEST) if value else "" for value in values]
    if images:
        yield shorten_apart([value.partition(" prompts: ")[2] or value for value in images], LONGEST)
    for key, values in filled:
        yield [shorten(f"{key}={value}", LONGEST) if value else "" for value in values]
