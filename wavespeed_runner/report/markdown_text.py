"""Tables and escaped text in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..errors import make_printable


def format_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; the cells are escaped already."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def escape(text: str) -> str:
    """Escapes text for Markdown and HTML: labels, prompts and reasons are untrusted."""
    escaped = make_printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # On GitHub @ mentions a user and # links an issue.
    special = r"[\\`*\[\]|~@#!]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])"
    return re.sub(special, lambda match: f"&#{ord(match[0])};", escaped)


def escape_span(text: str) -> str:
    """Escapes text between single backticks, which one of its own would end."""
    return make_printable(text).replace("`", "'")


def escape_code(text: str) -> str:
    """Escapes text for a fenced code block, which three backticks would end."""
    return make_printable(text).replace("```", "'''")
