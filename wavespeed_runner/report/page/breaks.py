"""Where long names may go on in the next line: after the separators inside of them, not in the middle of a word."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...errors import hide_controls

if TYPE_CHECKING:
    from markupsafe import Markup

BREAKS = re.compile(r"([_=,/:]|\.(?=[A-Za-z_]))(?=\S)")
"""Separators after which a name may be broken; not the point of a number, and not `...`. As in `page.js`."""

CAN_BREAK = re.compile(f"-|{BREAKS.pattern}")
"""What a word has that may be broken: browsers do so after hyphens."""


def breakable(text: object) -> Markup:
    """Escapes and cleans text for a page, with places where it may be broken, which copying leaves out."""
    from markupsafe import Markup, escape

    parts = BREAKS.split(hide_controls(str(text)))
    return Markup().join(escape(part) + Markup("<wbr>") * (place % 2) for place, part in enumerate(parts))


def by_words(text: object) -> Markup:
    """As `breakable`, but a word goes on in the next line only where a whole line is too short for it.

    For sentences and commands in narrow windows: `sampler=fitted` stays together, and so does `--config-dir`, which a
    browser would break after its hyphens. What is copied is the text alone.
    """
    from markupsafe import Markup

    parts = re.split(r"(\s+)", hide_controls(str(text)))
    return Markup().join(
        Markup('<span class="word">{}</span>').format(breakable(part)) if CAN_BREAK.search(part) else breakable(part)
        for part in parts
    )
