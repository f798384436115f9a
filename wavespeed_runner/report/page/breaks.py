"""Where long names may go on in the next line: after the separators inside of them, not in the middle of a word."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...errors import hide_controls

if TYPE_CHECKING:
    from markupsafe import Markup

BREAKS = re.compile(r"([_=,/:]|\.(?=[A-Za-z_]))(?=\S)")
"""Separators after which a name may be broken; not the point of a number, and not `...`. As in `page.js`."""


def breakable(text: object) -> Markup:
    """Escapes and cleans text for a page, with places where it may be broken, which copying leaves out."""
    from markupsafe import Markup, escape

    parts = BREAKS.split(hide_controls(str(text)))
    return Markup().join(escape(part) + Markup("<wbr>") * (place % 2) for place, part in enumerate(parts))
