"""Text for a console or a log of any encoding: steps drawn as a strip, lines without markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

ASCII = str.maketrans({"×": "x", "±": "+-", "■": "#", "□": "."})  # noqa: RUF001
"""For logs that are not UTF-8."""
LEGEND = "■ computed   □ cached"


def encode_for(console: Console, text: str) -> str:
    """Replaces what the console's encoding does not have, and control characters: a prompt may be a stranger's."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    if console.encoding.lower().startswith("utf"):
        return text
    return text.replace(" ·", ",").translate(ASCII).encode(console.encoding, "replace").decode(console.encoding)


def print_line(console: Console, text: str, *, style: str = "", before: bool = False, wrap: bool = False) -> None:
    """Prints text literally (no markup: prompts and paths have brackets), after an empty line if `before`."""
    from rich.text import Text

    if before:
        console.print()
    console.print(Text(encode_for(console, text), style=style), soft_wrap=not wrap)
